"""Errors as OpenAI clients expect them: https://platform.openai.com/docs/guides/error-codes, vLLM's ErrorResponse."""

import msgspec

_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    404: "not_found_error",
    405: "invalid_request_error",
    408: "invalid_request_error",
    413: "invalid_request_error",
    417: "invalid_request_error",
    431: "invalid_request_error",
    503: "overloaded_error",
}


class RouterError(Exception):
    """An answer that the router gives itself. `code` is stable, for programs; `retry_after` is in seconds."""

    def __init__(self, status: int, code: str, message: str, *, retry_after: int | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.retry_after = retry_after


def error_body(status: int, code: str, message: str) -> bytes:
    """Render the JSON body of an error."""
    error = {"message": message, "type": _TYPES.get(status, "server_error"), "param": None, "code": code}
    return msgspec.json.encode({"error": error})


def error_event(code: str, message: str) -> bytes:
    """Render an error as the last event of a stream."""
    return b"data: " + error_body(502, code, message) + b"\n\n"
