"""Functions whose instances work on several calls at a time."""

from __future__ import annotations

from agent.lent_host import LentHost, function
from motes.agent.core.effects import End, Stop
from motes.agent.core.limits import STOP_GRACE_S
from motes.agent.core.pool import START_COST_S
from motes.errors import Exited, TimedOut
from motes.model.instance import EndReason


def a_host(concurrency: int = 4, **more: object) -> LentHost:
    host = LentHost(function(concurrency=concurrency, **more))
    host.lease()
    return host


def calls_of(host: LentHost) -> list[int]:
    """How many calls each live instance works on."""
    return [len(host.machine.instances[number].calls_now) for number in host.live()]


def test_an_instance_takes_as_many_calls_as_it_may_before_another_starts() -> None:
    host = a_host()
    first = host.call()
    host.reply(host.live()[0])
    assert host.answers(first)
    for _ in range(4):
        host.call()
    assert calls_of(host) == [4]
    host.call()
    host.wait(START_COST_S * 2)
    assert sum(calls_of(host)) == 5 and len(host.live()) == 2, "the fifth waits behind four that take long"


def test_a_burst_starts_as_many_instances_as_its_calls_fill() -> None:
    host = a_host(concurrency=10)
    for _ in range(100):
        host.call()
    for _ in range(20):
        host.wait(START_COST_S)
    assert sum(calls_of(host)) == 100 and len(host.live()) <= 12


def test_answers_come_in_any_order_each_to_its_own_call() -> None:
    host = a_host()
    calls = [host.call() for _ in range(3)]
    (number,) = host.live()
    host.reply(number, tag=2)
    assert [len(host.answers(call)) for call in calls] == [0, 1, 0]
    host.reply(number, tag=2)
    assert [len(host.answers(call)) for call in calls] == [0, 1, 0], "an answer counts once"
    host.reply(number, tag=3), host.reply(number, tag=1)
    assert [len(host.answers(call)) for call in calls] == [1, 1, 1]


def test_a_cancelled_call_is_stopped_in_its_instance_and_the_others_go_on() -> None:
    host = a_host()
    calls = [host.call() for _ in range(3)]
    (number,) = host.live()
    host.cancel(calls[1])
    assert host.seen(Stop) == [Stop(number, 2)] and not host.seen(End)
    host.reply(number, tag=2)
    assert not host.answers(calls[1]) and calls_of(host) == [2]
    host.wait(STOP_GRACE_S * 2)
    assert host.live() == [number]


def test_one_that_does_not_stop_ends_with_its_instance() -> None:
    host = a_host()
    stuck, other = host.call(), host.call()
    host.cancel(stuck)
    host.wait(STOP_GRACE_S / 2)
    assert host.live()
    host.wait(STOP_GRACE_S)
    assert host.ends() == [EndReason.CANCELLED] and not host.answers(stuck)
    assert isinstance(host.error(other), Exited)


def test_a_call_over_its_time_is_answered_and_stopped_and_the_others_go_on() -> None:
    host = a_host(timeout_s=5.0)
    late = host.call()
    host.wait(4.0)
    early = host.call()
    host.wait(1.5)
    assert isinstance(host.error(late), TimedOut) and "timeout" in host.error(late).message
    (number,) = host.live()
    assert host.seen(Stop) == [Stop(number, 1)]
    host.reply(number, tag=1), host.reply(number, tag=2)
    assert len(host.answers(late)) == len(host.answers(early)) == 1


def test_an_instance_that_leaves_finishes_all_its_calls_and_takes_no_more() -> None:
    host = a_host()
    first, second = host.call(), host.call()
    host.lease(ceiling=0)
    (number,) = host.live()
    host.reply(number, tag=1)
    assert host.live() == [number]
    host.reply(number, tag=2)
    assert host.answers(first) and host.answers(second) and not host.live()


def test_one_that_crashes_loses_all_its_calls_each_told_once() -> None:
    host = a_host()
    calls = [host.call() for _ in range(4)]
    host.end(host.live()[0], EndReason.CRASHED, "SIGSEGV")
    assert all(isinstance(host.error(call), Exited) for call in calls)


def test_calls_of_one_that_could_not_be_forked_keep_their_order() -> None:
    from motes.agent.core.effects import Deliver, Spawn

    host = LentHost(function(concurrency=4), by_hand=(Spawn,))
    host.lease()
    calls = [host.call(body=b"%d" % number) for number in range(3)]
    (number,) = host.machine.instances
    host.effects.clear()
    host.end(number, EndReason.SPACE_FAILED, "no memory")
    host.wait(1.0)
    assert [effect.body for effect in host.seen(Deliver) if isinstance(effect, Deliver)] == [b"0", b"1", b"2"]
    assert not any(host.answers(call) for call in calls)


def test_idle_means_no_call_at_all() -> None:
    host = a_host(idle_s=3.0)
    host.call(), host.call()
    (number,) = host.live()
    host.reply(number, tag=1)
    host.wait(10.0)
    assert host.live() == [number]
    host.reply(number, tag=2)
    host.wait(4.0)
    assert host.ends() == [EndReason.IDLE]
