"""What a person sees while something takes long."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console

# stderr, so that `kubeconfig` and `audit-log` can be piped.
console = Console(stderr=True, highlight=False)


@contextmanager
def step(what: str) -> Iterator[None]:
    """Show a spinner while the body runs, then one line with the seconds it took."""
    begin = time.monotonic()
    with console.status(f"{what} …"):
        yield
    console.print(f"[green]✓[/green] {what} [dim]{time.monotonic() - begin:.1f} s[/dim]")
