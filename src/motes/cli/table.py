"""Rows for people, as a plain table, or for programs, as JSON."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Sequence

import click

from motes.model.units import format_bytes

PIPED_WIDTH = 1000
"""Where nobody looks at a terminal nothing is cut short."""
NUMBERS = frozenset({"pid", "age", "calls", "cpu", "memory", "instances", "spaces"})
"""Columns that are set to the right."""
_OBEYED = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
"""Control characters, but for the tabulator and the line's end."""


def print_json(rows: object) -> None:
    """A list of structs, or one, as JSON."""
    import msgspec

    click.echo(msgspec.json.encode(rows))


def print_table(columns: Sequence[str], rows: Sequence[Sequence[str]], empty: str) -> None:
    """The rows under their columns; `empty` is said when there are none."""
    if not rows:
        click.echo(empty)
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for column in columns:
        right = column.partition(" ")[0] in NUMBERS
        table.add_column(column.upper(), justify="right" if right else "left", no_wrap=True, overflow="ellipsis")
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    console = Console(width=None if sys.stdout.isatty() else PIPED_WIDTH, highlight=False)
    with console.capture() as capture:
        console.print(table)
    click.echo("\n".join(line.rstrip() for line in capture.get().splitlines()), color=sys.stdout.isatty())


def age(since: float, now: float | None = None) -> str:
    """How long ago, in one unit: `5s`, `12m`, `3h`, `9d`."""
    seconds = max(0.0, (time.time() if now is None else now) - since)
    for limit, size, unit in ((120, 1, "s"), (7200, 60, "m"), (172_800, 3600, "h")):
        if seconds < limit:
            return f"{seconds / size:.0f}{unit}"
    return f"{seconds / 86_400:.0f}d"


def memory(count: int) -> str:
    """Bytes for a column."""
    return format_bytes(count) if count else "-"


def plain(text: str) -> str:
    """What an app or a host wrote, without what a terminal would obey: such characters are shown as \\x1b is."""
    return _OBEYED.sub(lambda found: f"\\x{ord(found[0]):02x}", text)


def clock(at: float) -> str:
    """A Unix time as this machine's day and time."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at))
