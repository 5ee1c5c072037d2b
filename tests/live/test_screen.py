"""The screen, driven as a user does, at 80 columns."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from textual.widgets import DataTable, RichLog, Static

from motes.live.rates import Look
from motes.live.screen import OneWorkload, Top, duration
from motes.model.host import HostInstances, HostStatus, Load, Offer
from motes.model.instance import InstanceReport, InstanceState
from motes.model.totals import Totals

EVIL = "[bold]no markup[/bold] \\x1b[31m"


class Cluster:
    """Two workloads; the second gets 90 calls a look."""

    def __init__(self) -> None:
        self.looks = 0
        self.is_away = False
        self.asked: list[str] = []

    async def look(self) -> Look:
        if self.is_away:
            raise OSError("no cluster")
        self.looks += 1
        instances = [
            InstanceReport("quiet", "f", "r", "local", 11, InstanceState.IDLE, 0.0, 1, 0.5, 2**20),
            InstanceReport("busy", "work", "r", "local", 22, InstanceState.BUSY, 0.0, 7, 1.25, 3 * 2**20),
        ]
        totals = {
            "quiet.f": Totals(calls=1),
            "busy.work": Totals(calls=90 * self.looks, answers=90 * self.looks, buckets=(90 * self.looks,)),
        }
        told = HostInstances("local", instances, {"busy.work": Load(4, 1, 0)}, totals)
        status = HostStatus("local", 1, "up", Offer(2.0, 2**30, 100), {"cpu_s": 1.0, "memory_bytes": 2.0**22}, 2)
        return Look(float(self.looks), {"local": told}, {"local": status})

    async def events(self) -> list[str]:
        return [f"event {self.looks} {EVIL}"]

    async def logs(self, address: str) -> list[str]:
        self.asked.append(address)
        return [f"a line of {address} {EVIL}"]


def drive(test: Callable[[Top, Cluster, object], Awaitable[None]]) -> None:
    async def run() -> None:
        cluster = Cluster()
        app = Top(cluster)
        async with app.run_test(size=(80, 24)) as pilot:
            await app.refresh_all()
            await pilot.pause()
            await test(app, cluster, pilot)

    asyncio.run(asyncio.wait_for(run(), 60))


def cells(app: Top, selector: str) -> list[list[str]]:
    table = app.screen.query_one(selector, DataTable)
    return [[str(cell) for cell in table.get_row_at(index)] for index in range(table.row_count)]


def test_the_busiest_workload_stands_first_with_its_figures() -> None:
    async def test(app: Top, cluster: Cluster, pilot: object) -> None:
        busy, quiet = cells(app, "#workloads")
        assert busy == ["busy.work", "90", "0", "0.5ms", "1.0ms", "4", "1", "1", "0.0", "3 MiB"]
        assert quiet[0] == "quiet.f"
        assert cells(app, "#hosts") == [["local", "up", "2/100", "0.0/2", "4 MiB/1 GiB"]]
        assert "1 of 1 hosts up  90 calls/s  2 of 100 spaces" in str(app.query_one("#summary", Static).render())
        lines = [line.text for line in app.query_one("#events", RichLog).lines]
        assert lines[-1].startswith("event 2 [bold]no markup[/bold]"), "what an app wrote is shown as it is"

    drive(test)


def test_every_column_fits_into_80() -> None:
    async def test(app: Top, cluster: Cluster, pilot: object) -> None:
        for selector in ("#workloads", "#hosts"):
            assert app.query_one(selector, DataTable).virtual_size.width <= 80, selector

    drive(test)


def test_enter_looks_into_a_workload_and_escape_goes_back() -> None:
    async def test(app: Top, cluster: Cluster, pilot: object) -> None:
        await pilot.press("down", "enter")  # type: ignore[attr-defined]
        await pilot.pause()  # type: ignore[attr-defined]
        assert isinstance(app.screen, OneWorkload) and cluster.asked[-1] == "quiet.f"
        assert cells(app, "#instances") == [["local", "11", "idle", "1", "0.50", "1 MiB"]]
        await app.refresh_all()
        await pilot.pause()  # type: ignore[attr-defined]
        assert "a line of quiet.f [bold]" in app.screen.query_one("#logs", RichLog).lines[0].text
        await pilot.press("escape")  # type: ignore[attr-defined]
        assert len(cells(app, "#workloads")) == 2
        await pilot.press("q")  # type: ignore[attr-defined]

    drive(test)


def test_a_cluster_that_is_away_for_a_moment_is_said_and_comes_back() -> None:
    async def test(app: Top, cluster: Cluster, pilot: object) -> None:
        cluster.is_away = True
        await app.refresh_all()
        assert "no answer from the cluster" in str(app.query_one("#summary", Static).render())
        assert len(cells(app, "#workloads")) == 2
        cluster.is_away = False
        await app.refresh_all()
        assert "hosts up" in str(app.query_one("#summary", Static).render())

    drive(test)


@pytest.mark.parametrize("seconds", [None, 0.0, 0.0004, 0.0099, 0.01, 0.5, 0.999, 1.0, 59.9])
def test_a_time_takes_six_characters(seconds: float | None) -> None:
    assert 1 <= len(duration(seconds)) <= 6
