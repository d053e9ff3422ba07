"""What is open to clients: vLLM's inference paths. All else answers 404, unless it was opened by name.

Source: the routers under `vllm/entrypoints/` of vLLM 0.32; its README says that they must not be open to the public.
"""

from collections.abc import Set as AbstractSet
from enum import Enum, auto

from llmcache_runtime.router.errors import RouterError

POSTS = frozenset(
    {
        "/v1/chat/completions",
        "/v1/completions",
        "/v1/responses",
        "/v1/messages",
        "/v1/messages/count_tokens",
        "/v1/embeddings",
        "/v1/rerank",
        "/v2/rerank",
        "/rerank",
        "/v1/score",
        "/score",
        "/classify",
        "/pooling",
        "/tokenize",
        "/detokenize",
        "/v1/audio/transcriptions",
        "/v1/audio/translations",
    }
)
GETS = frozenset({"/version"})
MODELS = "/v1/models"
HEALTH = "/health"


class Route(Enum):
    """What is done with a request."""

    FORWARD = auto()
    MODELS = auto()
    HEALTH = auto()
    CLOSED = auto()  # 404
    WRONG_METHOD = auto()  # 405


def route(method: str, path: str, opened: AbstractSet[str] = frozenset()) -> Route:
    """Decide by method and path; the path is compared as it is sent, so no encoding of it opens another.

    `opened` are further paths of the engine, for any method.
    """
    if path in POSTS:
        return Route.FORWARD if method in {"POST", "OPTIONS"} else Route.WRONG_METHOD
    if path in GETS:
        return Route.FORWARD if method == "GET" else Route.WRONG_METHOD
    if path == MODELS:
        return Route.MODELS if method == "GET" else Route.WRONG_METHOD
    if path == HEALTH:
        return Route.HEALTH if method == "GET" else Route.WRONG_METHOD
    return Route.FORWARD if path in opened else Route.CLOSED


def open_route(method: str, path: str, opened: AbstractSet[str]) -> Route:
    """Decide likewise. Raises RouterError where the answer is no."""
    chosen = route(method, path, opened)
    if chosen is Route.CLOSED:
        raise RouterError(404, "not_found", "there is no such path, or it is closed to clients")
    if chosen is Route.WRONG_METHOD:
        raise RouterError(405, "method_not_allowed", f"{method} is not allowed here")
    return chosen


def path_label(path: str) -> str:
    """Bound the values of the path label."""
    return path if path in POSTS or path in GETS or path in {MODELS, HEALTH} else "other"
