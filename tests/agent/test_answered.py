"""What an agent says of a call that it is asked after: never that it did not come, when it may have run."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.lent_host import CALLER, DONE, LentHost, function
from motes.agent.core.answered import KEPT_S, MOST_KEPT
from motes.agent.core.effects import Answer, Asker
from motes.agent.core.pool import Call
from motes.errors import FunctionError, HostLost
from motes.model.call import NEVER_ARRIVED, STATUS_LOST, STATUS_TRY_ELSEWHERE, Outcome, failed
from motes.model.instance import EndReason

ANOTHER = b"another call    "


class Asked(LentHost):
    """A host that is asked after calls, and says by heartbeats that it lives."""

    def __init__(self, **options: bool) -> None:
        super().__init__(function(**options))
        self.beat_number = 0
        self.beat()
        self.lease()

    def beat(self) -> int:
        self.beat_number += 1
        self.machine.answered.on_beat(self.beat_number, self.now)
        return self.beat_number

    def asked_after(self, call_id: bytes, heard: int | None = None) -> Outcome | None:
        """By who had heard the last heartbeat when it sent the call, or another."""
        return self.machine.on_asked_after(call_id, self.beat_number if heard is None else heard)

    def answered_call(self) -> bytes:
        call = self.call()
        self.reply(self.busy()[0])
        return call


def says_it_never_came(outcome: Outcome | None) -> bool:
    if outcome is None or outcome.status != STATUS_TRY_ELSEWHERE:
        return False
    error = outcome.error()
    return isinstance(error, HostLost) and error.detail.get(NEVER_ARRIVED) is True


def is_unknown(outcome: Outcome | None) -> bool:
    return outcome is not None and outcome.status == STATUS_LOST and isinstance(outcome.error(), HostLost)


def test_a_call_that_never_came_is_said_so() -> None:
    assert says_it_never_came(Asked().asked_after(ANOTHER))


def test_a_call_that_is_under_way_is_waited_for() -> None:
    host = Asked()
    assert host.asked_after(host.call()) is None


@pytest.mark.parametrize("outcome", [DONE, failed(FunctionError("ValueError"))])
def test_of_a_call_that_was_answered_it_says_so_and_that_the_answer_is_gone(outcome: Outcome) -> None:
    host = Asked()
    call = host.call()
    host.reply(host.busy()[0], outcome)
    told = host.asked_after(call)
    assert told is not None and is_unknown(told) and "answered this call before" in told.error().message


def test_a_call_that_was_given_up_in_its_middle_or_lost_its_process_may_have_run() -> None:
    host = Asked()
    lost = host.call()
    host.end(host.busy()[0], EndReason.CRASHED)
    given_up = host.call()
    host.cancel(given_up)
    assert is_unknown(host.asked_after(given_up)) and is_unknown(host.asked_after(lost))


def test_a_call_that_was_refused_has_not_run_and_may_come_again() -> None:
    host = Asked()
    host.lease(ceiling=1)
    host.call()
    waits = host.call()
    host.lease(ceiling=0)
    assert [each.status for each in host.answers(waits)] == [STATUS_TRY_ELSEWHERE]
    assert says_it_never_came(host.asked_after(waits))
    host.reply(host.busy()[0])
    host.lease(ceiling=1)
    host.call(call_id=waits)
    host.reply(host.busy()[0])
    assert host.answers(waits)[-1] == DONE


def test_a_call_that_was_answered_does_not_run_again_when_it_comes_again() -> None:
    host = Asked()
    call = host.answered_call()
    host.call(call_id=call)
    assert host.busy() == [] and is_unknown(host.answers(call)[-1])


def test_one_that_may_run_twice_does() -> None:
    host = Asked(idempotent=True)
    call = host.answered_call()
    host.call(call_id=call)
    host.reply(host.busy()[0])
    assert host.answers(call) == [DONE, DONE]


def test_of_who_had_heard_nothing_of_this_start_of_the_agent_nothing_is_known() -> None:
    told = Asked().asked_after(ANOTHER, heard=0)
    assert told is not None and is_unknown(told) and "started after the call was sent" in told.error().message


def test_what_is_older_than_the_memory_reaches_is_unknown_and_what_is_younger_is_not() -> None:
    host = Asked()
    call, heard = host.answered_call(), host.beat_number
    for _ in range(3):
        host.wait(KEPT_S / 2)
        host.beat()
    assert is_unknown(host.asked_after(call, heard)) and is_unknown(host.asked_after(ANOTHER, heard))
    assert says_it_never_came(host.asked_after(ANOTHER))


def test_it_remembers_for_as_long_as_any_caller_waits_for_a_silent_host() -> None:
    host = Asked()
    host.wait(KEPT_S / 2 - 1)
    host.beat()
    call, heard = host.answered_call(), host.beat_number
    for _ in range(2 * 15):
        host.wait(0.5)
        host.beat()
    assert says_it_never_came(host.asked_after(ANOTHER, heard)) and host.asked_after(call, heard) is not None


def test_what_is_remembered_is_bounded_and_what_has_to_go_is_unknown() -> None:
    host = Asked()
    answered = host.machine.answered
    for number in range(3 * MOST_KEPT):
        answered.note(number.to_bytes(16))
    assert len(answered._young) + len(answered._old) <= MOST_KEPT
    assert is_unknown(host.asked_after((0).to_bytes(16)))
    # Whoever has heard a later heartbeat can only have sent what came later.
    host.beat()
    for number in range(MOST_KEPT // 2 - 1):
        answered.note(number.to_bytes(16))
    assert says_it_never_came(host.asked_after(ANOTHER))


def test_calls_that_this_hosts_own_functions_make_are_not_remembered() -> None:
    host = Asked()
    call = Call(ANOTHER, "app.f", b"x", 0.0, 30.0, [Asker(1, 1)], caller=CALLER)
    host.do(host.machine.on_call(call, 0.0))
    host.reply(host.busy()[0])
    assert [each.replies for each in host.seen(Answer)] == [(Asker(1, 1),)]
    assert ANOTHER not in host.machine.answered


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_whatever_happens_a_call_that_has_begun_is_never_said_not_to_have_come(data: st.DataObject) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("motes.agent.core.answered.MOST_KEPT", 6)
        host = Asked()
        heard: dict[bytes, int] = {}
        begun: set[bytes] = set()
        for _ in range(data.draw(st.integers(1, 60), "steps")):
            step = data.draw(st.sampled_from(("call", "call", "reply", "reply", "beat", "time", "cancel", "crash")))
            busy = host.busy()
            if step == "call":
                # Its sender had heard this heartbeat, one that is long ago, or none of this start.
                number = data.draw(st.integers(0, host.beat_number))
                heard[host.call()] = number
            elif step == "reply" and busy:
                host.reply(busy[0])
            elif step == "crash" and busy:
                host.end(busy[-1], EndReason.CRASHED)
            elif step == "cancel" and heard:
                host.cancel(data.draw(st.sampled_from(sorted(heard))))
            elif step == "time":
                host.wait(data.draw(st.sampled_from((0.25, KEPT_S / 3))))
                host.beat()
            elif step == "beat":
                host.beat()
            begun |= {call.id for each in host.machine.instances.values() for call in each.calls_now.values()}
            for call in begun:
                assert not says_it_never_came(host.asked_after(call, heard[call])), step
