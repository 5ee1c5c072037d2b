"""Functions with reuse="caller": what one caller's calls leave in a process, no other caller's call ever meets."""

from __future__ import annotations

import itertools
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.lent_host import DONE, LentHost, function
from motes.agent.core.deadlock import LOOK_AFTER_S
from motes.agent.core.effects import Answer, Asker, Deliver, Effect, End, Prepare, Relay
from motes.agent.core.pool import QUEUE_LIMIT, START_COST_S, TURN_S, Ask, Call
from motes.errors import Overloaded, Refused
from motes.model.caller import NOBODY, Caller, caller_of, digest, through, told_by_host, told_over_http, told_over_nats
from motes.model.host import Offer
from motes.model.instance import EndReason

ADA, BOB = ("ada", ""), ("bob", "")


class Watched(LentHost):
    """A host that notes whose calls each instance gets, and breaks when it gets those of two."""

    def __init__(self, *workloads: object, **more: object) -> None:
        super().__init__(*(workloads or (function(reuse="caller"),)), **more)  # type: ignore[arg-type]
        self.callers: dict[int, list[Caller]] = {}
        self._asks = itertools.count(1)

    def _carry_out(self, effect: Effect) -> list[Effect]:
        if isinstance(effect, Deliver):
            self._note(effect)
        if isinstance(effect, Answer):
            askers = [reply for reply in effect.replies if isinstance(reply, Asker)]
            return [told for asker in askers for told in self.machine.on_told(asker, effect.outcome, self.now)]
        return super()._carry_out(effect)

    def _note(self, effect: Deliver) -> None:
        instance = self.machine.instances[effect.number]
        if self.keeps_apart(instance.address):
            served = self.callers.setdefault(effect.number, [])
            served.append(instance.calls_now[effect.tag].caller)
            assert len(set(served)) == 1, f"instance {effect.number} meets {served}"
            assert served[0] != NOBODY or len(served) == 1, f"instance {effect.number} gets two calls of nobody"

    def keeps_apart(self, address: str) -> bool:
        found = self.machine.pools[address].function
        return found is not None and found.reuse == "caller"

    def ask(self, number: int, name: str, tag: int | None = None) -> Ask:
        """The instance calls another function while it works on its oldest call, or says that it does so for `tag`."""
        made = next(self._asks)
        tag = next(iter(self.machine.instances[number].calls_now)) if tag is None else tag
        wanted = Ask(made, tag, b"ask" + made.to_bytes(13), name, b"y")
        self.do(self.machine.on_ask(number, wanted, self.now))
        return wanted

    def works_for(self, *caller: str) -> list[int]:
        """The busy instances whose calls are this caller's."""
        found = self.machine.instances.items()
        return [n for n, each in found if any(call.caller == caller for call in each.calls_now.values())]

    def serve(self, caller: str | None, name: str = "f") -> int:
        """One call from its beginning to its end: the instance that worked on it."""
        before = set(self.busy(name))
        self.call(name, caller=caller)
        (number,) = set(self.busy(name)) - before
        self.reply(number)
        return number


def a_host(ceiling: int = 100, floor: int = 0, spaces: int = 100, **more: object) -> Watched:
    host = Watched(function(reuse="caller", **more), offer=Offer(cpus=8.0, spaces=spaces))
    host.lease(ceiling=ceiling, floor=floor)
    return host


# Who meets whom.


def test_a_caller_gets_its_own_instance_again_and_no_other_does() -> None:
    host = a_host()
    first = host.serve("ada")
    assert host.serve("bob") != first
    assert host.serve("ada") == host.serve("ada") == first


def test_what_is_nobodys_gets_a_fresh_process_each_time() -> None:
    host = a_host()
    used = [host.serve(None) for _ in range(3)] + [host.serve("ada")]
    assert len(set(used)) == 4 and host.ends() == [EndReason.CALL_DONE] * 3


def test_a_callers_second_call_waits_for_no_other_caller_and_for_its_own_instance_only_as_long_as_a_start() -> None:
    host = a_host()
    for _ in range(60):
        host.serve("ada")
    host.call(caller="ada"), host.call(caller="ada")
    assert len(host.works_for(*ADA)) == 1, "the first is known to be quick"
    host.call(caller="bob")
    assert len(host.works_for(*BOB)) == 1, "nobody else's instance will ever be free for him"
    host.wait(START_COST_S * 3)
    assert len(host.works_for(*ADA)) == 2


def test_many_calls_of_one_caller_share_an_instance_where_they_may() -> None:
    host = a_host(concurrency=4)
    for caller in ("ada", "bob", "ada", "ada", "bob"):
        host.call(caller=caller)
    assert sorted(len(each.calls_now) for each in host.machine.instances.values()) == [2, 3]


def test_an_instance_that_is_nobodys_yet_is_given_to_who_comes_first_and_another_takes_its_place() -> None:
    host = a_host(floor=1)
    (ready,) = host.live()
    assert host.serve("ada") == ready
    host.wait(0.25)
    (fresh,) = set(host.live()) - {ready}
    assert host.serve("bob") == fresh and host.serve("ada") == ready


def test_the_same_call_in_anothers_name_is_not_joined() -> None:
    host = a_host()
    call = host.call(caller="ada")
    for caller, inbox in ((BOB, "bobs"), (NOBODY, "nobodys"), (ADA, "adas other")):
        host.do(host.machine.on_call(Call(call, "app.f", b"x", 0.0, 30.0, [inbox], caller=caller), 0.0))
    host.reply(host.busy()[0])
    told = {inbox: each.outcome for each in host.seen(Answer) if isinstance(each, Answer) for inbox in each.replies}
    assert isinstance(told["bobs"].error(), Refused) and isinstance(told["nobodys"].error(), Refused)
    assert told["adas other"] == told[call.hex()] == DONE


def test_calls_that_waited_for_a_release_are_kept_apart_when_it_says_so() -> None:
    host = Watched(function(), by_hand=[Prepare])
    host.manifests["r2"] = type(host.manifests["r1"])("app", (function(reuse="caller", concurrency=4),))
    host.lease()
    calls = [host.call(caller=caller) for caller in ("ada", "bob", None, "ada", None)]
    host.lease(release="r2")
    host.do(host.machine.on_space_ready("r2", host.now))
    host.wait(START_COST_S)
    assert len(host.busy()) == 4
    while host.busy():
        host.reply(host.busy()[0])
    assert all(host.answers(call) for call in calls)


def test_an_instance_of_an_older_release_that_served_everybody_serves_nobody_of_the_next() -> None:
    host = Watched(function())
    host.manifests["r2"] = type(host.manifests["r1"])("app", (function(reuse="caller"),))
    host.lease()
    everybodys = host.serve("ada")
    host.lease(release="r2")
    assert host.serve("ada") != everybodys != host.serve("bob")


# Where there is no room.


def test_at_the_ceiling_what_was_idle_the_longest_makes_place() -> None:
    host = a_host(ceiling=2)
    ada, bob = host.serve("ada"), host.serve("bob")
    host.wait(0.1)
    host.serve("ada")
    carol = host.serve("carol")
    assert host.live() == [ada, carol] and host.ends() == [EndReason.OTHER_CALLER]
    assert host.serve("bob") not in (ada, bob)


def test_on_a_full_host_it_is_the_same() -> None:
    host = a_host(spaces=2)
    host.serve("ada"), host.serve("bob"), host.serve("carol"), host.serve(None)
    assert len(host.machine.instances) <= 2 and host.ends()[0] == EndReason.PRESSURE


def test_another_functions_call_gets_the_space_of_a_caller_that_is_idle() -> None:
    host = Watched(function("f", reuse="caller"), function("g"), offer=Offer(cpus=8.0, spaces=1))
    host.lease("f", floor=0), host.lease("g")
    host.serve("ada")
    host.serve("ada", "g")
    assert host.live("f") == []


def test_nobody_waits_behind_a_caller_whose_instance_is_busy() -> None:
    host = a_host(ceiling=2)
    bob = host.serve("bob")
    host.call(caller="ada"), host.call(caller="ada"), host.call(caller="ada")
    host.call(caller="bob")
    assert host.works_for(*BOB) == [bob]


@pytest.mark.parametrize("concurrency", [1, 4])
def test_a_caller_that_never_stops_calling_does_not_keep_others_out(concurrency: int) -> None:
    host = a_host(ceiling=2, concurrency=concurrency)
    for _ in range(8 * concurrency):
        host.call(caller="ada")
    host.wait(START_COST_S), host.wait(START_COST_S)
    assert len(host.works_for(*ADA)) == 2
    others = [host.call(caller=caller) for caller in ("bob", "carol")]
    for _ in range(40):
        host.now += TURN_S / 4
        for number in host.busy():
            host.reply(number)
            host.call(caller="ada")
        host.do(host.machine.tick(host.now))
    assert all(host.answers(call) for call in others)


def test_a_change_of_callers_is_not_made_for_each_call() -> None:
    host = a_host(ceiling=1)
    for number in range(100):
        host.call(caller=("ada", "bob")[number % 2])
    for _ in range(5_000):
        host.now += 13e-6
        (busy,) = host.busy()
        (caller,) = {call.caller[0] for call in host.machine.instances[busy].calls_now.values()}
        host.reply(busy)
        host.call(caller=caller)
    assert 2 <= len(host.ends()) <= 5_000 * 13e-6 / TURN_S + 1


def test_as_many_make_place_as_callers_wait() -> None:
    host = a_host(ceiling=10)
    for _ in range(40):
        host.call(caller="ada")
    for _ in range(5):
        host.wait(START_COST_S)
    assert len(host.works_for(*ADA)) == 10
    host.call(caller="bob")
    for _ in range(5):
        host.now += TURN_S
        host.reply(host.works_for(*ADA)[0])
    assert host.ends().count(EndReason.OTHER_CALLER) == 1


def test_of_those_that_end_slowly_no_more_make_place_than_callers_wait() -> None:
    host = a_host(ceiling=3, concurrency=2)
    for _ in range(12):
        host.call(caller="ada")
    host.wait(START_COST_S)
    host.call(caller="bob")
    for number in host.works_for(*ADA):
        host.now += TURN_S
        host.reply(number)
    assert [each.leaving for each in host.machine.instances.values()].count(EndReason.OTHER_CALLER) == 1
    assert sorted(len(each.calls_now) for each in host.machine.instances.values()) == [1, 2, 2]


def test_names_without_end_fill_neither_ceiling_nor_host_for_good() -> None:
    host = a_host(ceiling=20, spaces=30, idle_s=5.0)
    host.serve("ada")
    for number in range(500):
        host.now += 0.001
        host.serve(f"name-{number}")
        assert len(host.machine.instances) <= 20
    assert host.serve("ada")
    host.wait(6.0)
    host.wait(0.25)
    assert host.live() == [] and len(host.machine.pools["app.f"].free()) == 0
    assert host.machine.pools["app.f"].lanes.keys() == {None}, "nothing is remembered of who has gone"


def test_calls_of_many_names_that_wait_are_bounded_together() -> None:
    host = a_host(ceiling=1)
    host.call(caller="ada")
    for number in range(QUEUE_LIMIT):
        host.call(caller=f"name-{number}")
    assert isinstance(host.error(host.call(caller="bob")), Overloaded)


def test_what_a_caller_has_left_goes_after_the_idle_time_also_at_the_floor() -> None:
    host = a_host(floor=2, idle_s=5.0)
    used = {host.serve(caller) for caller in ("ada", "bob", "carol")}
    host.wait(0.25)
    host.wait(5.1)
    host.wait(0.25)
    assert len(host.live()) == 2 and not used & set(host.live())


def test_an_idle_instance_of_a_caller_goes_when_memory_is_short() -> None:
    host = a_host(floor=1)
    host.serve("ada")
    host.wait(0.25)
    host.do(host.machine.on_usage({}, host.machine.offer.memory_bytes + 1, host.now))
    host.do(host.machine.on_usage({}, host.machine.offer.memory_bytes + 1, host.now))
    assert len(host.live()) == 1 and host.callers.keys() & set(host.live()) == set()


@settings(deadline=None)
@given(st.integers(0, 2**32), st.sampled_from([1, 3]), st.integers(1, 5), st.integers(0, 2))
def test_whatever_happens_no_instance_meets_two_callers_and_every_call_is_answered(
    seed: int, concurrency: int, ceiling: int, floor: int
) -> None:
    chance = random.Random(seed)
    host = a_host(ceiling, min(floor, ceiling), spaces=chance.choice((3, 100)), concurrency=concurrency, idle_s=1.0)
    calls, given_up = [], set()
    for _ in range(80):
        host.now += chance.choice((0.0, 0.001, 0.05))
        what = chance.random()
        if what < 0.5:
            calls.append(host.call(caller=chance.choice(("ada", "bob", "carol", None))))
        elif what < 0.8 and host.busy():
            host.reply(chance.choice(host.busy()))
        elif what < 0.85 and host.live():
            host.end(chance.choice(host.live()), EndReason.CRASHED)
        elif what < 0.9 and calls:
            given_up.add(calls[-1])
            host.cancel(calls[-1])
        else:
            host.do(host.machine.tick(host.now))
    for _ in range(400):
        host.now += TURN_S
        for number in host.busy():
            host.reply(number)
        host.do(host.machine.tick(host.now))
    assert all(host.answers(call) for call in calls if call not in given_up)
    assert not host.machine.calls and host.machine.pools["app.f"].queued == 0
    host.wait(2.0)
    assert set(host.machine.pools["app.f"].lanes) == {None}


# Calls of functions.


def shop(**more: object) -> Watched:
    """`f` serves everybody and calls `g`, which keeps callers apart; `g` may call itself."""
    made = Watched(
        function("f", calls=("g",)), function("g", reuse="caller", calls=("g",), **more), offer=Offer(8.0, spaces=50)
    )
    made.lease("f")
    return made


def test_what_a_function_does_for_two_callers_never_meets_in_a_function_that_it_calls() -> None:
    host = shop()
    host.lease("g")
    used = {}
    for caller in ("ada", "bob", "ada", "bob"):
        host.call("f", caller=caller)
        (f,) = host.busy("f")
        host.ask(f, "g")
        (g,) = host.works_for(caller, "", "app.f")
        used.setdefault(caller, set()).add(g)
        host.reply(g), host.reply(f)
    assert len(used["ada"]) == len(used["bob"]) == 1 and used["ada"] != used["bob"]
    assert len(host.live("f")) == 1, "they met in f, which lets them"


def test_a_caller_does_not_meet_what_a_function_did_for_it_elsewhere() -> None:
    """A function may know what its caller may not; what it leaves behind in another is not for the caller."""
    host = shop()
    host.lease("g")
    host.call("f", caller="ada")
    host.ask(host.busy("f")[0], "g")
    (g,) = host.busy("g")
    host.reply(g)
    assert host.serve("ada", "g") != g
    assert host.callers[g] == [("ada", "", "app.f")]


def test_an_instance_that_lies_about_the_call_it_works_on_calls_for_those_only_who_called_it() -> None:
    host = Watched(function("f", calls=("g",), reuse="caller", concurrency=4), function("g", reuse="caller"))
    host.lease("f"), host.lease("g")
    host.call("f", caller="ada"), host.call("f", caller="ada"), host.call("f", caller="bob")
    (liar, _) = host.works_for(*ADA) + host.works_for(*BOB)
    for tag in range(10):
        host.ask(liar, "g", tag)
    callers = [call.caller for n in host.busy("g") for call in host.machine.instances[n].calls_now.values()]
    assert set(callers) == {("ada", "", "app.f")}


def test_what_is_nobodys_stays_nobodys_inside() -> None:
    host = shop()
    host.lease("g")
    for _ in range(2):
        host.call("f", caller=None)
        (f,) = host.busy("f")
        host.ask(f, "g")
        host.reply(host.busy("g")[0]), host.reply(f)
    assert len(host.callers) == 2 and host.ends() == [EndReason.CALL_DONE] * 2


def test_a_call_that_leaves_the_host_says_whose_it_is_in_words_that_tell_callers_apart() -> None:
    host = shop()
    for caller in ("ada", "bob", "ada", None):
        host.call("f", caller=caller)
        (f,) = host.busy("f")
        host.ask(f, "g")
        host.reply(f)
    told = [each.context.on_behalf for each in host.seen(Relay) if isinstance(each, Relay)]
    assert told[0] == told[2] == digest(("ada", "", "app.f")) and told[1] not in ("", told[0]) and told[3] == ""


def test_calls_that_wait_for_one_another_are_found_also_where_there_is_room_for_the_same_caller() -> None:
    host = shop(concurrency=4)
    host.lease("g", ceiling=1)
    host.call("g", caller="ada")
    (g,) = host.busy("g")
    wanted = host.ask(g, "g")
    host.wait(LOOK_AFTER_S * 2)
    (elsewhere,) = [each for each in host.seen(Relay) if isinstance(each, Relay)]
    assert elsewhere.call_id == wanted.id and not host.machine.pools["app.g"].queued and not host.seen(End)


# Names.


def test_nobody_can_name_itself_as_another() -> None:
    told = (
        caller_of("ada", ""),
        caller_of("bob", "ada"),
        caller_of("bob", ""),
        caller_of("gateway", told_over_http("ada")),
        caller_of("gateway", told_over_http("../nats/ada")),
        caller_of("gateway", told_over_nats("ada")),
        caller_of("gateway", told_by_host("one", digest(ADA))),
        caller_of("gateway", told_by_host("two", digest(ADA))),
        caller_of("gateway", told_by_host("one", "http/ada")),
        through(ADA, "app.f"),
        through(ADA, "app.g"),
        through(through(ADA, "app.f"), "app.g"),
        through(caller_of("ada", "kim"), "app.f"),
        caller_of("ada", "app.f"),
    )
    assert len({*told}) == len(told) == len({digest(each) for each in told})
    assert caller_of("gateway", "") == caller_of("gateway", told_by_host("one", "")) == NOBODY == through(NOBODY, "a.f")


@given(st.lists(st.text(max_size=3), min_size=1, max_size=4), st.lists(st.text(max_size=3), min_size=1, max_size=4))
def test_two_callers_have_two_digests(one: list[str], other: list[str]) -> None:
    assert (digest(tuple(one)) == digest(tuple(other))) == (one == other)
    assert len(digest(tuple(one))) == 32
