"""What can go wrong between the operator and the API server, sorted by what to do about it."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from llmcache_operator.core.values import Json

RETRY_CODES = frozenset({0, 401, 408, 409, 425, 429})


class RetryLaterError(Exception):
    """Work that is worth trying again, unchanged, after a while.

    `after` is the least wait in seconds that whoever refused asked for; 0.0 leaves it to the queue.
    """

    def __init__(self, message: str, *, after: float = 0.0) -> None:
        super().__init__(message)
        self.after = after


class ApiError(Exception):
    """An answer of the API server that is not 2xx, or no answer at all.

    `code` is the HTTP status, 0 without an answer, when nobody knows whether the request took effect;
    `reason`, `message` and `details` are those of the `Status` object
    (https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/status/);
    `retry_after` is in seconds, 0.0 where the server asked for nothing.
    """

    def __init__(
        self, code: int, reason: str, message: str, *, details: Json | None = None, retry_after: float = 0.0
    ) -> None:
        super().__init__(f"{code} {reason}: {message}" if code else f"{reason}: {message}")
        self.code = code
        self.reason = reason
        self.message = message
        self.details = details or {}
        self.retry_after = max(retry_after, float(self.details.get("retryAfterSeconds") or 0))

    @classmethod
    def from_status(cls, code: int, status: Any, retry_after: float) -> ApiError:
        """Read a `Status` object; proxies in between may answer with anything else, even nothing."""
        if not isinstance(status, dict):
            message = f"the API server answered {code} without a Status object"
            return cls(code, _phrase(code), message, retry_after=retry_after)
        reason = status.get("reason") or _phrase(code)
        message = status.get("message") or reason
        return cls(code, reason, message, details=status.get("details"), retry_after=retry_after)

    @property
    def hits_all(self) -> bool:
        """The next request would fare no better: nobody answers, knows the caller, or has room."""
        return self.code in {0, 401, 429, 503}

    @property
    def transient(self) -> bool:
        """The same request may well succeed later without anybody changing anything."""
        return self.code in RETRY_CODES or self.code >= HTTPStatus.INTERNAL_SERVER_ERROR

    @property
    def namespace_gone(self) -> bool:
        """Nothing can be created any more: the namespace is being deleted, and its content with it.

        Source: k8s.io/apiserver/pkg/admission/plugin/namespace/lifecycle/admission.go.
        """
        if self.code == HTTPStatus.NOT_FOUND:
            return self.details.get("kind") == "namespaces"
        causes = {cause.get("reason") for cause in self.details.get("causes") or ()}
        return self.code == HTTPStatus.FORBIDDEN and "NamespaceTerminating" in causes


def _phrase(code: int) -> str:
    try:
        return HTTPStatus(code).phrase.replace(" ", "")
    except ValueError:
        return "Unknown"
