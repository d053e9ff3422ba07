"""What the demo prints: bars for where tokens came from, and tables."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from e2e.counters import Tokens
    from e2e.demo.chat import Turn

WIDTH = 20
COMPUTED, ENGINE, SERVER = "red", "green", "cyan"


def legend() -> Text:
    """Say what the colours of the bars mean."""
    return Text.assemble(("█ computed  ", COMPUTED), ("█ engine's own cache  ", ENGINE), ("█ LMCache server", SERVER))


def bar(tokens: Tokens) -> Text:
    """Draw where tokens came from, as parts of one bar."""
    total = max(1, tokens.total)
    engine, server = (round(WIDTH * part / total) for part in (tokens.engine, tokens.server))
    computed = max(0, WIDTH - engine - server)
    return Text.assemble(("█" * computed, COMPUTED), ("█" * engine, ENGINE), ("█" * server, SERVER))


def turns(rows: Sequence[Turn], engines: Sequence[str]) -> Table:
    """Show each turn: time to first token and where its prompt's tokens came from."""
    table = Table(title="A chat of three users through the router", title_justify="left")
    for column in ("round", "user", "engine"):
        table.add_column(column)
    table.add_column("first token", justify="right")
    table.add_column("prompt", justify="right")
    table.add_column("its tokens came from", no_wrap=True, min_width=WIDTH)
    table.add_column("reused", justify="right")
    for row in rows:
        table.add_row(
            str(row.number),
            row.user,
            letter(row.engine, engines),
            f"{row.first_token:.2f} s",
            str(row.tokens.total),
            bar(row.tokens),
            percent(row.tokens),
            end_section=row.user == rows[-1].user and row is not rows[-1],
        )
    return table


def sharing(rows: Sequence[tuple[str, float, Tokens]]) -> Table:
    """Show one prompt asked of one engine and then of the other."""
    table = Table(title="One prompt, asked of engine A and then of engine B", title_justify="left")
    table.add_column("asked of")
    table.add_column("first token", justify="right")
    table.add_column("prompt", justify="right")
    table.add_column("its tokens came from", no_wrap=True, min_width=WIDTH)
    table.add_column("LMCache", justify="right")
    for name, seconds, tokens in rows:
        table.add_row(name, f"{seconds:.2f} s", str(tokens.total), bar(tokens), str(tokens.server))
    return table


def letter(engine: str, engines: Sequence[str]) -> str:
    """Return A, B, … for an engine pod."""
    return chr(ord("A") + list(engines).index(engine))


def percent(tokens: Tokens) -> str:
    """Return the share of tokens that nobody had to compute."""
    return f"{100 * (tokens.engine + tokens.server) / max(1, tokens.total):.0f} %"
