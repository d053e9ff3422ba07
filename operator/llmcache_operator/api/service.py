"""The custom resource as a whole."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from llmcache_operator.api.fields import Model, rule, rules
from llmcache_operator.api.spec import ServiceSpec
from llmcache_operator.api.status import ServiceStatus

GROUP = "llmcache.dev"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"
KIND = "LLMCacheService"
PLURAL = "llmcacheservices"
SHORT_NAME = "llmcs"
PAUSED_ANNOTATION = f"{GROUP}/paused"

# The schema of metadata.name. Children are named after it, and a Service's name has at most 63 characters (RFC 1035).
NAME: dict[str, Any] = {"type": "string", "maxLength": 40} | rules(
    rule(
        r"self.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')",
        "must start with a letter, hold only a-z, 0-9 and '-', and not end in '-': children are named after it",
    )
)


class LLMCacheService(Model):
    """vLLM engines that share one LMCache KV cache, behind a cache-aware router."""

    spec: Annotated[ServiceSpec, Field(description="What is wanted.")]
    status: Annotated[ServiceStatus | None, Field(description="What was found; the operator writes it.")] = None
