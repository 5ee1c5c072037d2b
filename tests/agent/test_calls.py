"""Calls on one host: joined, cancelled, expired, refused."""

from __future__ import annotations

from agent.lent_host import CALLER, DONE, LentHost, function
from motes.agent.core.calls import MOST_REPLIES
from motes.agent.core.effects import Answer, Deliver
from motes.agent.core.pool import MOST_WAITING_BYTES, QUEUE_LIMIT, Call
from motes.errors import Overloaded, Refused, TimedOut, TooLarge
from motes.model.call import STATUS_TRY_ELSEWHERE
from motes.model.release import PAYLOAD_LIMIT_BYTES


def test_a_call_sent_again_joins_the_running_one() -> None:
    host = LentHost()
    host.lease()
    call = host.call()
    assert host.call(call_id=call) == call
    assert len(host.delivered()) == 1
    host.reply(host.busy()[0])
    assert host.answers(call) == [DONE]
    (answer,) = [effect for effect in host.effects if getattr(effect, "outcome", None) == DONE]
    assert answer.replies == (call.hex(),)


def test_the_result_goes_to_everybody_who_sent_the_call() -> None:
    host = LentHost()
    host.lease()
    call = host.call()
    host.machine.calls[call].replies.append("another")
    host.reply(host.busy()[0])
    assert [effect.replies for effect in host.effects if getattr(effect, "outcome", None) == DONE] == [
        (call.hex(), "another")
    ]


def test_one_call_has_a_bounded_number_of_askers_and_one_function() -> None:
    host = LentHost(function(), function("g"), by_hand=[Deliver])
    for name in ("f", "g"):
        host.lease(name)
    call = host.call()
    for number in range(10 * MOST_REPLIES):
        host.do(host.machine.on_call(Call(call, "app.f", b"x", 0.0, 30.0, [f"inbox{number}"], caller=CALLER), 0.0))
    assert len(host.machine.calls[call].replies) == MOST_REPLIES
    host.do(host.machine.on_call(Call(call, "app.g", b"x", 0.0, 30.0, ["spy"], caller=CALLER), 0.0))
    refused = [each for each in host.effects if isinstance(each, Answer)]
    assert len(refused) == 9 * MOST_REPLIES + 2 and refused[-1].replies == ("spy",)
    assert isinstance(refused[-1].outcome.error(), Refused) and "spy" not in host.machine.calls[call].replies


def test_cancelling_a_waiting_call_takes_it_out_of_the_queue() -> None:
    host = LentHost()
    host.lease(ceiling=1)
    host.call()
    waiting = host.call()
    host.cancel(waiting)
    host.reply(host.busy()[0])
    assert len(host.delivered()) == 1 and not host.answers(waiting)
    assert not host.machine.calls


def test_cancelling_a_running_call_ends_its_instance() -> None:
    host = LentHost()
    host.lease()
    call = host.call()
    host.cancel(call)
    assert host.ends() == ["cancelled"]
    assert not host.answers(call) and not host.machine.calls


def test_a_call_that_waited_for_its_whole_budget_is_answered_and_never_runs() -> None:
    host = LentHost()
    host.lease(ceiling=1)
    host.call()
    waiting = host.call(budget_s=2.0)
    host.wait(2.0)
    assert isinstance(host.error(waiting), TimedOut)
    host.reply(host.busy()[0])
    assert len(host.delivered()) == 1


def test_a_call_that_runs_past_its_budget_is_answered_and_its_instance_ends() -> None:
    host = LentHost(function(timeout_s=60.0))
    host.lease()
    call = host.call(budget_s=2.0)
    host.wait(2.0)
    assert isinstance(host.error(call), TimedOut)
    assert host.ends() == ["cancelled"]


def test_a_function_over_its_timeout_is_ended_with_the_reason() -> None:
    host = LentHost(function(timeout_s=3.0))
    host.lease()
    call = host.call(budget_s=60.0)
    host.wait(3.0)
    error = host.error(call)
    assert isinstance(error, TimedOut) and error.detail["reason"] == "time_limit"
    assert host.ends() == ["time_limit"]


def test_too_large_an_input_is_refused_with_the_limit() -> None:
    host = LentHost()
    host.lease()
    error = host.error(host.call(body=b"x" * (PAYLOAD_LIMIT_BYTES + 1)))
    assert isinstance(error, TooLarge) and error.detail["limit_bytes"] == PAYLOAD_LIMIT_BYTES


def test_a_full_queue_sends_calls_elsewhere() -> None:
    host = LentHost()
    host.lease(ceiling=1)
    for _ in range(QUEUE_LIMIT + 1):
        host.call()
    refused = host.call()
    assert isinstance(host.error(refused), Overloaded)
    assert host.answers(refused)[0].status == STATUS_TRY_ELSEWHERE


def test_what_waits_for_all_functions_of_a_host_is_bounded_together() -> None:
    """One caller could else have an agent use more memory than is lent, which then ends what others have running."""
    names = [f"f{number}" for number in range(20)]
    host = LentHost(*map(function, names), by_hand=[Deliver])
    for name in names:
        host.lease(name, ceiling=1)
        host.call(name)
    refused = [call for name in names for _ in range(7) for call in [host.call(name, body=bytes(PAYLOAD_LIMIT_BYTES))]]
    assert isinstance(host.error(refused[-1]), Overloaded)
    waiting = sum(len(call.body) for call in host.machine.calls.values())
    assert waiting <= MOST_WAITING_BYTES + len(names)
    small = host.call(names[-1], body=b"x" * 1000)
    assert not host.answers(small), "others' large bodies keep no small one out"
    for call in list(host.machine.calls):
        host.cancel(call)
    assert host.machine.waiting.bytes == 0
