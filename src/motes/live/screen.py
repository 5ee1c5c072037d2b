"""The screen of `motes top`: workloads, hosts and what happens; on Enter the look into one workload."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import ClassVar, NamedTuple, Protocol, TypeVar

from rich.text import Text
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.widget import Widget
from textual.widgets import Footer, Static

from motes.live.cells import HOSTS, RATES, host_cells, summary, workload_cells
from motes.live.rates import Look, host_rows, workload_rows
from motes.live.widgets import Figures, Lines
from motes.live.workload import OneWorkload

W = TypeVar("W", bound=Widget)

EVERY_S = 1.0
NOTHING_RUNS = ("nothing was called", *("-" for _ in RATES))


class Happened(NamedTuple):
    """Something that began or ended: of what, and the line for it."""

    app: str
    workload: str
    line: str

    def concerns(self, address: str) -> bool:
        """Whether it is about this workload, or about its whole app."""
        app, _, workload = address.partition(".")
        return self.app == app and self.workload in ("", workload)


class Source(Protocol):
    """Where the screen gets what it shows."""

    async def look(self) -> Look: ...

    def happened(self) -> Sequence[Happened]:
        """The last of what began and ended, the oldest first."""

    async def prints(self, address: str) -> list[str]:
        """The last lines that a workload wrote."""


class Top(App[None]):
    """The whole screen."""

    TITLE = "motes top"
    ENABLE_COMMAND_PALETTE = False
    CSS = """
    #workloads { max-height: 50%; }
    #hosts { max-height: 30%; margin-top: 1; }
    .title { text-style: bold; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("q", "quit", "Quit"),
        Binding("enter", "open", "Look into the workload", priority=True),
        Binding("tab", "app.focus_next", "Next part"),
    ]

    def __init__(self, source: Source) -> None:
        # Without colours the terminal's own two are taken: greys on black would be unreadable on one that is light.
        super().__init__(ansi_color=True if "NO_COLOR" in os.environ else None)
        self._source = source
        self._summary = Static("connecting ...", id="summary", classes="title")
        self.before: Look | None = None
        self.now: Look | None = None

    def compose(self) -> ComposeResult:
        yield self._summary
        yield Figures("workloads", "workload", RATES, show_cursor=True)
        yield Figures("hosts", "host", HOSTS)
        yield Lines("events", "what happens")
        yield Footer()

    async def on_mount(self) -> None:
        await self.refresh_all()
        self.set_interval(EVERY_S, self.refresh_all)

    async def refresh_all(self) -> None:
        """Look again, and show it."""
        failure: Exception | None = None
        try:
            self.now, self.before = await self._source.look(), self.now
        except Exception as error:
            failure = error
        if not self._summary.is_attached:
            return  # Its user has left meanwhile.
        if failure is not None or self.now is None:
            # The cluster is away for a moment: the screen stays, and says so.
            self._summary.update(Text(f"no answer from the cluster: {failure}"))
            return
        before = self.before if self.before is not None else self.now
        rows, hosts = workload_rows(before, self.now), host_rows(before, self.now)
        self._summary.update(Text(summary(rows, hosts)))
        self._base("#workloads", Figures).show([workload_cells(row) for row in rows] or [NOTHING_RUNS])
        self._base("#hosts", Figures).show([host_cells(row) for row in hosts])
        self._base("#events", Lines).show([each.line for each in self._source.happened()])
        await self._show_one()

    async def _show_one(self) -> None:
        one = self.screen
        if not isinstance(one, OneWorkload) or self.now is None:
            return
        happened = [each.line for each in self._source.happened() if each.concerns(one.address)]
        prints = await self._source.prints(one.address)
        if one.is_attached:
            one.show(self.before if self.before is not None else self.now, self.now, prints, happened)

    def _base(self, selector: str, kind: type[W]) -> W:
        """A part of the first screen, also while another lies over it."""
        return self.screen_stack[0].query_one(selector, kind)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Enter has a meaning on the first screen only."""
        return action != "open" or not isinstance(self.screen, OneWorkload)

    async def action_open(self) -> None:
        address = self._base("#workloads", Figures).chosen
        if "." in address:
            await self.push_screen(OneWorkload(address))
            await self._show_one()
