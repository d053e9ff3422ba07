"""Heads of requests and responses: what is passed on, what is dropped, what is added."""

from collections.abc import Set as AbstractSet
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

_WRITTEN_ANEW = HOP_BY_HOP | {b"host", b"content-length", b"expect", b"x-request-id", b"traceparent"}
_ADDED = HOP_BY_HOP | {b"x-request-id", b"x-llmcache-engine", b"x-llmcache-tiers"}
_STATUS_LINES = {status.value: b"HTTP/1.1 %d %b\r\n" % (status, status.phrase.encode()) for status in HTTPStatus}


def request_head(request: Request, host: bytes, trace_id: bytes) -> bytes:
    """Write the head of a request anew for an engine: one Host, one length, no hop-by-hop header."""
    method, parent = request.method.encode(), trace_parent(request.fields.get(b"traceparent"))
    dropped = _with_nominated(_WRITTEN_ANEW, request.headers) if b"connection" in request.fields else _WRITTEN_ANEW
    if b"tracestate" in request.fields and parent != request.fields.get(b"traceparent"):
        dropped = dropped | {b"tracestate"}  # it belongs to a context that could not be read
    passed = b"".join([b"%b: %b\r\n" % header for header in request.headers if header[0] not in dropped])
    head = b"%b %b HTTP/1.1\r\nhost: %b\r\n%bcontent-length: %d\r\nx-request-id: %b\r\ntraceparent: %b\r\n\r\n"
    return head % (method, request.target, host, passed, len(request.body), trace_id, parent)


def response_head(status: int, headers: Headers, extra: Headers) -> bytes:
    """Write the head of a response: `headers` less the hop-by-hop ones and those that the router sets, then `extra`."""
    line = _STATUS_LINES.get(status) or b"HTTP/1.1 %d Unknown\r\n" % status
    dropped = _with_nominated(_ADDED, headers)
    lines = [b"%b: %b\r\n" % header for header in headers if header[0] not in dropped]
    lines += [b"%b: %b\r\n" % header for header in extra]
    return b"%b%b\r\n" % (line, b"".join(lines))


def _with_nominated(names: AbstractSet[bytes], headers: Headers) -> AbstractSet[bytes]:
    """Add what Connection headers name: it is for this connection only."""
    for name, value in headers:
        if name == b"connection":
            names = names | {token.strip().lower() for token in value.split(b",")}
    return names
