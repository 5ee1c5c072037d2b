"""How many instances of a function the load is worth."""

from __future__ import annotations

from agent.lent_host import DONE, LentHost, function
from motes.agent.core.effects import Prepare
from motes.agent.core.pool import START_COST_S, Work
from motes.model.host import Offer
from motes.model.instance import EndReason


def test_64_waiting_calls_of_13_microseconds_want_few_instances() -> None:
    host = LentHost()
    host.lease()
    for _ in range(100):
        serve_one(host, 13e-6)
    for _ in range(64):
        host.call()
    assert len(host.live()) == 1
    host.wait(START_COST_S)  # Something else had the processor.
    assert len(host.live()) <= 4


def test_a_call_that_waits_behind_a_stuck_one_gets_an_instance_of_its_own() -> None:
    host = LentHost()
    host.lease()
    for _ in range(100):
        serve_one(host, 13e-6)
    host.call(), host.call()
    host.wait(START_COST_S)
    assert len(host.busy()) == 2


def test_a_function_that_turns_slow_gets_many_instances_within_some_milliseconds() -> None:
    host = LentHost()
    host.lease()
    for _ in range(1000):
        serve_one(host, 13e-6)
    for _ in range(64):
        host.call()
    for _ in range(15):
        host.wait(START_COST_S)
    assert len(host.busy()) == 64


def test_100_blocking_calls_get_many_instances_within_milliseconds() -> None:
    host = LentHost()
    host.lease()
    calls = [host.call() for _ in range(100)]
    for _ in range(10):
        host.wait(START_COST_S)
    assert len(host.live()) >= 90
    assert len(calls) == 100


def test_calls_that_keep_a_processor_busy_do_not_multiply_beyond_the_processors() -> None:
    host = LentHost(offer=Offer(cpus=2.0, spaces=100))
    host.lease()
    for _ in range(100):
        host.call()
    for _ in range(50):
        host.now += START_COST_S
        measure_busy(host)
        host.do(host.machine.tick(host.now))
    assert len(host.live()) <= 4


def test_calls_that_are_known_to_need_a_processor_do_not_multiply_either_when_none_runs_yet() -> None:
    host = LentHost(by_hand=[Prepare])
    host.lease()
    host.call()
    host.do(host.machine.on_space_ready("r1", host.now))
    host.now += 0.01
    host.reply(host.busy()[0], cpu_s=0.01)
    for number in list(host.live()):
        host.end(number, EndReason.SPACE_FAILED)
    host.do(host.machine.on_space_closed("r1", "killed", host.now))
    host.wait(60.0)
    for _ in range(64):
        host.call()
    host.do(host.machine.on_space_ready("r1", host.now))
    assert len(host.live()) <= 4


def test_instances_that_nobody_needs_end_after_their_idle_time_down_to_the_floor() -> None:
    host = LentHost(function(idle_s=5.0))
    host.lease(floor=1)
    for _ in range(10):
        host.call()
    host.wait(0.01)
    while host.busy():
        host.reply(host.busy()[0])
    assert len(host.live()) > 1
    host.wait(4.9)
    assert len(host.live()) > 1
    host.wait(0.2)
    assert len(host.live()) == 1
    assert set(host.ends()) == {"idle"}


def test_a_free_instance_is_used_before_another_is_started() -> None:
    host = LentHost()
    host.lease(floor=1)
    for _ in range(5):
        host.call()
        host.reply(host.busy()[0])
    assert len(set(host.delivered())) == 1


def test_a_call_apart_gets_a_fresh_process() -> None:
    host = LentHost(function(reuse="call"))
    host.lease()
    for _ in range(3):
        host.call()
        host.reply(host.busy()[0])
    assert len(set(host.delivered())) == 3
    assert host.ends() == ["call_done"] * 3


def serve_one(host: LentHost, seconds: float, cpu_s: float = 0.0) -> None:
    host.call()
    host.now += seconds
    host.reply(host.busy()[0], cpu_s=cpu_s)


def measure_busy(host: LentHost) -> None:
    """Every busy instance has used a processor since its call began."""
    for number in host.busy():
        instance = host.machine.instances[number]
        call = instance.oldest()
        assert call is not None
        instance.cpu_s = call.cpu_before_s + host.now - call.began


def test_calls_that_only_travel_slowly_do_not_multiply_instances() -> None:
    """The more instances, the longer each answer waits for the agent; that must not ask for still more of them."""
    host = LentHost()
    host.lease()
    for _ in range(64):
        host.call()
    spent_s = dict.fromkeys(host.live(), 0.0)
    for _ in range(200):
        host.now += 0.0001 * len(host.live())
        for number in host.busy():
            spent_s[number] = spent_s.get(number, 0.0) + 0.0001
            work = Work(0.0001, spent_s[number], None)
            tag = next(iter(host.machine.instances[number].calls_now))
            host.do(host.machine.on_reply(number, tag, DONE, work, host.now))
            host.call()
        host.do(host.machine.tick(host.now))
    assert len(host.live()) <= 4


def test_an_instance_cannot_say_that_it_worked_longer_than_the_call_took() -> None:
    host = LentHost()
    host.lease()
    host.call()
    host.now += 0.001
    host.do(host.machine.on_reply(host.busy()[0], 1, DONE, Work(4000.0, 0.0, None), host.now))
    assert host.machine.pools["app.f"].service_s <= 0.001 + 1e-9


def test_a_burst_of_calls_known_to_be_slow_is_met_as_it_comes_and_wholly_at_the_next_tick() -> None:
    host = LentHost(offer=Offer(cpus=2.0, spaces=200))
    host.lease()
    for _ in range(100):
        serve_one(host, 0.2)
    for _ in range(100):
        host.call()
    assert len(host.live()) >= 64
    host.wait(START_COST_S)
    assert len(host.live()) == 100
