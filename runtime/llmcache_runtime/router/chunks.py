"""Chunks of HTTP/1.1 bodies (RFC 9112 section 7.1) that need no parser."""


def is_one_event(data: bytes) -> bool:
    """Whether bytes that begin at the beginning of a chunk are exactly one, written as uvicorn, h11 and vLLM do.

    Its end is also that of an event (SSE). Its size is in lower-case hexadecimal digits without zeros in front, with no
    extension, and it is not the last chunk. A server that writes an event at a time sends nearly nothing else. The
    parser's state after such a chunk is that before it, so it need not see it.
    """
    size = len(data) - data.find(b"\r\n") - 4
    return size > 0 and data.endswith(b"\n\n\r\n") and data.startswith(b"%x\r\n" % size)
