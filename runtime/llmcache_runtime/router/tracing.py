"""Request ids and W3C trace context (https://www.w3.org/TR/trace-context/): passed on, or made where absent."""

import random
import re

# Ids need to be unique, not secret.
_bits = random.Random(random.SystemRandom().getrandbits(128)).getrandbits  # noqa: S311
_TRACE_PARENT = re.compile(rb"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")
_REQUEST_ID = re.compile(rb"[\x21-\x7e]{1,128}")


def request_id(sent: bytes | None) -> bytes:
    """Give the id that the client sent, or a new one if there is none that can be logged."""
    if sent is not None and _REQUEST_ID.fullmatch(sent):
        return sent
    return b"%032x" % _bits(128)


def trace_parent(sent: bytes | None) -> bytes:
    """Give the trace context that the client sent, or start one, not sampled: the router records no spans."""
    if sent is not None and _TRACE_PARENT.fullmatch(sent):
        return sent
    return b"00-%032x-%016x-00" % (_bits(128) or 1, _bits(64) or 1)
