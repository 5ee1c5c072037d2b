"""Rows for people, as a plain table, or for programs, as JSON."""

from __future__ import annotations

import re
import shutil
import sys
import time
from collections.abc import Sequence

import click

from motes.model.units import format_bytes

NUMBERS = frozenset(
    {"pid", "age", "calls", "cpu", "cpus", "memory", "instances", "spaces", "starts", "time", "in", "out"}
)
"""Columns that are set to the right."""
NAMES = frozenset({"instance", "host", "app", "workloads"})
"""Columns that may be cut where the terminal is too narrow for all."""
SHORTEST = 8
GAP = "  "
_OBEYED = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
"""Control characters, but for the tabulator and the line's end; and what has text shown in another order."""


def print_json(rows: object) -> None:
    """A list of structs, or one, as JSON."""
    import msgspec

    click.echo(plain_json(msgspec.json.encode(rows)))


def print_table(columns: Sequence[str], rows: Sequence[Sequence[str]], empty: str) -> None:
    """The rows under their columns; `empty` is said when there are none. A terminal's width cuts names, not numbers."""
    if not rows:
        click.echo(empty)
        return
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    head, *lines = table_lines(columns, rows, width)
    click.echo(click.style(head, bold=True))
    click.echo("\n".join(lines))


def table_lines(columns: Sequence[str], rows: Sequence[Sequence[str]], width: int | None) -> list[str]:
    """The table's lines, each of at most `width` characters as far as cutting texts can do it; None: nothing is cut."""
    right = [column.partition(" ")[0] in NUMBERS for column in columns]
    table = [
        [column.upper() for column in columns],
        *([plain(cell.replace("\n", "\\n")) for cell in row] for row in rows),
    ]
    widths = [max(map(len, cells)) for cells in zip(*table, strict=True)]
    texts = [index for index, column in enumerate(columns) if column in NAMES]
    while width is not None and sum(widths) + len(GAP) * (len(widths) - 1) > width:
        widest = max(texts, key=widths.__getitem__, default=None)
        if widest is None or widths[widest] <= SHORTEST:
            break
        widths[widest] -= 1
    sized = [list(zip(cells, widths, right, strict=True)) for cells in table]
    return [GAP.join(_fitted(*each) for each in cells).rstrip() for cells in sized]


def _fitted(cell: str, width: int, right: bool) -> str:
    cut = cell if len(cell) <= width else f"{cell[: width - 1]}…"
    return cut.rjust(width) if right else cut.ljust(width)


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
    return _OBEYED.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def plain_json(data: bytes) -> str:
    """JSON, or what an app or a host says is JSON, without what a terminal would obey: as JSON it means the same."""
    return _OBEYED.sub(lambda found: f"\\u{ord(found[0]):04x}", data.decode(errors="backslashreplace"))


def clock(at: float) -> str:
    """A Unix time as this machine's day and time."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at))
