"""Heads of requests and responses: what is passed on, what is dropped, what is added."""

from http import HTTPStatus

from llmcache_runtime.router.http1 import Headers, Request
from llmcache_runtime.router.tracing import trace_parent

HOP_BY_HOP = frozenset(
    {
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    }
)
"""RFC 9110 section 7.6.1, and the two old Proxy-* ones."""

_REWRITTEN = frozenset({b"host", b"content-length", b"expect", b"x-request-id", b"traceparent"})
_REASONS = {status.value: status.phrase.encode() for status in HTTPStatus}


def request_head(request: Request, host: bytes, trace_id: bytes) -> bytes:
    """Write the head of a request anew for an engine: one Host, one length, no hop-by-hop header."""
    dropped = _dropped(request.headers) if b"connection" in request.fields else HOP_BY_HOP
    lines = [b"%b %b HTTP/1.1\r\nhost: %b\r\n" % (request.method.encode(), request.target, host)]
    for name, value in request.headers:
        if name not in dropped and name not in _REWRITTEN:
            lines += (name, b": ", value, b"\r\n")
    parent = trace_parent(request.fields.get(b"traceparent"))
    tail = b"content-length: %d\r\nx-request-id: %b\r\ntraceparent: %b\r\n\r\n"
    lines.append(tail % (len(request.body), trace_id, parent))
    return b"".join(lines)


def response_head(status: int, headers: Headers, extra: Headers) -> bytes:
    """Write the head of a response: `headers` less the hop-by-hop ones, then `extra`."""
    dropped = _dropped(headers)
    added = {name for name, _ in extra}
    lines = [b"HTTP/1.1 %d %b\r\n" % (status, _REASONS.get(status, b"Unknown"))]
    for name, value in headers:
        if name not in dropped and name not in added:
            lines += (name, b": ", value, b"\r\n")
    for name, value in extra:
        lines += (name, b": ", value, b"\r\n")
    lines.append(b"\r\n")
    return b"".join(lines)


def _dropped(headers: Headers) -> frozenset[bytes]:
    """Name the headers of this connection only: the fixed ones, and those that Connection headers name."""
    nominated = [value for name, value in headers if name == b"connection"]
    return HOP_BY_HOP.union(token.strip().lower() for value in nominated for token in value.split(b","))
