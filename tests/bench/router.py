"""Everything that is claimed of the router's decisions and costs, measured: tables here, pictures in a folder.

    python -m tests.bench.router [--neighbour PATH/TO/vllm-router] [--pictures operator/docs/img]

About twenty minutes on two cores, most of them for the simulated fleet; `--neighbour` adds the CPU of vllm-router.
"""

import argparse
from pathlib import Path

from rich.console import Console

from tests.bench import router_cpu, router_memory, router_plots, router_policy


def main() -> None:
    """Measure, print, draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--neighbour", metavar="PATH", help="a vllm-router whose CPU to compare with (PyPI)")
    parser.add_argument("--pictures", type=Path, default=Path("operator/docs/img"), help="where pictures go")
    parser.add_argument("--repetitions", type=int, default=25, help="how often the CPU of each router is measured")
    flags = parser.parse_args()
    flags.pictures.mkdir(parents=True, exist_ok=True)
    console = Console()
    ideal = router_policy.ideal()
    policies = router_policy.run(router_policy.policies(), "policies")
    console.print(router_policy.table(policies, f"policies (one endless engine would hit {ideal.hit:.1f} %)"))
    console.print(router_policy.table(router_policy.run(router_policy.replicas(), "replicas"), "router replicas"))
    pricing = router_policy.run(router_policy.pricing(), "pricing")
    console.print(router_policy.gains(pricing))
    costs = router_cpu.cpu_table(flags.neighbour, flags.repetitions)
    console.print(router_cpu.table(costs))
    console.print(router_memory.table(router_memory.memory()))
    for path in (
        router_plots.policies(policies, flags.pictures),
        router_plots.pricing(pricing, flags.pictures),
        router_plots.cpu(costs, flags.pictures),
    ):
        console.print(f"wrote {path}")


if __name__ == "__main__":
    main()
