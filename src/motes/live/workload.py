"""The look into one workload: how it fares on each host, its instances, what it prints and what happened to it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.screen import Screen
from textual.widgets import Footer, Static

from motes.live.cells import INSTANCES, RATES, instance_cells, workload_cells
from motes.live.rates import Look, address_of, rows_by_host, workload_row
from motes.live.widgets import Figures, Lines


class OneWorkload(Screen[None]):
    """Everything about the workload at `address`."""

    CSS = """
    #by-host { max-height: 25%; }
    #instances { max-height: 30%; margin-top: 1; }
    #prints { height: 2fr; }
    #happened { height: 1fr; min-height: 4; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "app.pop_screen", "Back"),
        Binding("q", "app.quit", "Quit"),
        Binding("tab", "app.focus_next", "Next part"),
    ]

    def __init__(self, address: str) -> None:
        super().__init__()
        self.address = address

    def compose(self) -> ComposeResult:
        yield Static(Text(self.address), classes="title")
        yield Figures("by-host", "", RATES)
        yield Figures("instances", "instance at", INSTANCES)
        yield Lines("prints", "what it prints")
        yield Lines("happened", "what happened")
        yield Footer()

    def show(self, before: Look, now: Look, prints: Sequence[str], happened: Sequence[str]) -> None:
        """Replace what stands there."""
        everywhere = workload_row(self.address, before, now)._replace(name="all hosts")
        rows = [everywhere, *rows_by_host(self.address, before, now)]
        self.query_one("#by-host", Figures).show([workload_cells(row) for row in rows])
        told = [host for host in now.hosts.values() if host is not None]
        mine = [each for host in told for each in host.instances if address_of(each) == self.address]
        self.query_one("#instances", Figures).show([instance_cells(each) for each in mine])
        self.query_one("#prints", Lines).show(prints)
        self.query_one("#happened", Lines).show(happened)
