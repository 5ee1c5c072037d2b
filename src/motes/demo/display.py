"""What the demo shows: lines that stay and, in a terminal, a picture of the hosts that changes beneath them."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Any, NamedTuple, TextIO

QUIET_S = 1.0
"""Without a terminal, this often at most, a line says how far it is."""
_BAR = 40


class HostShown(NamedTuple):
    """One host at a moment: its instances, and how many of them work on a call."""

    instances: int
    busy: int


class Display:
    """A context: `say` prints a line to `stream` (else standard output), `show` what is so now."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stdout
        self._live: Any = None
        self._said_at = 0.0

    def __enter__(self) -> Display:
        if self._stream.isatty():
            from rich.console import Console
            from rich.live import Live

            self._live = Live(console=Console(file=self._stream), refresh_per_second=12, transient=True)
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def say(self, text: str) -> None:
        """A line that stays."""
        if self._live is None:
            print(text, file=self._stream, flush=True)
        else:
            from rich.text import Text

            self._live.console.print(Text(text))

    def show(self, what: str, hosts: dict[str, HostShown]) -> None:
        """What happens now, and the hosts."""
        if self._live is not None:
            self._live.update(_picture(what, hosts))
        elif time.monotonic() - self._said_at >= QUIET_S:
            self._said_at = time.monotonic()
            shown = ", ".join(f"{name} {host.instances}" for name, host in sorted(hosts.items()))
            print(f"  {what}; instances: {shown or 'none'}", file=self._stream, flush=True)

    def clear(self) -> None:
        """Take the picture away."""
        if self._live is not None:
            self._live.update("", refresh=True)


def _picture(what: str, hosts: dict[str, HostShown]) -> Any:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, show_header=False, title=what, title_justify="left", title_style="bold")
    for _ in range(3):
        table.add_column(no_wrap=True)
    for name, host in sorted(hosts.items()):
        bar = "█" * min(host.busy, _BAR) + "░" * min(host.instances - host.busy, _BAR)
        table.add_row(f"  host {name}", bar, f"{host.instances} instances, {host.busy} busy")
    return table
