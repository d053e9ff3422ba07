"""Routing policies: pure decisions about which engine serves a request.

Nothing here reads a clock, a socket or the environment: time is passed in, engines are named by strings, and the same
calls in the same order always give the same picks. The proxy and any other front end drive a policy through `Policy`.
"""

from llmcache_runtime.policy.fleet import Engine, Fleet
from llmcache_runtime.policy.interface import Pick, Policy, Reason, RequestKey, Ticket, TierTokens
from llmcache_runtime.policy.key import request_key
from llmcache_runtime.policy.least_loaded import LeastLoaded
from llmcache_runtime.policy.prefix_aware import PrefixAware, Prices
from llmcache_runtime.policy.rates import Observation, Rates
from llmcache_runtime.policy.round_robin import RoundRobin
from llmcache_runtime.policy.session_affinity import SessionAffinity

POLICIES: dict[str, type[Fleet]] = {
    "PrefixAware": PrefixAware,
    "SessionAffinity": SessionAffinity,
    "LeastLoaded": LeastLoaded,
    "RoundRobin": RoundRobin,
}

__all__ = [
    "POLICIES",
    "Engine",
    "Fleet",
    "LeastLoaded",
    "Observation",
    "Pick",
    "Policy",
    "PrefixAware",
    "Prices",
    "Rates",
    "Reason",
    "RequestKey",
    "RoundRobin",
    "SessionAffinity",
    "Ticket",
    "TierTokens",
    "request_key",
]
