"""Messages of ext_proc: what is read of a gateway's, and the answers; no I/O.

Source: envoy/service/ext_proc/v3/external_processor.proto of Envoy 1.40, and for names
of headers and metadata the endpoint picker protocol of the Gateway API Inference Extension.
"""

from collections.abc import Iterator
from typing import Any

from envoy.service.ext_proc.v3.external_processor_pb2 import ProcessingRequest, ProcessingResponse

from llmcache_runtime.router.errors import RouterError, error_body
from llmcache_runtime.router.http1 import Headers

DESTINATION = "x-gateway-destination-endpoint"
SERVED = "x-gateway-destination-endpoint-served"
SUBSET = "x-gateway-destination-endpoint-subset"
_NAMESPACE = "envoy.lb"
_SUBSET_NAMESPACE = "envoy.lb.subset_hint"

_PIECE = 60 * 1024
"""Bytes of a body in one message: the extension's own picker stays below 64 KiB, which some gateways insist on."""

_TOO_MANY = 429


def header_fields(message: Any) -> dict[bytes, bytes]:
    """Read the headers of a request or response, the pseudo-headers among them; of equal ones the last."""
    return {header.key.encode(): header.raw_value or header.value.encode() for header in message.headers.headers}


def subset(request: ProcessingRequest) -> frozenset[bytes] | None:
    """Read to which endpoints (ip:port) the gateway limits the choice; None where it doesn't."""
    entry = _metadata(request, _SUBSET_NAMESPACE, SUBSET)
    if entry is None:
        return None
    items = [item.string_value for item in entry.list_value.values] or entry.string_value.split(",")
    return frozenset(item.strip().encode() for item in items if item.strip())


def served(request: ProcessingRequest) -> bytes | None:
    """Read which endpoint (ip:port) answered, where the gateway tells: as metadata, or as Envoy's attribute."""
    entry = _metadata(request, _NAMESPACE, SERVED)
    if entry is not None:
        return bytes(entry.string_value.encode()) or None
    for attributes in request.attributes.values():
        if "upstream.address" in attributes.fields:
            return bytes(attributes.fields["upstream.address"].string_value.encode()) or None
    return None


def _metadata(request: ProcessingRequest, namespace: str, key: str) -> Any:
    spaces = request.metadata_context.filter_metadata
    return spaces[namespace].fields[key] if namespace in spaces and key in spaces[namespace].fields else None


def go_on(kind: str) -> ProcessingResponse:
    """Let a part of a request or response pass as it is; `kind` is the name of its message."""
    answer = ProcessingResponse()
    getattr(answer, kind).SetInParent()
    return answer


def to_endpoints(kind: str, endpoints: bytes) -> ProcessingResponse:
    """Send a request to endpoints, ip:port,ip:port in order, which are told as header and as metadata."""
    answer = ProcessingResponse()
    _set(getattr(answer, kind).response.header_mutation, DESTINATION, endpoints)
    answer.dynamic_metadata.update({_NAMESPACE: {DESTINATION: endpoints.decode()}})
    return answer


def with_headers(headers: Headers) -> ProcessingResponse:
    """Let the headers of a response pass, with more of them."""
    answer = go_on("response_headers")
    for name, value in headers:
        _set(answer.response_headers.response.header_mutation, name.decode(), value)
    return answer


def pieces(kind: str, body: bytes, *, end: bool) -> Iterator[ProcessingResponse]:
    """Hand a body back to a gateway that streams it both ways, in pieces; `end` is on the last one."""
    for start in range(0, max(1, len(body)), _PIECE):
        answer = ProcessingResponse()
        streamed = getattr(answer, kind).response.body_mutation.streamed_response
        streamed.body = body[start : start + _PIECE]
        streamed.end_of_stream = end and start + _PIECE >= len(body)
        yield answer


def refusal(error: RouterError) -> ProcessingResponse:
    """Answer a request at once; the protocol asks for 429 where engines are too busy."""
    status = _TOO_MANY if error.code == "saturated" else error.status
    answer = ProcessingResponse()
    answer.immediate_response.status.code = status
    answer.immediate_response.body = error_body(status, error.code, error.message)
    answer.immediate_response.details = f"llmcache_{error.code}"
    _set(answer.immediate_response.headers, "content-type", b"application/json")
    if error.retry_after is not None:
        _set(answer.immediate_response.headers, "retry-after", b"%d" % error.retry_after)
    return answer


def _set(mutation: Any, name: str, value: bytes) -> None:
    option = mutation.set_headers.add()
    option.append_action = option.OVERWRITE_IF_EXISTS_OR_ADD
    option.header.key = name
    option.header.raw_value = value
