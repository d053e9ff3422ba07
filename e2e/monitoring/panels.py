"""What the dashboard shows: one service, from whether it works down to the operator. `dashboard` makes it Grafana's.

The expressions read raw metrics, so that the dashboard works without the recording rules.
"""

from __future__ import annotations

from e2e.monitoring.shapes import (
    FAILS,
    HOLDS,
    PROMPT,
    RATE,
    REUSED,
    SOURCES,
    Look,
    Panel,
    Query,
    Section,
    of,
    prompt_from,
    quantile,
    rate,
)


def _stat(title: str, what: str, unit: str, *queries: Query) -> Panel:
    return Panel(title, what, Look.STAT, unit, 4, queries)


SPARED = f"sum(increase({of(PROMPT, REUSED)}[$__range]))"
ERRORS = rate("llmcache_router_requests_total", 'status=~"5.."')
WORKS = Section(
    "Does it work?",
    (
        _stat(
            "Engines",
            "Engines that answer, and engines wanted.",
            "short",
            Query(of("llmcache_service_engines_ready"), "ready"),
            Query(of("llmcache_service_engines_desired"), "wanted"),
        ),
        _stat(
            "Hit rate",
            "Part of the prompt tokens of the last minutes that no engine computed, as on the resource.",
            "percentunit",
            Query(f"sum({of('llmcache_service_hit_ratio')})", "all tiers"),
        ),
        _stat(
            "Cache used",
            "Part of the LMCache server's memory in use.",
            "percentunit",
            Query(of("llmcache_service_cache_used_ratio"), "used"),
        ),
        _stat("Tokens not computed", "Prompt tokens from a cache, in this time.", "short", Query(SPARED, "tokens")),
        _stat(
            "Engine time saved",
            "Estimate of the engine time that the cache saved, as on the resource.",
            "s",
            Query(of("llmcache_service_saved_engine_seconds"), "saved"),
        ),
        _stat(
            "Errors",
            "Part of the requests that ended with 5xx.",
            "percentunit",
            Query(
                f"(sum({ERRORS}) or vector(0)) / (sum({rate('llmcache_router_requests_total')}) > 0)",
                "5xx",
            ),
        ),
        Panel(
            "Conditions",
            "Green: holds; red: doesn't; grey: can't be known.",
            Look.STATES,
            "short",
            16,
            (
                Query(
                    f"max by (type) ({of('llmcache_service_condition', HOLDS)})"
                    f" - max by (type) ({of('llmcache_service_condition', FAILS)})",
                    "{{type}}",
                ),
            ),
        ),
        Panel(
            "Reasons",
            "Why each condition is what it is. operator/docs/conditions.md has a section on each.",
            Look.TABLE,
            "short",
            8,
            (Query(f"max by (type, reason) ({of('llmcache_service_condition_reason')})", "{{type}}: {{reason}}"),),
        ),
    ),
)

TIERS = Section(
    "Where prompt tokens come from",
    (
        Panel(
            "Prompt tokens a second, by source",
            "From the engines' own counters, which add up to all prompt tokens.",
            Look.STACK,
            "short",
            12,
            tuple(Query(f"sum({prompt_from(source)})", legend) for source, legend in SOURCES.items()),
        ),
        Panel(
            "Hit rate by tier",
            "The part of prompt tokens that a tier gave.",
            Look.STACK,
            "percentunit",
            12,
            tuple(
                Query(f"sum({prompt_from(source)}) / (sum({rate(PROMPT)}) > 0)", legend)
                for source, legend in list(SOURCES.items())[1:]
            ),
        ),
    ),
)

SAVINGS = Section(
    "What it saves",
    (
        Panel(
            "Time to first token, hit against miss",
            "As clients see it at the router, by where most of the prompt was expected to come from: an engine's own "
            "cache, the shared one, or computed.",
            Look.LINES,
            "s",
            12,
            tuple(
                Query(
                    quantile(share, "llmcache_router_time_to_first_token_seconds", "expected, "),
                    f"p{share * 100:.0f} {{{{expected}}}}",
                )
                for share in (0.5, 0.95)
            ),
        ),
        Panel(
            "Engine time saved so far",
            "Estimate, over the lives of the engines of the last minutes: it falls when an engine leaves.",
            Look.LINES,
            "s",
            6,
            (Query(of("llmcache_service_saved_engine_seconds"), "saved"),),
        ),
        Panel(
            "Between two tokens",
            "Of streams, as clients see it.",
            Look.LINES,
            "s",
            6,
            (
                Query(quantile(0.5, "llmcache_router_inter_token_seconds"), "p50"),
                Query(quantile(0.95, "llmcache_router_inter_token_seconds"), "p95"),
            ),
        ),
    ),
)

CACHES = Section(
    "Caches",
    (
        Panel(
            "Memory in use",
            "Of the LMCache server, and of each engine's own KV cache.",
            Look.LINES,
            "percentunit",
            12,
            (
                Query(f"max({of('lmcache_mp_l1_usage_ratio')})", "LMCache server"),
                Query(f"max by (pod) ({of('vllm:kv_cache_usage_perc')})", "{{pod}}"),
            ),
        ),
        Panel(
            "Chunks written, read and evicted",
            "Of the LMCache server. Evicting as much as is written, and reading little, means a cache too small.",
            Look.LINES,
            "ops",
            12,
            tuple(
                Query(f"sum({rate(f'lmcache_mp_l1_{what}_chunks_total')})", legend)
                for what, legend in (("write", "written"), ("read", "read"), ("evicted", "evicted"))
            ),
        ),
    ),
)

ROUTER = Section(
    "Router",
    (
        Panel(
            "Decisions",
            "Engines picked, by reason.",
            Look.STACK,
            "reqps",
            8,
            (Query(f"sum by (reason) ({rate('llmcache_router_picks_total')})", "{{reason}}"),),
        ),
        Panel(
            "Requests per engine",
            "Running on each engine, and waiting for one.",
            Look.LINES,
            "short",
            8,
            (
                Query(f"sum by (engine) ({of('llmcache_router_engine_running')})", "{{engine}}"),
                Query(f"sum({of('llmcache_router_queue')})", "queue"),
            ),
        ),
        Panel(
            "Answers and troubles",
            "Requests by status, and what was tried again, taken out or cut off.",
            Look.LINES,
            "reqps",
            8,
            (
                Query(f"sum by (status) ({rate('llmcache_router_requests_total')})", "{{status}}"),
                Query(f"sum({rate('llmcache_router_retries_total')})", "retries"),
                Query(f"sum({rate('llmcache_router_ejections_total')})", "ejections"),
                Query(f"sum({rate('llmcache_router_cut_responses_total')})", "cut off"),
            ),
        ),
    ),
)

OPERATOR = Section(
    "Operator (of all services)",
    (
        Panel(
            "Reconciles",
            "By result.",
            Look.STACK,
            "ops",
            8,
            (Query(f"sum by (result) (rate(llmcache_operator_reconciles_total[{RATE}]))", "{{result}}"),),
        ),
        Panel(
            "Time of a reconcile, and in the queue",
            "95th percentile.",
            Look.LINES,
            "s",
            8,
            tuple(
                Query(f"histogram_quantile(0.95, sum by (le) (rate({metric}_bucket[{RATE}])))", legend)
                for metric, legend in (
                    ("llmcache_operator_reconcile_duration_seconds", "reconcile"),
                    ("llmcache_operator_queue_wait_seconds", "queue"),
                )
            ),
        ),
        Panel(
            "Writes, and age of the measurements",
            "Writes to the API server a minute; seconds since the last scrape.",
            Look.LINES,
            "short",
            8,
            (
                Query(f'60 * sum(rate(llmcache_operator_applies_total{{result="changed"}}[{RATE}]))', "children"),
                Query(f"60 * sum(rate(llmcache_operator_status_writes_total[{RATE}]))", "status"),
                Query("time() - max(llmcache_operator_last_scrape_timestamp_seconds)", "scrape age, s"),
            ),
        ),
    ),
)

SECTIONS = (WORKS, TIERS, SAVINGS, CACHES, ROUTER, OPERATOR)
