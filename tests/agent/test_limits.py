"""Limits, crashes, and what callers hear of them."""

from __future__ import annotations

import pytest

from agent.lent_host import DONE, LentHost, function
from motes.agent.core.effects import End
from motes.agent.core.limits import FAR_OVER, PRESSURE_S, THREAD_LIMIT
from motes.agent.core.machine import OUTPUT_LIMIT_BYTES, Usage
from motes.agent.core.pool import CRASHES_FREE
from motes.errors import (
    Exited,
    LimitExceeded,
    TimedOut,
)
from motes.model.call import STATUS_ERROR, STATUS_TRY_ELSEWHERE
from motes.model.host import Offer
from motes.model.instance import EndReason
from motes.model.release import MIB


@pytest.mark.parametrize(
    ("usage", "reason"),
    [
        (Usage(0.0, 65 * MIB), "memory_limit"),
        (Usage(0.0, MIB, THREAD_LIMIT + 1), "process_limit"),
    ],
)
def test_over_a_limit_the_instance_ends_and_its_caller_hears_why(usage: Usage, reason: str) -> None:
    host = LentHost(function(memory_bytes=64 * MIB))
    host.lease(ceiling=2, floor=2)
    call = host.call()
    neighbour = next(number for number in host.live() if number not in host.busy())
    host.do(host.machine.on_usage({host.busy()[0]: usage, neighbour: Usage(0.0, MIB)}, MIB, host.now))
    error = host.error(call)
    assert isinstance(error, LimitExceeded) and error.detail["reason"] == reason
    assert host.ends() == [reason]
    assert neighbour in host.live()


def test_too_much_output_ends_the_instance_and_its_caller_hears_why() -> None:
    host = LentHost()
    host.lease()
    call = host.call()
    (number,) = host.busy()
    host.do(host.machine.on_output(number, OUTPUT_LIMIT_BYTES))
    assert not host.answers(call)
    host.do(host.machine.on_output(number, 1))
    error = host.error(call)
    assert isinstance(error, LimitExceeded) and error.detail["reason"] == "output_limit"
    assert host.ends() == ["output_limit"]


def test_output_counts_for_each_call_anew() -> None:
    host = LentHost()
    host.lease()
    for _ in range(3):
        call = host.call()
        host.do(host.machine.on_output(host.busy()[0], OUTPUT_LIMIT_BYTES))
        host.reply(host.busy()[0])
        assert host.answers(call) == [DONE]


def test_an_answer_that_was_quicker_than_the_end_counts_and_the_instance_gets_no_further_call() -> None:
    host = LentHost(by_hand=[End])
    host.lease(ceiling=1)
    first, second = host.call(), host.call()
    (number,) = host.busy()
    host.do(host.machine.on_output(number, OUTPUT_LIMIT_BYTES + 1))
    host.reply(number)
    assert host.answers(first) == [DONE]
    assert host.delivered() == [number]
    host.end(number, EndReason.OUTPUT_LIMIT)
    assert not host.answers(second) and len(host.busy()) == 1


@pytest.mark.parametrize("reason", [EndReason.CRASHED, EndReason.EXITED, EndReason.PROTOCOL])
def test_a_process_that_ends_in_the_middle_of_a_call_is_told_to_the_caller(reason: EndReason) -> None:
    host = LentHost()
    host.lease()
    call = host.call()
    host.end(host.busy()[0], reason)
    error = host.error(call)
    assert isinstance(error, Exited) and error.detail["reason"] == reason.value
    assert host.answers(call)[0].status == STATUS_ERROR


@pytest.mark.parametrize("reason", [EndReason.CRASHED, EndReason.SPACE_FAILED])
def test_where_twice_is_harmless_a_call_whose_process_was_ended_gets_one_more(reason: EndReason) -> None:
    host = LentHost(function(idempotent=True))
    host.lease()
    call = host.call()
    host.end(host.busy()[0], reason)
    assert not host.answers(call)
    host.reply(host.busy()[0])
    assert host.answers(call) == [DONE]
    # This one ends every process that it gets.
    poison = host.call()
    host.end(host.busy()[0], reason)
    host.end(host.busy()[0], reason)
    assert isinstance(host.error(poison), Exited) and not host.busy()


@pytest.mark.parametrize("more", [{"streams": True}, {"idempotent": False}])
def test_half_a_stream_and_what_may_run_once_only_are_not_begun_anew(more: dict[str, bool]) -> None:
    host = LentHost(function(**{"idempotent": True, **more}))
    host.lease()
    call = host.call()
    host.end(host.busy()[0], EndReason.CRASHED)
    assert isinstance(host.error(call), Exited)


@pytest.mark.parametrize(("idempotent", "status"), [(True, STATUS_TRY_ELSEWHERE), (False, STATUS_ERROR)])
def test_what_runs_on_a_host_that_is_stopped_runs_elsewhere_where_that_is_harmless(
    idempotent: bool, status: int
) -> None:
    host = LentHost(function(idempotent=idempotent))
    host.lease()
    call = host.call()
    host.end(host.busy()[0], EndReason.HOST_STOPPED)
    assert host.answers(call)[0].status == status


@pytest.mark.parametrize("reason", [EndReason.EXITED, EndReason.MEMORY_LIMIT, EndReason.TIME_LIMIT])
def test_what_a_call_itself_brought_about_it_is_told_at_once(reason: EndReason) -> None:
    host = LentHost(function(idempotent=True))
    host.lease()
    call = host.call()
    host.end(host.busy()[0], reason)
    assert host.answers(call)[0].status == STATUS_ERROR


def test_a_poison_call_does_not_hold_up_the_next() -> None:
    host = LentHost()
    host.lease()
    for _ in range(CRASHES_FREE):
        host.call()
        host.end(host.busy()[0], EndReason.CRASHED)
    good = host.call()
    host.reply(host.busy()[0])
    assert host.answers(good) == [DONE]


def test_poison_among_good_calls_never_brings_a_backoff() -> None:
    host = LentHost()
    host.lease()
    for _ in range(20):
        host.call()
        host.end(host.busy()[0], EndReason.CRASHED)
        good = host.call()
        host.reply(host.busy()[0])
        assert host.answers(good) == [DONE]


def test_crashes_in_a_row_bring_a_backoff_that_grows() -> None:
    host = LentHost()
    host.lease()
    waits = []
    for _ in range(CRASHES_FREE + 3):
        host.call()
        began = host.now
        while not host.busy():
            host.wait(0.05)
        waits.append(host.now - began)
        host.end(host.busy()[0], EndReason.CRASHED)
    assert waits[:CRASHES_FREE] == [0.0] * CRASHES_FREE
    assert 0 < waits[-2] < waits[-1]


def test_a_crashed_instance_of_the_floor_is_replaced_and_the_reason_says_so() -> None:
    host = LentHost()
    host.lease(floor=1)
    host.end(host.live()[0], EndReason.CRASHED)
    assert host.starts() == ["floor", "restart"]


LENT_BYTES = 100 * MIB


class ShortOfMemory(LentHost):
    """It lends LENT_BYTES; `uses` says what its instances have, and all of it together."""

    def __init__(self, *names: str) -> None:
        functions = [function(name, memory_bytes=1024 * MIB) for name in names]
        super().__init__(*functions, offer=Offer(cpus=8.0, memory_bytes=LENT_BYTES, spaces=50))
        for name in names:
            self.lease(name)

    def uses(self, used: dict[int, int], more: int = 0) -> None:
        usages = {number: Usage(0.0, count) for number, count in used.items()}
        self.do(self.machine.on_usage(usages, sum(used.values()) + more, self.now))


def test_where_all_are_busy_and_too_much_is_used_the_newest_of_the_largest_app_ends_after_a_moment() -> None:
    host = ShortOfMemory("f")
    first, second = host.call(), host.call()
    host.wait(0.01)
    older, newer = host.busy()
    host.uses({older: 70 * MIB, newer: 32 * MIB})
    assert not host.ends()
    host.wait(PRESSURE_S / 2)
    host.uses({older: 70 * MIB, newer: 32 * MIB})
    assert not host.ends()
    host.wait(PRESSURE_S / 2)
    host.uses({older: 70 * MIB, newer: 32 * MIB})
    assert host.ends() == ["pressure"] and host.busy() == [older]
    error = host.error(second)
    assert isinstance(error, Exited) and error.detail["reason"] == "pressure"
    assert "host 'h' lends 100 MiB of memory" in error.message and "app 'app' has the most (102 MiB)" in error.message
    assert not host.answers(first)


def test_who_is_over_for_a_moment_only_ends_nobody() -> None:
    host = ShortOfMemory("f")
    host.call()
    (number,) = host.busy()
    for _ in range(10):
        host.uses({number: 101 * MIB})
        host.wait(PRESSURE_S * 0.9)
        host.uses({number: 99 * MIB})
        host.wait(PRESSURE_S * 0.9)
    assert not host.ends() and host.busy() == [number]


def test_far_over_what_is_lent_nobody_waits() -> None:
    host = ShortOfMemory("f")
    host.call()
    (number,) = host.busy()
    host.uses({number: int(LENT_BYTES * FAR_OVER) + 1})
    assert host.ends() == ["pressure"]


def test_while_one_is_on_its_way_out_no_other_has_to_go() -> None:
    host = ShortOfMemory("f")
    host.by_hand = (End,)
    host.call(), host.call()
    host.wait(0.01)
    for _ in range(20):
        host.uses(dict.fromkeys(host.busy(), 80 * MIB), more=80 * MIB)
        host.wait(1.0)
    assert len(host.seen(End)) == 1


def test_what_stands_ready_by_its_scale_goes_last_and_only_after_a_moment() -> None:
    host = ShortOfMemory("f")
    host.lease("f", floor=2)
    ready = host.live()
    assert len(ready) == 2
    host.uses(dict.fromkeys(ready, 90 * MIB))
    assert not host.ends()
    host.wait(PRESSURE_S)
    host.uses(dict.fromkeys(ready, 90 * MIB))
    assert host.ends() == ["pressure"]


def test_where_the_kernel_walls_the_memory_the_agent_is_first_to_say_who_ends() -> None:
    host = ShortOfMemory("f")
    host.machine.memory_is_walled = True
    host.call()
    (number,) = host.busy()
    host.uses({number: 96 * MIB})
    host.wait(PRESSURE_S)
    host.uses({number: 96 * MIB})
    assert host.ends() == ["pressure"]


@pytest.mark.parametrize(
    ("concurrency", "timeout_s", "budget_s"), [(1, 2.0, 9.0), (4, 2.0, 9.0), (1, 9.0, 2.0), (4, 9.0, 2.0)]
)
def test_a_call_whose_time_is_over_counts_among_the_slow_ones_once(
    concurrency: int, timeout_s: float, budget_s: float
) -> None:
    """Were it left out, the times of an app of which every call hangs would look fine."""
    host = LentHost(function(timeout_s=timeout_s, concurrency=concurrency))
    host.lease(ceiling=1)
    late = host.call(budget_s=budget_s)
    (number,) = host.busy()
    host.wait(2.5)
    assert isinstance(host.error(late), TimedOut)
    if concurrency > 1:
        host.reply(number, tag=1)  # It is told to stop, and says so.
    told = host.machine.totals()["app.f"]
    assert (told.calls, told.errors, told.answers) == (1, 1, 1)
    assert 2.0 <= told.answered_s <= 2.6


def test_so_does_a_call_that_waited_for_too_long() -> None:
    host = LentHost()
    host.lease(ceiling=1)
    host.call(), host.call(budget_s=2.0)
    host.wait(2.5)
    told = host.machine.totals()["app.f"]
    assert (told.calls, told.errors, told.answers) == (1, 1, 1) and told.answered_s >= 2.0
