"""The part of the spec about the KV cache: where it stands, and how much it holds."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from llmcache_operator.api.fields import AnyQuantity, Model, Quantity, Switch, rule, rules
from llmcache_operator.api.l2 import L2
from llmcache_operator.api.pods import Env, PodTemplate


class Topology(StrEnum):
    """Where the LMCache server stands."""

    SHARED = "Shared"
    PER_ENGINE = "PerEngine"
    NODE_LOCAL = "NodeLocal"


class Capacity(Model):
    """How much the cache holds, in tokens. What is used longest ago goes first when it is full."""

    tokens: Annotated[AnyQuantity | None, Field(description="Tokens, such as 2M.")] = None
    users: Annotated[
        int | None,
        Field(
            ge=1, le=10_000_000, json_schema_extra={"format": "int32"}, description="Users whose conversations stay."
        ),
    ] = None
    tokens_per_user: Annotated[AnyQuantity | None, Field(description="Tokens of each, such as 20k.")] = None

    model_config = Model.model_config | {
        "json_schema_extra": rules(
            rule(
                "has(self.tokens) != has(self.users) && has(self.users) == has(self.tokensPerUser)",
                "give either tokens, or users and tokensPerUser",
            ),
            rule(
                "!has(self.tokens) || "
                "(isQuantity(string(self.tokens)) && quantity(string(self.tokens)).compareTo(quantity('0')) > 0)",
                "must be a number of tokens, such as 2000000 or 2M",
                path=".tokens",
            ),
            rule(
                "!has(self.tokensPerUser) || "
                "(isQuantity(string(self.tokensPerUser)) && "
                "quantity(string(self.tokensPerUser)).compareTo(quantity('0')) > 0)",
                "must be a number of tokens, such as 20000 or 20k",
                path=".tokensPerUser",
            ),
        )
    }


class CacheSpec(Model):
    """The KV cache that the engines share."""

    topology: Annotated[
        Topology,
        Field(
            description=(
                "Shared: one LMCache server that every engine reaches over the network. PerEngine: an LMCache server "
                "in each engine's pod, much faster; without an L2, engines then share nothing. NodeLocal: one on each "
                "of the engines' nodes, which copies KV from and to their GPUs itself; not run on GPUs so far."
            )
        ),
    ] = Topology.SHARED
    memory: Annotated[
        Quantity | None,
        Field(
            json_schema_extra=rules(
                rule(
                    "!isQuantity(self) || (quantity(self).compareTo(quantity('128Mi')) >= 0 && "
                    "quantity(self).compareTo(quantity('64Ti')) <= 0)",
                    "must be at least 128Mi and at most 64Ti",
                )
            ),
            description=(
                "Memory for cached KV in each LMCache server. What it asks for follows from it: 10 % and 1Gi more. "
                "Its limit is the same, but with topology Shared as much again, 2Gi at least, for KV on its way. "
                "Default: 4Gi, unless capacity says how much."
            ),
        ),
    ] = None
    capacity: Annotated[
        Capacity | None,
        Field(
            description=(
                "How much the cache as a whole is to hold, in tokens, in the place of memory; needs model.kv. "
                "`make sizing` shows what it comes to. With topology PerEngine it is divided by engine.replicas, so "
                "that scaling replaces all engines: give memory instead where their number changes."
            )
        ),
    ] = None
    l2: Annotated[
        L2 | None,
        Field(description="A tier behind the LMCache servers: what they share, and what outlives them. Default: none."),
    ] = None
    chunk_size: Annotated[
        int,
        Field(
            ge=32,
            le=8192,
            json_schema_extra={"format": "int32"},
            description="Tokens in a chunk: a prompt is shared in whole chunks, and a shorter one not at all.",
        ),
    ] = 256
    timeout_seconds: Annotated[
        int,
        Field(
            ge=5,
            le=600,
            json_schema_extra={"format": "int32"},
            description=(
                "For how long an engine waits for an answer of its LMCache server before it computes instead. Raise it "
                "where one prompt's KV takes longer than that to load."
            ),
        ),
    ] = 30
    image: Annotated[
        str | None,
        Field(min_length=1, max_length=512, description="Image with LMCache. Default: the operator's."),
    ] = None
    env: Annotated[Env, Field(description="More environment for the LMCache server.")] = []
    cpu: Annotated[Quantity, Field(description="CPU request of the LMCache server; it has no CPU limit.")] = "500m"
    template: Annotated[PodTemplate, Field(description="A partial pod template for the LMCache server's pod.")] = (
        PodTemplate()
    )
    self_test: Annotated[
        Switch,
        Field(
            description=(
                "Enabled: the operator tries whether engines find and understand each other's KV, with three short "
                "prompts per engine after a rollout and then every few hours, while no request waits there. The "
                "condition CacheSharingVerified tells the result."
            )
        ),
    ] = Switch.ENABLED

    model_config = Model.model_config | {
        "json_schema_extra": rules(
            rule("!has(self.memory) || !has(self.capacity)", "give memory or capacity, not both", path=".capacity"),
            rule(
                "self.topology != 'PerEngine' || !has(self.template)",
                "the LMCache server is in the engine's pod: use engine.template",
                path=".template",
            ),
        )
    }
