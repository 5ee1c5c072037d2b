"""What stands in the tables of `motes top`, as text. A core: no I/O, no clock."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from motes.live.rates import HostRow, WorkloadRow
from motes.model.instance import InstanceReport
from motes.model.units import format_bytes

RELEASE_DIGITS = 7


class Column(NamedTuple):
    """Of numbers, set to the right; `width` has the space before it."""

    title: str
    width: int


RATES = (
    Column("calls/s", 8),
    Column("err/s", 6),
    Column("p50", 7),
    Column("p99", 7),
    Column("queue", 6),
    Column("busy", 5),
    Column("inst", 5),
    Column("cpu", 6),
    Column("memory", 9),
)
HOSTS = (Column("state", 9), Column("spaces", 12), Column("cpu", 10), Column("memory", 20))
INSTANCES = (
    Column("pid", 8),
    Column("release", 9),
    Column("state", 9),
    Column("calls", 8),
    Column("cpu s", 8),
    Column("memory", 9),
)


def summary(rows: Sequence[WorkloadRow], hosts: Sequence[HostRow]) -> str:
    """One line for the whole cluster, for 80 columns."""
    calls = sum(row.calls_per_s for row in rows)
    spaces = f"{sum(host.spaces for host in hosts)} of {sum(host.spaces_lent for host in hosts)}"
    up = sum(1 for host in hosts if host.state == "up")
    used, lent = sum(host.memory_bytes for host in hosts), sum(host.memory_lent_bytes for host in hosts)
    memory = f"{format_bytes(used)} of {format_bytes(lent)}"
    return f"{up} of {len(hosts)} hosts up  {calls:.0f} calls/s  {spaces} spaces  {memory}"


def workload_cells(row: WorkloadRow) -> tuple[str, ...]:
    return (
        row.name,
        f"{row.calls_per_s:.0f}",
        f"{row.errors_per_s:.0f}",
        duration(row.p50_s),
        duration(row.p99_s),
        str(row.queue),
        str(row.busy),
        str(row.instances),
        f"{row.cpus:.2f}",
        memory(row.memory_bytes),
    )


def host_cells(row: HostRow) -> tuple[str, ...]:
    used = f"{format_bytes(row.memory_bytes)}/{format_bytes(row.memory_lent_bytes)}"
    return row.name, row.state, f"{row.spaces}/{row.spaces_lent}", f"{row.cpus:.2f}/{row.cpus_lent:g}", used


def instance_cells(each: InstanceReport) -> tuple[str, ...]:
    release = each.release[:RELEASE_DIGITS]
    used = f"{each.cpu_s:.2f}", memory(each.memory_bytes)
    return each.host, str(each.pid or "-"), release, str(each.state), str(each.calls), *used


def memory(count: int) -> str:
    return format_bytes(count) if count else "-"


def duration(seconds: float | None) -> str:
    """In at most six characters."""
    if seconds is None:
        return "-"
    if seconds < 1:
        return f"{seconds * 1000:.1f}ms" if seconds < 0.01 else f"{seconds * 1000:.0f}ms"
    return f"{seconds:.1f}s"
