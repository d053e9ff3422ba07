"""Condition types and the reasons they give. operator/docs/conditions.md has a section for each."""

from __future__ import annotations

from enum import StrEnum


class ConditionType(StrEnum):
    """What a condition is about. Reconciling and Stalled are there only while they are True (kstatus)."""

    READY = "Ready"
    ENGINES_READY = "EnginesReady"
    CACHE_READY = "CacheReady"
    ROUTER_READY = "RouterReady"
    L2_READY = "L2Ready"
    METRICS_AVAILABLE = "MetricsAvailable"
    VERSIONS_COMPATIBLE = "VersionsCompatible"
    CACHE_SHARING_VERIFIED = "CacheSharingVerified"
    CACHE_EFFECTIVE = "CacheEffective"
    PAUSED = "Paused"
    RECONCILING = "Reconciling"
    STALLED = "Stalled"


class Reason(StrEnum):
    """Why a condition is what it is."""

    # All is well, or on its way.
    AVAILABLE = "Available"
    SCALED_TO_ZERO = "ScaledToZero"
    PROGRESSING = "Progressing"
    SERVING_WITHOUT_CACHE = "ServingWithoutCache"
    NOT_SHARED = "NotShared"
    PAUSED = "Paused"

    # A part is not there.
    ENGINES_NOT_READY = "EnginesNotReady"
    CACHE_SERVER_NOT_READY = "CacheServerNotReady"
    ROUTER_NOT_READY = "RouterNotReady"
    WAITING_FOR_CACHE_SERVER = "WaitingForCacheServer"

    # The tier behind the LMCache servers.
    L2_UNREACHABLE = "L2Unreachable"
    L2_AUTHENTICATION_FAILED = "L2AuthenticationFailed"
    L2_FULL = "L2Full"
    L2_SLOW = "L2Slow"
    L2_REFUSING = "L2Refusing"
    L2_NOT_STORING = "L2NotStoring"
    L2_GIVEN_UP = "L2GivenUp"

    # Measuring.
    ALL_SAMPLED = "AllSampled"
    SCRAPE_FAILED = "ScrapeFailed"
    NOT_SAMPLED_YET = "NotSampledYet"

    # Versions.
    COMPATIBLE = "Compatible"
    KNOWN_BAD = "KnownBad"
    VERSIONS_DIFFER = "VersionsDiffer"
    UNTESTED_PAIR = "UntestedPair"
    VERSION_UNKNOWN = "VersionUnknown"

    # Whether a prompt that one engine computed is found by another: the active self-test.
    VERIFIED = "Verified"
    NOTHING_SHARED = "NothingShared"
    WRONG_KV = "WrongKV"
    ONE_ENGINE = "OneEngine"
    DISABLED = "Disabled"
    PENDING = "Pending"
    SATURATED = "Saturated"
    PROBE_FAILED = "ProbeFailed"

    # Whether the cache saves anything, from the traffic that is there.
    EFFECTIVE = "Effective"
    FITS_IN_ENGINE = "FitsInEngine"
    IDLE = "Idle"
    TOO_FEW_REQUESTS = "TooFewRequests"
    SERVER_UNREACHABLE = "ServerUnreachable"
    ENGINES_NOT_REGISTERED = "EnginesNotRegistered"
    IDENTITY_MISMATCH = "IdentityMismatch"
    CACHE_EMPTIED = "CacheEmptied"
    COUNTERS_STUCK = "CountersStuck"
    TOO_SHORT_PROMPTS = "TooShortPrompts"
    EVICTING = "Evicting"
    SLOWER_THAN_PREFILL = "SlowerThanPrefill"
    ROUTER_SCATTERS = "RouterScatters"
    NO_REUSE = "NoReuse"

    # Somebody has to act: Stalled.
    INVALID_SPEC = "InvalidSpec"
    CHILD_REJECTED = "ChildRejected"
    NAME_TAKEN = "NameTaken"
    QUOTA_EXCEEDED = "QuotaExceeded"
    OPERATOR_FORBIDDEN = "OperatorForbidden"
    PODS_REJECTED = "PodsRejected"
    UNSCHEDULABLE = "Unschedulable"
    VOLUME_CLAIM_MISSING = "VolumeClaimMissing"
    SECRET_MISSING = "SecretMissing"  # noqa: S105 - a reason, no secret
    CONFIG_MAP_MISSING = "ConfigMapMissing"
    CONTAINER_CONFIG_INVALID = "ContainerConfigInvalid"
    IMAGE_PULL_FAILED = "ImagePullFailed"
    MODEL_FETCH_FAILED = "ModelFetchFailed"
    MODEL_UNUSABLE = "ModelUnusable"
    OUT_OF_MEMORY = "OutOfMemory"
    ENGINE_CRASHING = "EngineCrashing"
    CACHE_SERVER_CRASHING = "CacheServerCrashing"
    ROUTER_CRASHING = "RouterCrashing"
    L2_CRASHING = "L2Crashing"
    POD_NOT_STARTING = "PodNotStarting"
