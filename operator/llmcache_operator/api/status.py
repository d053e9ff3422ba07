"""The status of an LLMCacheService: what the operator found. A value that can't be known is absent, never 0."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from llmcache_operator.api.fields import Model

Percent = Annotated[int, Field(ge=0, le=100, json_schema_extra={"format": "int32"})]
Count = Annotated[int, Field(ge=0, json_schema_extra={"format": "int32"})]
Tokens = Annotated[int, Field(ge=0, json_schema_extra={"format": "int64"})]


class Condition(Model):
    """One condition, as Kubernetes' metav1.Condition."""

    type: Annotated[str, Field(max_length=316, description="What it is about, in CamelCase.")]
    status: Annotated[Literal["True", "False", "Unknown"], Field(description="Whether it holds.")]
    reason: Annotated[str, Field(min_length=1, max_length=1024, description="Why, in one CamelCase word.")]
    message: Annotated[str, Field(max_length=32768, description="Why, and what to do, for a person.")]
    observed_generation: Annotated[
        int | None,
        Field(ge=0, json_schema_extra={"format": "int64"}, description="The generation that this is about."),
    ] = None
    last_transition_time: Annotated[
        str, Field(json_schema_extra={"format": "date-time"}, description="When `status` last changed.")
    ]


class EnginesStatus(Model):
    """How many engines there are."""

    desired: Annotated[Count | None, Field(description="Engines wanted.")] = None
    ready: Annotated[Count | None, Field(description="Engines that answer.")] = None
    summary: Annotated[str | None, Field(max_length=32, description="ready/desired.")] = None
    selector: Annotated[
        str | None, Field(max_length=512, description="Label selector of the engine pods, for autoscalers.")
    ] = None


class TiersStatus(Model):
    """Where prompt tokens came from, in percent of all prompt tokens of the window."""

    engine: Annotated[Percent | None, Field(description="Percent from the engine's own KV cache.")] = None
    server: Annotated[Percent | None, Field(description="Percent from the LMCache server.")] = None


class SelfTestStatus(Model):
    """What the condition CacheSharingVerified is about."""

    at: Annotated[
        str | None,
        Field(
            json_schema_extra={"format": "date-time"},
            description="When it was found: of the latest self-test that went well, or the first that did not.",
        ),
    ] = None
    fleet: Annotated[
        str | None,
        Field(max_length=64, description="Hash of the pods that took part; others are tested again."),
    ] = None


class SavedStatus(Model):
    """What the cache saved, over the lives of the engines that ran in the window."""

    prompt_tokens: Annotated[Tokens | None, Field(description="Prompt tokens that no engine had to compute.")] = None
    engine_seconds: Annotated[
        Tokens | None,
        Field(
            description=(
                "Estimate, from below, of the engines' time that computing them would have taken, less the time that "
                "it took to fetch them. operator/docs/conditions.md has the method."
            )
        ),
    ] = None


class CapacityStatus(Model):
    """How much the cache as a whole can hold, each token once. An L2 of unknown size does not count."""

    tokens: Annotated[Tokens | None, Field(description="Tokens, where model.kv says how large one is.")] = None
    bytes: Annotated[Tokens | None, Field(description="Bytes of cached KV.")] = None


class CacheStatus(Model):
    """Whether the cache works, measured on the engines' own counters."""

    identity: Annotated[
        str | None,
        Field(
            max_length=64,
            description=(
                "Hash of everything that must agree for cached KV to be usable: model, revision, types, chunk and "
                "block size, image, arguments. A new value means a cold cache."
            ),
        ),
    ] = None
    layout: Annotated[
        str | None, Field(max_length=64, description="Where cached KV is: the topology, and what is behind it.")
    ] = None
    capacity: Annotated[CapacityStatus | None, Field(description="How much the cache can hold.")] = None
    hit_rate_percent: Annotated[
        Percent | None,
        Field(description="Percent of prompt tokens in the window that no engine had to compute, over all tiers."),
    ] = None
    tiers: Annotated[TiersStatus | None, Field(description="The same, by tier.")] = None
    tokens_reused: Annotated[
        Tokens | None,
        Field(description="Prompt tokens not computed, over the lives of the engines that ran in the window."),
    ] = None
    saved: Annotated[SavedStatus | None, Field(description="What the cache saved.")] = None
    used_percent: Annotated[Percent | None, Field(description="Percent of cache.memory in use.")] = None
    window: Annotated[str | None, Field(max_length=16, description="Time over which rates are taken.")] = None
    self_test: Annotated[
        SelfTestStatus | None, Field(description="What the condition CacheSharingVerified is about.")
    ] = None
    sampled_engines: Annotated[str | None, Field(max_length=32, description="Engines measured / engines ready.")] = None


class ServiceStatus(Model):
    """What the operator found."""

    observed_generation: Annotated[
        int | None,
        Field(
            ge=-1,
            json_schema_extra={"format": "int64"},
            description="The generation that this status is about.",
        ),
    ] = None
    conditions: Annotated[
        list[Condition],
        Field(
            max_length=32,
            description="Ready sums up; the others say which part. operator/docs/conditions.md explains each reason.",
            json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]},
        ),
    ] = []
    url: Annotated[
        str | None,
        Field(max_length=512, description="Where clients send requests. Absent where they come through a gateway."),
    ] = None
    engines: Annotated[EnginesStatus | None, Field(description="How many engines there are.")] = None
    cache: Annotated[CacheStatus | None, Field(description="Whether the cache works.")] = None
