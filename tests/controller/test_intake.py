"""How much of what one host tells is taken, and that the others lose nothing by it."""

from __future__ import annotations

import msgspec
import pytest

from controller.keeper_bench import Bench
from motes.bus.wire import Message
from motes.controller.core.state import State
from motes.controller.hearing import read_state
from motes.controller.intake import (
    BATCHES_BURST,
    BATCHES_PER_S,
    EVENTS_BURST,
    EVENTS_PER_S,
    LOGS_BURST,
    LOGS_PER_S,
    REPORT_BYTES_BURST,
    REPORT_BYTES_PER_S,
    REPORTS_BURST,
    TELL_INTERVAL_S,
    WHILE_LOADING,
    Intake,
)


def new_intake() -> Intake:
    return Intake(State(0, lambda host, address, held: True))


def report(size: int = 100) -> Message:
    return Message("report.a.state", "", bytes(size), False)


def taken(intake: Intake, host: str, count: int, now: float) -> int:
    return sum(intake.takes_log(host, now) for _ in range(count))


def test_a_host_may_send_a_burst_and_then_so_much_a_second() -> None:
    intake = new_intake()
    assert taken(intake, "a", 10_000, 0.0) == LOGS_BURST
    assert taken(intake, "a", 10_000, 1.0) == LOGS_PER_S
    assert sum(intake.takes_event("a", 1.0) for _ in range(10_000)) == EVENTS_BURST
    assert sum(intake.takes_event("a", 2.0) for _ in range(10_000)) == EVENTS_PER_S


def test_of_a_million_batches_so_many_a_second_are_looked_at() -> None:
    intake = new_intake()
    taken = sum(intake.takes_batch("a", number / 1e6) for number in range(1_000_000))
    assert BATCHES_BURST <= taken <= BATCHES_BURST + BATCHES_PER_S
    assert intake.takes_batch("b", 1.0)


def test_what_one_sends_too_much_costs_another_nothing() -> None:
    intake = new_intake()
    taken(intake, "loud", 10_000, 0.0)
    assert taken(intake, "quiet", 10, 0.0) == 10


def test_what_was_dropped_is_told_once_a_second_with_its_host_and_count() -> None:
    intake = new_intake()
    taken(intake, "a", int(LOGS_BURST) + 7, 0.0)
    for _ in range(int(EVENTS_BURST) + 2):
        intake.takes_event("a", 0.0)
    (told,) = intake.tick(0.0)
    assert (told.what, told.host) == ("reports.dropped", "a")
    assert told.detail.startswith("7 log messages and 2 events of it were not kept")
    taken(intake, "a", 1, 0.0)
    assert intake.tick(TELL_INTERVAL_S / 2) == []
    (told,) = intake.tick(TELL_INTERVAL_S)
    assert told.detail.startswith("1 log messages of it")
    assert intake.tick(2 * TELL_INTERVAL_S) == []


def test_of_reports_that_come_too_soon_the_newest_is_looked_at_later() -> None:
    intake = new_intake()
    reports = [report() for _ in range(int(REPORTS_BURST) + 5)]
    assert [intake.takes_report("a", each, 0.0) for each in reports] == [True] * int(REPORTS_BURST) + [False] * 5
    assert intake.late(0.0) == [reports[-1]] and intake.late(0.0) == []


def test_a_report_in_time_takes_the_place_of_one_that_waits() -> None:
    intake = new_intake()
    for _ in range(int(REPORTS_BURST) + 1):
        intake.takes_report("a", report(), 0.0)
    assert intake.takes_report("a", report(), 1.0)
    assert intake.late(1.0) == []


def test_of_what_one_host_reports_so_many_bytes_a_second_are_read_and_the_newest_last() -> None:
    """To read and compare one of some MB takes the controller longer than a host needs to send the next."""
    intake, read_bytes = new_intake(), 0
    for tenth in range(1000):
        large = report(4 * 2**20)
        found = [large] if intake.takes_report("evil", large, tenth / 10) else intake.late(tenth / 10)
        read_bytes += sum(len(each.data) for each in found)
        assert intake.takes_report("honest", report(10**4), tenth / 10)
    assert read_bytes <= REPORT_BYTES_BURST + 100 * REPORT_BYTES_PER_S + 4 * 2**20
    assert intake.late(200.0) == [large]


def test_a_host_that_has_more_instances_than_any_says_nothing() -> None:
    told = {"host": "evil", "boot": "b", "pid": 1, "offer": {}, "python": "3.11"}
    data = [msgspec.msgpack.encode({**told, "running": {"a.f": list(range(count))}}) for count in (10**5, 10**5 + 1)]
    assert read_state(data[0]).running
    with pytest.raises(msgspec.DecodeError):
        read_state(data[1])


def test_a_host_logs_for_workloads_that_it_was_given_and_no_others() -> None:
    bench = Bench("a", "b")
    bench.deploy()
    intake = Intake(bench.core.state)
    assert not intake.may_log("a", "app", "f")
    bench.activate()
    assert intake.may_log("a", "app", "f") and intake.may_log("a", "app", WHILE_LOADING)
    assert not intake.may_log("c", "app", "f") and not intake.may_log("c", "app", WHILE_LOADING)
    assert not intake.may_log("a", "app", "g") and not intake.may_log("a", "other", WHILE_LOADING)
    bench.do(bench.core.on_removed("app", bench.now))
    assert not intake.may_log("a", "app", "f")


def test_hosts_that_are_heard_no_more_are_forgotten() -> None:
    intake = new_intake()
    for number in range(100):
        intake.takes_beat(f"h{number}", 0.0)
    intake.tick(1000.0)
    assert not intake._senders
