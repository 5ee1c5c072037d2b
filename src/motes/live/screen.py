"""The screen of `motes top`: workloads, hosts and what happens; on Enter one workload with its instances and logs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Protocol, TypeVar

from rich.text import Text
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import Screen
from textual.widget import Widget
from textual.widgets import DataTable, Footer, RichLog, Static

from motes.live.rates import HostRow, Look, WorkloadRow, host_rows, workload_rows
from motes.model.instance import InstanceReport
from motes.model.units import format_bytes

W = TypeVar("W", bound=Widget)

EVERY_S = 1.0
LINES_KEPT = 500
_WORKLOADS = ("workload", "calls/s", "err/s", "p50", "p99", "queue", "busy", "inst", "cpu", "memory")
_WIDTHS = (20, 8, 6, 7, 7, 6, 5, 5, 5, 10)
"""Together what a small terminal has; each with the space before it."""
_HOSTS = ("host", "state", "spaces", "cpu", "memory")
_INSTANCES = ("host", "pid", "state", "calls", "cpu s", "memory")


class Source(Protocol):
    """Where the screen gets what it shows."""

    async def look(self) -> Look: ...

    async def events(self) -> list[str]:
        """Lines for what happened since the last time."""

    async def logs(self, address: str) -> list[str]:
        """The last lines that a workload wrote."""


class Top(App[None]):
    """The whole screen."""

    TITLE = "motes top"
    ENABLE_COMMAND_PALETTE = False
    CSS = """
    DataTable { height: auto; max-height: 12; }
    #hosts { max-height: 6; }
    .title { text-style: bold; }
    RichLog { height: 1fr; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("q", "quit", "Quit"),
        Binding("enter", "open", "Look into it", priority=True),
    ]

    def __init__(self, source: Source) -> None:
        super().__init__()
        self._source = source
        self.before: Look | None = None
        self.now: Look | None = None

    def compose(self) -> ComposeResult:
        yield Static("connecting ...", id="summary", classes="title")
        yield DataTable(id="workloads", cursor_type="row", cell_padding=0)
        yield DataTable(id="hosts", show_cursor=False)
        yield RichLog(id="events", max_lines=LINES_KEPT, wrap=False, markup=False)
        yield Footer()

    async def on_mount(self) -> None:
        for name, width in zip(_WORKLOADS, _WIDTHS, strict=True):
            self.workloads.add_column(Text(name, justify="left" if name == "workload" else "right"), width=width)
        self.query_one("#hosts", DataTable).add_columns(*_HOSTS)
        await self.refresh_all()
        self.set_interval(EVERY_S, self.refresh_all)

    @property
    def workloads(self) -> DataTable[Text]:
        return self._base("#workloads", DataTable)

    async def refresh_all(self) -> None:
        """Look again, and show it."""
        try:
            self.now, self.before = await self._source.look(), self.now
            lines = await self._source.events()
        except Exception as error:
            # The cluster is away for a moment: the screen stays, and says so.
            self._base("#summary", Static).update(Text(f"no answer from the cluster: {error}"))
            return
        before = self.before if self.before is not None else self.now
        rows, hosts = workload_rows(before, self.now), host_rows(before, self.now)
        self._base("#summary", Static).update(Text(summary(rows, hosts)))
        _fill(self._base("#workloads", DataTable), [(row.address, workload_cells(row)) for row in rows])
        _fill(self._base("#hosts", DataTable), [(row.name, host_cells(row)) for row in hosts])
        for line in lines:
            self._base("#events", RichLog).write(Text(line))
        if isinstance(self.screen, OneWorkload):
            await self.screen.show(self.now, await self._source.logs(self.screen.address))

    def _base(self, selector: str, kind: type[W]) -> W:
        """A part of the first screen, also while another lies over it."""
        return self.screen_stack[0].query_one(selector, kind)

    async def action_open(self) -> None:
        if isinstance(self.screen, OneWorkload) or self.now is None or not self.workloads.row_count:
            return
        row = self.workloads.coordinate_to_cell_key(self.workloads.cursor_coordinate).row_key
        await self.push_screen(OneWorkload(str(row.value)))
        assert isinstance(self.screen, OneWorkload)
        await self.screen.show(self.now, await self._source.logs(self.screen.address))


class OneWorkload(Screen[None]):
    """The instances of a workload, and what it writes."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "app.pop_screen", "Back"),
        Binding("q", "app.quit", "Quit"),
    ]

    def __init__(self, address: str) -> None:
        super().__init__()
        self.address = address

    def compose(self) -> ComposeResult:
        with Vertical():
            yield Static(Text(self.address), classes="title")
            yield DataTable(id="instances", cursor_type="row")
            yield RichLog(id="logs", max_lines=LINES_KEPT, wrap=False, markup=False)
        yield Footer()

    def on_mount(self) -> None:
        self.query_one("#instances", DataTable).add_columns(*_INSTANCES)

    async def show(self, now: Look, lines: Sequence[str]) -> None:
        """Replace what stands there."""
        told = [host for host in now.hosts.values() if host is not None]
        mine = [each for host in told for each in host.instances if f"{each.app}.{each.workload}" == self.address]
        rows = [(f"{each.host} {each.pid}", instance_cells(each)) for each in mine]
        _fill(self.query_one("#instances", DataTable), rows)
        log = self.query_one("#logs", RichLog)
        log.clear()
        for line in lines:
            log.write(Text(line))


def _fill(table: DataTable[Text], rows: Sequence[tuple[str, Sequence[str]]]) -> None:
    """Show these rows; the cursor stays where it is, as far as there are rows."""
    at = table.cursor_row
    table.clear()
    for key, cells in rows:
        table.add_row(
            *(Text(cell, justify="left" if not index else "right") for index, cell in enumerate(cells)), key=key
        )
    if rows:
        table.move_cursor(row=min(at, len(rows) - 1))


def summary(rows: Sequence[WorkloadRow], hosts: Sequence[HostRow]) -> str:
    """One line for the whole cluster, for 80 columns."""
    calls = sum(row.calls_per_s for row in rows)
    used, lent = sum(host.spaces for host in hosts), sum(host.spaces_lent for host in hosts)
    up = sum(1 for host in hosts if host.state == "up")
    memory = format_bytes(sum(host.memory_bytes for host in hosts))
    return f"{up} of {len(hosts)} hosts up  {calls:.0f} calls/s  {used} of {lent} spaces  {memory}"


def workload_cells(row: WorkloadRow) -> tuple[str, ...]:
    return (
        row.address,
        f"{row.calls_per_s:.0f}",
        f"{row.errors_per_s:.0f}",
        duration(row.p50_s),
        duration(row.p99_s),
        str(row.queue),
        str(row.busy),
        str(row.instances),
        f"{row.cpus:.1f}",
        format_bytes(row.memory_bytes) if row.memory_bytes else "-",
    )


def host_cells(row: HostRow) -> tuple[str, ...]:
    memory = f"{format_bytes(row.memory_bytes)}/{format_bytes(row.memory_lent_bytes)}"
    return row.name, row.state, f"{row.spaces}/{row.spaces_lent}", f"{row.cpus:.1f}/{row.cpus_lent:g}", memory


def instance_cells(each: InstanceReport) -> tuple[str, ...]:
    memory = format_bytes(each.memory_bytes) if each.memory_bytes else "-"
    return each.host, str(each.pid), str(each.state), str(each.calls), f"{each.cpu_s:.2f}", memory


def duration(seconds: float | None) -> str:
    """In at most six characters."""
    if seconds is None:
        return "-"
    if seconds < 1:
        return f"{seconds * 1000:.1f}ms" if seconds < 0.01 else f"{seconds * 1000:.0f}ms"
    return f"{seconds:.1f}s"
