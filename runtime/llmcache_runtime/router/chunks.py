"""Chunks of HTTP/1.1 bodies (RFC 9112 section 7.1) that need no parser."""

_LONGEST = 4096
_NEVER = b"-"


def _head(length: int) -> bytes:
    """Return how a chunk begins that has so many bytes in all: two line ends, its size in digits, and what it holds."""
    for digits in range(1, 5):
        if len(head := b"%x\r\n" % max(0, length - digits - 4)) == digits + 2:
            return head if length > digits + 4 else _NEVER
    return _NEVER


_HEADS = [_head(length) for length in range(_LONGEST)]


def is_one_event(data: bytes) -> bool:
    """Whether bytes that begin at the beginning of a chunk are exactly one, written as uvicorn, h11 and vLLM do.

    Its end is also that of an event (SSE). Its size is in lower-case hexadecimal digits without zeros in front, with no
    extension, and it is not the last chunk. A server that writes an event at a time sends nearly nothing else, so this
    is asked for each token, and a table spares it reading the size. The parser's state after such a chunk is that
    before it, so it need not see it.
    """
    length = len(data)
    return length < _LONGEST and data.startswith(_HEADS[length]) and data.endswith(b"\n\n\r\n")
