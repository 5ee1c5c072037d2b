"""Calls that instances make: here, elsewhere, in rings, and for no longer than who makes them is waited for."""

from __future__ import annotations

import itertools

from agent.lent_host import CALLER, DONE, LentHost, function
from motes.agent.core import asking
from motes.agent.core.asking import GRACE_S, MOST_ASKS
from motes.agent.core.deadlock import LOOK_AFTER_S, LOOK_FAR_AFTER_S
from motes.agent.core.effects import Answer, Asker, Effect, Inform, More, Relay, RelayAwait, RelayCancel, RelayMore
from motes.agent.core.pool import Ask
from motes.errors import (
    Cancelled,
    HostLost,
    LimitExceeded,
    MotesError,
    Overloaded,
    Refused,
    TimedOut,
    TooLarge,
    Unavailable,
)
from motes.model.call import MOST_DEEP, STATUS_ITEM, Context, Outcome, failed
from motes.model.caller import digest
from motes.model.host import Offer
from motes.model.instance import EndReason
from motes.model.release import PAYLOAD_LIMIT_BYTES

CHAIN = (function("f", calls=("g", "far.h")), function("g", calls=("f",)), function("x"))


class CallingHost(LentHost):
    """A host whose functions call each other: `f` calls `g` and `far.h`, `g` calls `f`."""

    def __init__(self, **more: object) -> None:
        super().__init__(*CHAIN, **more)  # type: ignore[arg-type]
        self._asks = itertools.count(1)

    def _carry_out(self, effect: Effect) -> list[Effect]:
        if isinstance(effect, Answer):
            askers = [reply for reply in effect.replies if isinstance(reply, Asker)]
            return [told for asker in askers for told in self.machine.on_told(asker, effect.outcome, self.now)]
        return super()._carry_out(effect)

    def ask(self, number: int, name: str, body: bytes = b"y", tag: int | None = None, ask: int = 0) -> Ask:
        """The instance makes a call while it works on its oldest one."""
        tag = next(iter(self.machine.instances[number].calls_now), 0) if tag is None else tag
        made = next(self._asks)
        wanted = Ask(ask or made, tag, b"ask" + made.to_bytes(13), name, body)
        self.do(self.machine.on_ask(number, wanted, self.now))
        return wanted

    def told(self, wanted: Ask) -> list[Outcome]:
        return [each.outcome for each in self.effects if isinstance(each, Inform) and each.ask == wanted.number]

    def refused(self, wanted: Ask) -> MotesError:
        (outcome,) = self.told(wanted)
        return outcome.error()

    def relayed(self) -> list[Relay]:
        return [each for each in self.effects if isinstance(each, Relay)]


def host(*names: str, ceiling: int = 4, **more: object) -> CallingHost:
    made = CallingHost(**more)
    for name in names:
        made.lease(name, ceiling=ceiling)
    return made


def test_a_call_of_a_function_that_is_leased_here_stays_here() -> None:
    here = host("f", "g")
    call = here.call("f")
    wanted = here.ask(here.busy("f")[0], "g", b"hello")
    assert here.machine.calls[wanted.id].body == b"hello" and not here.relayed()
    here.reply(here.busy("g")[0], DONE)
    assert here.told(wanted) == [DONE] and not here.answers(call)
    here.reply(here.busy("f")[0])
    assert here.answers(call) == [DONE] and not here.machine.calls


def test_a_call_that_this_host_may_not_run_goes_through_the_gateway() -> None:
    here = host("f")
    here.call("f", budget_s=10.0)
    here.now = 1.0
    wanted = here.ask(here.busy("f")[0], "far.h", b"hello")
    (relay,) = here.relayed()
    context = Context(("app.f",), on_behalf=digest((*CALLER, "app.f")))
    assert (relay.address, relay.body, relay.budget_s, relay.context) == ("far.h", b"hello", 9.0, context)
    here.do(here.machine.on_relayed(wanted.id, Outcome(STATUS_ITEM, b"1"), here.now))
    here.do(here.machine.on_taken(here.busy("f")[0], wanted.number, 1))
    here.do(here.machine.on_relayed(wanted.id, DONE, here.now))
    here.do(here.machine.on_relayed(wanted.id, DONE, here.now))
    assert here.told(wanted) == [Outcome(STATUS_ITEM, b"1"), DONE]
    assert here.seen(RelayMore) == [RelayMore(wanted.id, 1)] and not here.machine.relayed


def test_a_call_that_is_refused_here_is_tried_elsewhere_once() -> None:
    here = host("f", "g")
    here.call("f")
    wanted = here.ask(here.busy("f")[0], "g")
    full = failed(Overloaded("full"), try_elsewhere=True)
    here.do(here.machine.on_told(Asker(here.busy("f")[0], wanted.number), full, here.now))
    assert len(here.relayed()) == 1 and not here.told(wanted)
    here.do(here.machine.on_relayed(wanted.id, full, here.now))
    assert isinstance(here.refused(wanted), Overloaded) and len(here.relayed()) == 1


def test_only_what_is_declared_is_called_and_only_while_a_call_is_worked_on() -> None:
    here = host("f", "g", "x")
    here.call("f")
    number = here.busy("f")[0]
    for name in ("x", "f", "far.g", "other.g", "app.f"):
        assert isinstance(here.refused(here.ask(number, name)), Refused), name
    assert isinstance(here.refused(here.ask(number, "g", tag=77)), Refused)
    here.reply(number)
    assert isinstance(here.refused(here.ask(number, "g", tag=1)), Refused)
    assert not here.delivered()[1:] and not here.relayed()


def test_how_much_an_instance_may_ask_is_bounded() -> None:
    here = host("f", "g")
    here.call("f")
    number = here.busy("f")[0]
    assert isinstance(here.refused(here.ask(number, "g", b"x" * (PAYLOAD_LIMIT_BYTES + 1))), TooLarge)
    large = [here.ask(number, "g", b"x" * PAYLOAD_LIMIT_BYTES) for _ in range(9)]
    assert isinstance(here.refused(large[-1]), Overloaded) and not here.told(large[0])
    many = [here.ask(number, "far.h", b"") for _ in range(MOST_ASKS)]
    assert isinstance(here.refused(many[-1]), Overloaded) and not here.told(many[0])
    twice = here.ask(number, "g", b"", ask=large[0].number)
    assert isinstance(here.told(twice)[-1].error(), (Refused, Overloaded))


def test_what_all_instances_of_a_host_ask_is_bounded_together_but_each_has_its_share() -> None:
    here = host("f", ceiling=10, offer=Offer(cpus=64.0, spaces=100))
    large = b"x" * PAYLOAD_LIMIT_BYTES
    asked = []
    for _ in range(5):
        here.call("f", budget_s=60.0)
        here.wait(0.1)
        asked += [here.ask(here.busy("f")[-1], "far.h", large) for _ in range(8)]
    most = asking.MOST_ASKED_ON_HOST_BYTES // len(large)
    assert [bool(here.told(each)) for each in asked] == [False] * most + [True] * (len(asked) - most)
    assert isinstance(here.refused(asked[-1]), Overloaded)
    small = here.ask(here.busy("f")[-1], "far.h", b"x" * 1000)
    assert not here.told(small)
    for number in here.busy("f"):
        here.reply(number)
    assert here.machine.asked_bytes == 0


def test_an_apps_calls_leave_a_host_only_so_fast_and_each_has_its_turn() -> None:
    here = host("f")
    here.call("f", budget_s=60.0)
    number = here.busy("f")[0]
    large = [here.ask(number, "far.h", b"x" * PAYLOAD_LIMIT_BYTES) for _ in range(6)]
    small = here.ask(number, "far.h", b"small")
    burst = int(asking.LEAVING_BURST_BYTES) // PAYLOAD_LIMIT_BYTES
    assert [each.call_id for each in here.relayed()] == [each.id for each in large[:burst]]
    for _ in range(20):
        here.wait(0.1)
    assert [each.call_id for each in here.relayed()] == [each.id for each in (*large, small)]
    assert here.now < 60.0 and not here.told(small)
    # Another app has its own.
    here.machine.instances[number].address = "other.f"
    assert asking._relay(here.machine, here.machine.instances[number], small, here.now)


def test_a_call_ends_with_the_one_that_it_was_made_in() -> None:
    here = host("f", "g")
    for how in ("reply", "crash", "cancel", "time"):
        call = here.call("f", budget_s=5.0)
        number = here.busy("f")[0]
        near, far = here.ask(number, "g"), here.ask(number, "far.h")
        if how == "reply":
            here.reply(number)
        elif how == "crash":
            here.end(number, EndReason.CRASHED)
        elif how == "cancel":
            here.cancel(call)
        else:
            here.wait(6.0)
        assert near.id not in here.machine.calls and RelayCancel(far.id) in here.effects, how
        assert not here.machine.relayed and not here.busy("f") and not here.busy("g"), how


def test_a_call_may_not_last_longer_than_the_one_that_it_was_made_in() -> None:
    here = host("f", "g")
    here.call("f", budget_s=5.0)
    here.now = 2.0
    assert here.ask(here.busy("f")[0], "g").deadline == 5.0
    here = host("f", "g")
    here.call("f", budget_s=500.0)
    assert here.ask(here.busy("f")[0], "g").deadline == CHAIN[0].timeout_s


def test_giving_a_call_up_ends_it_and_frees_who_waits() -> None:
    here = host("f", "g")
    here.call("f")
    number = here.busy("f")[0]
    near, far = here.ask(number, "g"), here.ask(number, "far.h")
    for wanted in (near, far, near):
        here.do(here.machine.on_leave(number, wanted.number, here.now))
    assert near.id not in here.machine.calls and here.seen(RelayCancel) == [RelayCancel(far.id)]
    assert isinstance(here.refused(near), Cancelled) and isinstance(here.refused(far), Cancelled)


def test_an_answer_that_was_not_taken_is_told_as_an_error_and_nothing_goes_on() -> None:
    here = host("f", "g")
    here.call("f")
    number = here.busy("f")[0]
    stream, answered = here.ask(number, "g"), here.ask(number, "far.h")
    here.do(here.machine.on_relayed(answered.id, Outcome(0, b"large"), here.now))
    for wanted in (stream, answered):
        here.do(here.machine.on_unread(number, wanted.number, here.now))
        assert isinstance(here.told(wanted)[-1].error(), Overloaded)
    assert stream.id not in here.machine.calls and not here.machine.instances[number].asks


def test_items_of_a_local_stream_are_taken_one_by_one() -> None:
    here = host("f", "g")
    here.call("f")
    number = here.busy("f")[0]
    wanted = here.ask(number, "g")
    here.do(here.machine.on_item(here.busy("g")[0], 1, b"1"))
    assert here.told(wanted) == [Outcome(STATUS_ITEM, b"1")]
    here.do(here.machine.on_taken(number, wanted.number, 5))
    assert [each.count for each in here.effects if isinstance(each, More)] == [1]


def test_a_call_waits_for_a_gateway_but_not_for_ever() -> None:
    here = host("f")
    here.call("f", budget_s=5.0)
    wanted = here.ask(here.busy("f")[0], "far.h")
    here.do(here.machine.on_not_relayed(wanted.id, here.now))
    here.wait(1.0)
    assert len(here.relayed()) == 2
    here.do(here.machine.on_not_relayed(wanted.id, here.now))
    here.machine.calls.clear()
    here.now = 5.0
    here.do(here.machine.tick(4.999))
    here.do(here.machine.on_not_relayed(wanted.id, 5.0))
    here.do(asking.tick(here.machine, 5.0))
    assert isinstance(here.refused(wanted), Unavailable)


def test_a_gateway_is_told_what_is_waited_for_once_it_has_left() -> None:
    here = host("f")
    here.call("f", budget_s=60.0)
    number = here.busy("f")[0]
    first, late, gone = (here.ask(number, "far.h") for _ in range(3))
    here.do(here.machine.on_leave(number, gone.number, here.now))
    here.now = 1.5
    here.do(here.machine.on_not_relayed(late.id, here.now))
    here.do(asking.tick(here.machine, here.now))
    here.do(asking.tick(here.machine, here.now + 0.01))
    assert here.seen(RelayAwait) == [RelayAwait((first.id,))]
    here.do(here.machine.on_relayed(first.id, failed(HostLost("ended")), here.now))
    assert isinstance(here.refused(first), HostLost)
    here.do(asking.tick(here.machine, 3.0))
    here.do(asking.tick(here.machine, 4.0))
    assert here.seen(RelayAwait)[1:] == [RelayAwait((late.id,))]


def test_a_gateway_that_never_answers_is_not_waited_for() -> None:
    here = host("f")
    here.call("f", budget_s=5.0)
    wanted = here.ask(here.busy("f")[0], "far.h")
    here.do(asking.tick(here.machine, 5.5))
    assert not here.told(wanted)
    here.do(asking.tick(here.machine, 5.0 + GRACE_S))
    assert isinstance(here.refused(wanted), TimedOut)


def test_calls_go_only_so_deep() -> None:
    here = host("f", "g")
    here.call("f")
    outer = here.busy("f")[0]
    here.machine.instances[outer].calls_now[1].context = Context(("app.g",) * MOST_DEEP)
    error = here.refused(here.ask(outer, "g"))
    assert isinstance(error, LimitExceeded) and "cycle" in error.message


def ring(ceiling: int, spaces: int = 100) -> tuple[CallingHost, list[Ask]]:
    """`f` and `g` call one another until there is no room for more."""
    here = host("f", "g", ceiling=ceiling, offer=Offer(cpus=2.0, spaces=spaces))
    here.call("f", budget_s=60.0)
    asked = [here.ask(here.busy("f")[0], "g")]
    while len(asked) < min(2 * ceiling, spaces):
        here.wait(0.05)
        worker = next(n for n in here.busy() + here.busy("g") if asked[-1].id in _ids_of(here, n))
        asked.append(here.ask(worker, "f" if asked[-1].name == "g" else "g"))
    return here, asked


def _ids_of(here: CallingHost, number: int) -> set[bytes]:
    return {each.id for each in here.machine.instances[number].calls_now.values()}


def test_a_ring_of_calls_is_broken_at_its_newest() -> None:
    for ceiling, spaces in ((2, 100), (100, 4)):
        here, asked = ring(ceiling, spaces)
        assert len(asked) == 4
        here.wait(LOOK_AFTER_S / 2)
        assert not here.relayed()
        here.wait(LOOK_AFTER_S)
        # First it is tried elsewhere; when it comes back here, it is known again.
        assert [each.call_id for each in here.relayed()] == [asked[-1].id]
        back = here.call(asked[-1].name, call_id=asked[-1].id)
        here.wait(2 * LOOK_AFTER_S)
        error = here.error(back)
        assert isinstance(error, Overloaded) and error.detail["reason"] == "deadlock"


def two_at_work() -> tuple[CallingHost, list[bytes]]:
    """Both instances that `f` may have work on a call."""
    here = host("f", ceiling=2)
    calls = []
    for _ in range(2):
        calls.append(here.call("f", budget_s=60.0))
        here.wait(0.05)
    assert len(here.busy("f")) == 2
    return here, calls


def test_a_ring_over_hosts_is_broken_at_its_newest() -> None:
    here, outside = two_at_work()
    for number in here.busy("f"):
        here.ask(number, "far.h")
    later = here.call("f", budget_s=60.0)
    inside = [here.call("f", budget_s=60.0, through=("app.f", "far.h")) for _ in range(2)]
    here.wait(LOOK_FAR_AFTER_S / 2)
    assert not any(map(here.answers, (*outside, later, *inside)))
    here.wait(LOOK_FAR_AFTER_S)
    error = here.error(inside[-1])
    assert isinstance(error, Overloaded) and error.detail["reason"] == "deadlock" and "far.h" in error.message
    # Whoever asked for that one goes on now; the others may yet have their turn.
    here.wait(LOOK_FAR_AFTER_S)
    assert not any(map(here.answers, (*outside, later, inside[0])))


def test_what_is_elsewhere_may_be_slow_without_being_taken_for_a_ring() -> None:
    here, _ = two_at_work()
    here.ask(here.busy("f")[0], "far.h")
    # One instance works, the other may wait for this very call.
    inside = here.call("f", budget_s=60.0, through=("app.f", "far.h"))
    for _ in range(5):
        here.wait(LOOK_FAR_AFTER_S)
    assert not here.answers(inside)
    # Both wait, and only one of them can wait for it.
    here.ask(here.busy("f")[1], "far.h")
    for _ in range(5):
        here.wait(LOOK_FAR_AFTER_S)
    assert not here.answers(inside)


def test_no_ring_is_seen_where_somebody_still_works() -> None:
    here = host("f", "g", ceiling=1)
    here.call("f", budget_s=60.0)
    here.call("f", budget_s=60.0)
    here.ask(here.busy("f")[0], "g")
    # The one instance of `g` works: `f` will go on.
    for _ in range(10):
        here.wait(1.0)
    assert not here.relayed() and len(here.machine.calls) == 3
    # And now it waits as well, but for what happens elsewhere.
    here = host("f", "g", ceiling=1)
    here.call("f", budget_s=60.0)
    here.call("f", budget_s=60.0)
    here.ask(here.busy("f")[0], "far.h")
    for _ in range(10):
        here.wait(1.0)
    assert len(here.relayed()) == 1 and not [e for e in here.effects if isinstance(e, Inform)]
