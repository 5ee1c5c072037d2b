"""One function on one host: its queue, and how many instances the load is worth."""

from __future__ import annotations

import time

import pytest
import uvloop
from hypothesis import given
from hypothesis import strategies as st

from agent.lent_host import DONE, LentHost, function
from motes.agent.core.effects import Spawn
from motes.agent.core.pool import (
    BACKOFF_MAX_S,
    CRASHES_FREE,
    PER_CPU,
    QUEUE_LIMIT,
    QUEUE_LIMIT_BYTES,
    START_COST_S,
    Call,
    Instance,
    Pool,
    Work,
)
from motes.agent.service import Agent
from motes.model.host import Lease
from motes.model.instance import EndReason


def a_pool(*, waiting: int = 0, busy: int = 0, age_s: float = 0.0, served: int = 0, service_s: float = 0.0) -> Pool:
    """A pool at time 100 whose busy instances began their calls `age_s` ago."""
    pool = Pool(Lease("h", "app", "f", "r", 100, 0, 1), 0.0)
    for _ in range(served):
        pool.note_served(service_s, 0.0)
    for number in range(waiting):
        pool.push(a_call(number))
    for number in range(busy):
        call = a_call(1000 + number)
        call.began = 100.0 - age_s
        pool.add(Instance(number, "app.f", "r", 0.0, alive=True, calls_now={1: call}), pool.common)
    return pool


def a_call(number: int, body: bytes = b"xyz") -> Call:
    return Call(number.to_bytes(16), "app.f", body, 100.0, 200.0, [])


def test_the_queue_knows_its_bytes() -> None:
    pool = a_pool(waiting=3)
    assert pool.queue_bytes == 9
    first = pool.pop(pool.common)
    pool.push(first, first=True)
    assert pool.pop(pool.common) is first
    assert pool.remove(pool.waiting_calls()[0]) and not pool.remove(first)
    assert pool.queue_bytes == 3


def test_the_queue_is_full_by_count_and_by_bytes() -> None:
    assert a_pool(waiting=QUEUE_LIMIT).is_full(0)
    assert not a_pool(waiting=1).is_full(QUEUE_LIMIT_BYTES - 3)
    assert a_pool(waiting=1).is_full(QUEUE_LIMIT_BYTES)


def test_nothing_waiting_wants_nothing_more() -> None:
    assert a_pool(busy=3, age_s=9.0).wanted(100.0, 2.0) == 3


def test_the_first_call_wants_one() -> None:
    assert a_pool(waiting=1).wanted(100.0, 2.0) == 1


def test_quick_calls_wait_for_those_that_run() -> None:
    pool = a_pool(waiting=10, busy=1, served=100, service_s=START_COST_S / 20)
    assert pool.wanted(100.0, 2.0) == 1


def test_slow_calls_want_an_instance_each() -> None:
    pool = a_pool(waiting=10, busy=1, served=100, service_s=1.0)
    assert pool.wanted(100.0, 2.0) == 11


@given(
    st.integers(0, 200), st.integers(0, 50), st.floats(0, 5), st.integers(0, 60), st.floats(0, 2), st.floats(0.1, 64)
)
def test_what_is_wanted_never_exceeds_what_runs_and_waits(
    waiting: int, busy: int, age_s: float, served: int, service_s: float, cpus: float
) -> None:
    pool = a_pool(waiting=waiting, busy=busy, age_s=age_s, served=served, service_s=service_s)
    assert (1 if waiting else 0) <= pool.wanted(100.0, cpus) <= max(busy + waiting, 1)


@given(st.integers(1, 200), st.floats(1, 64))
def test_calls_that_want_a_processor_all_the_time_get_some_instances_for_each(waiting: int, cpus: float) -> None:
    pool = a_pool(waiting=waiting)
    for _ in range(50):
        pool.note_served(1.0, 1.0)
    assert pool.wanted(100.0, cpus) <= PER_CPU * cpus + 1


def test_a_call_too_short_to_be_measured_says_nothing_of_the_processors_that_its_function_wants() -> None:
    pool = a_pool()
    pool.note_served(1.0, 1.0)
    for _ in range(50):
        pool.note_served(0.0, 0.00001)
    assert pool.cpu_share == 1.0


def test_the_agents_clock_goes_on_within_a_turn_of_its_loop() -> None:
    """Else calls that begin and end in one turn seem to want no processor, and there is no bound on instances."""

    async def turn() -> float:
        began, until = Agent.now(), time.perf_counter() + 0.003
        while time.perf_counter() < until:
            pass
        return Agent.now() - began

    assert uvloop.run(turn()) >= 0.003


def test_a_reply_ends_a_row_of_crashes() -> None:
    pool = a_pool()
    for _ in range(CRASHES_FREE):
        pool.note_crash(0.0)
    assert pool.not_before == 0.0
    pool.note_served(0.1, 0.0)
    pool.note_crash(0.0)
    assert pool.not_before == 0.0


def test_the_backoff_has_an_end() -> None:
    pool = a_pool()
    for _ in range(1100):
        pool.note_crash(0.0)
    assert pool.not_before == BACKOFF_MAX_S


def test_what_an_instance_waited_in_short_calls_is_not_taken_for_a_later_ones() -> None:
    instance = Instance(1, "app.f", "r", 0.0, alive=True)
    first, second, third = map(a_call, (1, 2, 3))
    instance.begin(first)
    assert instance.note_work(first, Work(0.0001, 0.0001, None)) == 0.0001
    instance.begin(second)
    assert round(instance.note_work(second, Work(1.0, 0.0101, 0.5)), 6) == 0.01
    instance.begin(third)
    assert round(instance.note_work(third, Work(1.0, 0.0201, 0.7)), 6) == 0.21


@pytest.mark.parametrize("reuse", ["all", "caller"])
def test_a_call_whose_process_ends_goes_to_one_that_is_idle_and_holds_up_no_other(reuse: str) -> None:
    more = {"reuse": "caller"} if reuse == "caller" else {}
    host = LentHost(function(idempotent=True, idle_s=1e6, **more))
    host.lease()
    # Two instances, both idle afterwards.
    host.call()
    host.call()
    host.wait(0.1)
    while host.busy():
        host.reply(host.busy()[0])
    assert len(host.live()) == 2
    call = host.call()
    (dying,) = host.busy()
    host.end(dying, EndReason.CRASHED)
    # Nothing else happens, for no instance works that could end and look for more.
    host.wait(START_COST_S)
    (other,) = host.busy()
    assert other != dying and not host.machine.pools["app.f"].queued
    host.reply(other)
    assert host.answers(call) == [DONE]


@pytest.mark.parametrize("has_begun", [True, False])
def test_a_call_is_not_given_from_one_instance_to_the_next_of_a_space_that_ends(has_begun: bool) -> None:
    host = LentHost(function(idempotent=has_begun, idle_s=1e6))
    host.lease()
    before = [host.call(), host.call()]
    host.wait(0.1)
    idle = host.busy()
    assert len(idle) == len(before)
    host.by_hand = (Spawn,)
    if not has_begun:
        # Those two work, and a third is being made.
        call = host.call()
        host.wait(0.1)
        (dying,) = set(host.busy()) - set(idle)
    for number in idle:
        host.reply(number)
    if has_begun:
        call = host.call()
        (dying,) = host.busy()
    # As motes.space.function_space tells it: of one after the other, of the space, and of what was begun meanwhile.
    for number in (dying, *(each for each in idle if each != dying)):
        host.end(number, EndReason.SPACE_FAILED, "its zygote ended")
    begun = host.live()
    host.by_hand = ()
    host.do(host.machine.on_space_closed("r1", "its zygote ended", host.now))
    for number in begun:
        host.end(number, EndReason.SPACE_FAILED, "its zygote ended")
    assert not host.answers(call)
    host.wait(1.0)
    (again,) = host.busy()
    host.reply(again)
    assert host.answers(call) == [DONE]
