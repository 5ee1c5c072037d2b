"""The screen, driven as a user does, at 80 columns."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from textual.app import App
from textual.pilot import Pilot
from textual.widgets import Static

from motes.live.cells import duration, summary
from motes.live.rates import HostRow, Look, WorkloadRow
from motes.live.screen import Happened, Top
from motes.live.widgets import NOTHING, Figures, Lines
from motes.live.workload import OneWorkload
from motes.model.host import HostInstances, HostStatus, Load, Offer
from motes.model.instance import InstanceReport, InstanceState
from motes.model.totals import Totals

EVIL = "[bold]no markup[/bold] \\x1b[31m"
LONG = f"an-app-with-a-long-name.{'f' * 60}"


class Cluster:
    """Two workloads on two hosts; `busy` gets so many calls a look, on the first."""

    def __init__(self) -> None:
        self.looks = 0
        self.is_away = self.is_new = False
        self.asked: list[str] = []
        self.calls = {"quiet.f": 0, "busy.work": 90}
        self.events = [
            Happened("quiet", "f", f"quiet began {EVIL}"),
            Happened("busy", "", "all of busy"),
            Happened("busy", "work", "work began"),
            Happened("busy", "other", "another began"),
        ]
        self.printed = [f"a line {EVIL}"]

    async def look(self) -> Look:
        if self.is_away:
            raise OSError("no cluster")
        self.looks += 1
        instances = [
            InstanceReport("quiet", "f", "0123456789ab", "local", 11, InstanceState.IDLE, 0.0, 1, 0.5, 2**20),
            InstanceReport("busy", "work", "r", "local", 22, InstanceState.BUSY, 0.0, 7, 1.25, 3 * 2**20),
        ]
        so_far = {address: each * self.looks for address, each in self.calls.items()}
        totals = {address: Totals(calls=each, answers=each, buckets=(each,)) for address, each in so_far.items()}
        told = {
            "local": HostInstances("local", instances, {"busy.work": Load(4, 1, 0)}, totals),
            "second": HostInstances("second", [], {}, {"busy.work": Totals(10, 0, 0, 0.0, 10, 0.0, (0, 0, 10))}),
        }
        if self.is_new:
            told = {"local": HostInstances("local", [])}
        lends, used = Offer(2.0, 2**30, 100), {"cpu_s": 1.0, "memory_bytes": 2.0**22}
        statuses = {
            "local": HostStatus("local", 1, "up", lends, used, 2),
            "b": HostStatus("b", 2, "up", lends, used, 0),
        }
        return Look(float(self.looks), told, statuses)

    def happened(self) -> list[Happened]:
        return self.events

    async def prints(self, address: str) -> list[str]:
        self.asked.append(address)
        return self.printed


def drive(test: Callable[[Top, Cluster, Pilot[None]], Awaitable[None]], columns: int = 80, lines: int = 24) -> None:
    async def run() -> None:
        cluster = Cluster()
        app = Top(cluster)
        async with app.run_test(size=(columns, lines)) as pilot:
            await look_again(app, pilot)
            await test(app, cluster, pilot)

    asyncio.run(asyncio.wait_for(run(), 60))


async def look_again(app: Top, pilot: Pilot[None]) -> None:
    await app.refresh_all()
    await pilot.pause()


def cells(app: App[Any], id: str) -> list[list[str]]:
    table = app.screen.query_one(f"#{id}", Figures)
    return [[str(cell) for cell in table.get_row_at(index)] for index in range(table.row_count)]


def widths(app: App[Any]) -> dict[str | None, int]:
    """Of the tables on the screen, in cells."""
    return {table.id: table.virtual_size.width for table in app.screen.query(Figures)}


def lines(app: App[Any], id: str) -> list[str]:
    return [line.text.rstrip() for line in app.screen.query_one(f"#{id}", Lines).lines]


def test_the_busiest_workload_stands_first_with_its_figures() -> None:
    async def test(app: Top, cluster: Cluster, pilot: Pilot[None]) -> None:
        busy, quiet = cells(app, "workloads")
        assert busy == ["busy.work", "90", "0", "0.5ms", "1.0ms", "4", "1", "1", "0.00", "3 MiB"]
        assert quiet[0] == "quiet.f"
        assert ["local", "up", "2/100", "0.00/2", "4 MiB/1 GiB"] in cells(app, "hosts")
        assert "2 of 2 hosts up  90 calls/s  2 of 200 spaces" in str(app.query_one("#summary", Static).render())

    drive(test)


def test_what_happened_before_is_there_at_once_as_it_was_told() -> None:
    async def test(app: Top, cluster: Cluster, pilot: Pilot[None]) -> None:
        shown = lines(app, "events")
        assert shown[0].startswith("quiet began [bold]no markup[/bold]"), "what an app wrote is shown as it is"
        assert len(shown) == 4
        cluster.events = [*cluster.events, Happened("c", "d", "one more")]
        await look_again(app, pilot)
        assert lines(app, "events")[-1] == "one more"

    drive(test)


@pytest.mark.parametrize("columns", [80, 132])
def test_every_column_fits_and_names_get_the_width_that_is_left(columns: int) -> None:
    async def test(app: Top, cluster: Cluster, pilot: Pilot[None]) -> None:
        cluster.calls[LONG] = 1
        await look_again(app, pilot)
        assert widths(app) == dict.fromkeys(("workloads", "hosts"), columns - 1)
        name = cells(app, "workloads")[1][0]
        assert name.endswith("…") and len(name) == columns - 60, "a name that is cut says so"
        await pilot.press("enter")
        await pilot.pause()
        assert widths(app) == dict.fromkeys(("by-host", "instances"), columns - 1)

    drive(test, columns)


def test_a_terminal_that_changes_its_size_is_followed() -> None:
    async def test(app: Top, cluster: Cluster, pilot: Pilot[None]) -> None:
        cluster.calls[LONG] = 1
        await pilot.resize_terminal(132, 24)
        await look_again(app, pilot)
        assert len(cells(app, "workloads")[1][0]) == 72

    drive(test)


def test_enter_looks_into_a_workload_and_escape_goes_back() -> None:
    async def test(app: Top, cluster: Cluster, pilot: Pilot[None]) -> None:
        await pilot.press("down", "enter")
        await pilot.pause()
        assert isinstance(app.screen, OneWorkload) and cluster.asked[-1] == "quiet.f"
        assert cells(app, "instances") == [["local", "11", "0123456", "idle", "1", "0.50", "1 MiB"]]
        await look_again(app, pilot)
        assert lines(app, "prints")[0].startswith("a line [bold]")
        await pilot.press("escape")
        assert len(cells(app, "workloads")) == 2
        await pilot.press("q")

    drive(test)


def test_the_look_has_the_times_of_all_hosts_and_of_each_and_what_happened_to_it() -> None:
    async def test(app: Top, cluster: Cluster, pilot: Pilot[None]) -> None:
        await pilot.press("enter")
        await look_again(app, pilot)
        whole, local, second = cells(app, "by-host")
        assert whole == ["all hosts", "90", "0", "0.5ms", "1.0ms", "4", "1", "1", "0.00", "3 MiB"]
        assert local == ["local", *whole[1:]]
        assert second == ["second", "0", "0", "-", "-", "0", "0", "0", "0.00", "-"]
        assert lines(app, "happened") == ["all of busy", "work began"]

    drive(test)


def test_all_parts_of_the_look_are_seen_on_a_small_terminal_and_a_workload_that_is_silent_says_so() -> None:
    async def test(app: Top, cluster: Cluster, pilot: Pilot[None]) -> None:
        cluster.printed = []
        await pilot.press("enter")
        await look_again(app, pilot)
        assert lines(app, "prints") == [NOTHING]
        parts = [*app.screen.query(Figures), *app.screen.query(Lines)]
        assert [part.id for part in parts] == ["by-host", "instances", "prints", "happened"]
        for part in parts:
            assert part.region.height >= 2 and part.region.bottom <= 23, part.id

    drive(test)


def test_the_cursor_stays_with_what_it_was_moved_to_when_another_becomes_the_busiest() -> None:
    async def test(app: Top, cluster: Cluster, pilot: Pilot[None]) -> None:
        await pilot.press("down")
        cluster.calls["quiet.f"] = 50_000
        await look_again(app, pilot)
        assert cells(app, "workloads")[0][0] == "quiet.f"
        assert app.query_one("#workloads", Figures).cursor_row == 0
        await pilot.press("enter")
        assert isinstance(app.screen, OneWorkload) and app.screen.address == "quiet.f"

    drive(test)


def test_until_it_is_moved_the_cursor_is_on_the_busiest() -> None:
    async def test(app: Top, cluster: Cluster, pilot: Pilot[None]) -> None:
        cluster.calls["quiet.f"] = 50_000
        await look_again(app, pilot)
        await pilot.press("enter")
        assert isinstance(app.screen, OneWorkload) and app.screen.address == "quiet.f"

    drive(test)


def test_what_somebody_scrolled_up_to_stays_while_more_comes() -> None:
    async def test(app: Top, cluster: Cluster, pilot: Pilot[None]) -> None:
        cluster.events = [Happened("busy", "work", f"event {number}") for number in range(100)]
        await look_again(app, pilot)
        shown = app.query_one("#events", Lines)
        assert shown.is_vertical_scroll_end
        shown.scroll_to(y=10, animate=False)
        await pilot.pause()
        cluster.events = [*cluster.events, Happened("busy", "work", "one more")]
        await look_again(app, pilot)
        assert shown.scroll_y == 10 and lines(app, "events")[-1] == "event 99"
        shown.scroll_end(animate=False)
        await pilot.pause()
        await look_again(app, pilot)
        assert lines(app, "events")[-1] == "one more"

    drive(test)


def test_enter_is_offered_only_where_it_does_something() -> None:
    async def test(app: Top, cluster: Cluster, pilot: Pilot[None]) -> None:
        assert "enter" in app.active_bindings
        await pilot.press("enter")
        await pilot.pause()
        assert app.active_bindings["enter"].binding.action != "open"
        await pilot.press("enter")
        assert len(app.screen_stack) == 2

    drive(test)


def test_without_colour_the_cursor_is_seen_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(app: Top, cluster: Cluster, pilot: Pilot[None]) -> None:
        assert app.query_one("#workloads", Figures).get_component_rich_style("datatable--cursor").reverse
        assert app.native_ansi_color, "the terminal's own two colours, not greys on black"

    monkeypatch.setenv("NO_COLOR", "1")
    drive(test)


def test_a_cluster_that_is_away_for_a_moment_is_said_and_comes_back() -> None:
    async def test(app: Top, cluster: Cluster, pilot: Pilot[None]) -> None:
        cluster.is_away = True
        await app.refresh_all()
        assert "no answer from the cluster" in str(app.query_one("#summary", Static).render())
        assert len(cells(app, "workloads")) == 2
        cluster.is_away = False
        await app.refresh_all()
        assert "hosts up" in str(app.query_one("#summary", Static).render())

    drive(test)


def test_before_the_first_call_the_screen_says_so_and_has_nothing_to_look_into() -> None:
    async def test(app: Top, cluster: Cluster, pilot: Pilot[None]) -> None:
        cluster.is_new = True
        await look_again(app, pilot)
        assert cells(app, "workloads") == [["nothing was called", *"---------"]]
        await pilot.press("enter")
        assert len(app.screen_stack) == 1

    drive(test)


def test_the_part_that_the_keys_scroll_is_seen_without_colour() -> None:
    async def test(app: Top, cluster: Cluster, pilot: Pilot[None]) -> None:
        shown = app.query_one("#events", Lines)
        assert shown.styles.border_top[0] == "solid"
        await pilot.press("tab", "tab")
        assert shown.has_focus and shown.styles.border_top[0] == "heavy"

    drive(test)


def test_a_large_cluster_is_summed_up_in_80_columns() -> None:
    row = WorkloadRow("a.f", 123_456.0, 0.0, None, None, 0, 0, 0, 0.0, 0)
    hosts = [HostRow(str(number), "up", 99, 100, 1.0, 2.0, 2**29, 2**30) for number in range(100)]
    assert len(summary([row], hosts)) <= 80


@pytest.mark.parametrize("seconds", [None, 0.0, 0.0004, 0.0099, 0.01, 0.5, 0.999, 1.0, 59.9])
def test_a_time_takes_six_characters(seconds: float | None) -> None:
    assert 1 <= len(duration(seconds)) <= 6


def test_who_leaves_while_the_cluster_is_asked_is_shown_no_error() -> None:
    async def run() -> None:
        asked, answers = asyncio.Event(), asyncio.Event()

        class Slow(Cluster):
            async def look(self) -> Look:
                if self.looks:
                    asked.set()
                    await answers.wait()
                return await super().look()

        app = Top(Slow())
        async with app.run_test():
            looking = asyncio.create_task(app.refresh_all())
            await asked.wait()
        answers.set()
        await looking

    asyncio.run(asyncio.wait_for(run(), 60))
