"""Hosts that refuse a call or fail at it."""

from __future__ import annotations

from motes.errors import HostLost, Overloaded, SpaceFailed
from motes.model.call import failed
from motes.router.core import MAX_SPACE_FAILURES
from motes.router.effects import Settle
from motes.router.hosts import EJECT_S, NO_LEASE_S
from router.routing import (
    DONE,
    FULL,
    NO_LEASE,
    NO_SPACE,
    a_router,
    beat,
    call,
    error_of,
    outcome_of,
    reply,
    routes,
    sent_to,
)


def test_a_host_without_a_lease_is_passed_over_for_the_next() -> None:
    router = a_router("a", "b")
    call_id, effects = call(router)
    (first,) = sent_to(effects)
    (second,) = sent_to(reply(router, call_id, NO_LEASE, 0.1))
    assert {first, second} == {"a", "b"}


def test_a_host_without_a_lease_is_asked_again_after_a_while_because_its_lease_may_have_been_late() -> None:
    router = a_router("a")
    call_id, _ = call(router)
    assert sent_to(reply(router, call_id, NO_LEASE, 0.0)) == []
    router.on_beat(beat("a"), NO_LEASE_S - 0.1)
    assert sent_to(router.tick(NO_LEASE_S - 0.1)) == []
    assert sent_to(router.tick(NO_LEASE_S)) == ["a"]


def test_busy_everywhere_is_told_to_the_caller_at_once() -> None:
    router = a_router("a", "b")
    call_id, _ = call(router)
    assert len(sent_to(reply(router, call_id, FULL, 0.1))) == 1
    assert isinstance(error_of(reply(router, call_id, FULL, 0.2)), Overloaded)


def test_a_host_that_fails_is_passed_over_longer_each_time() -> None:
    router = a_router("a")
    now, waits = 0.0, []
    for _ in range(3):
        call_id, effects = call(router, now)
        assert sent_to(effects) == ["a"]
        reply(router, call_id, NO_SPACE, now)
        router.cancel(call_id)
        began = now
        while not sent_to(call(router, now)[1]):
            now += 0.05
            router.on_beat(beat("a"), now)
        waits.append(round((now - began) / EJECT_S))
        for other in list(router.calls):
            router.cancel(other)
    assert waits == [1, 2, 4]


def test_a_host_that_works_again_starts_with_a_clean_slate() -> None:
    router = a_router("a")
    for failures in range(3):
        call_id, _ = call(router, now=failures * 10.0)
        reply(router, call_id, NO_SPACE, failures * 10.0)
        router.cancel(call_id)
        router.on_beat(beat("a"), failures * 10.0 + 9.9)
    call_id, effects = call(router, now=30.0)
    assert sent_to(effects) == ["a"]
    reply(router, call_id, DONE, 30.0)
    call_id, _ = call(router, now=30.0)
    reply(router, call_id, NO_SPACE, 30.0)
    router.on_beat(beat("a"), 30.0 + EJECT_S)
    assert sent_to(router.tick(30.0 + EJECT_S)) == ["a"]


def test_a_host_that_fails_fast_does_not_attract_the_calls() -> None:
    router = a_router("bad", "good")
    sent = []
    for number in range(100):
        now = number * 0.01
        router.on_beat(beat("bad"), now), router.on_beat(beat("good"), now)
        call_id, effects = call(router, now)
        while (host := sent_to(effects)) == ["bad"]:
            sent += host
            effects = reply(router, call_id, NO_SPACE, now)
        sent += host
        if number >= 50:  # Good takes its time.
            reply(router, call_id, DONE, now)
    assert sent.count("bad") <= 3


def test_a_call_for_which_no_host_can_make_a_space_is_given_up() -> None:
    router = a_router("a", "b", "c", "d", "e")
    call_id, _ = call(router)
    for _ in range(MAX_SPACE_FAILURES - 1):
        assert len(sent_to(reply(router, call_id, NO_SPACE, 0.0))) == 1
    effects = reply(router, call_id, NO_SPACE, 0.0)
    assert len(sent_to(effects)) == 1 or isinstance(error_of(effects), SpaceFailed)


def test_a_refusal_that_comes_after_its_host_was_given_up_is_no_outcome() -> None:
    router = a_router("a", idempotent=True)
    call_id, _ = call(router)
    assert sent_to(router.on_host_gone("a", 0.1)) == []
    assert reply(router, call_id, NO_LEASE, 0.2) == []
    router.on_beat(beat("a"), 0.3)
    assert router.calls[call_id].hosts == ["a"]


def test_a_call_that_a_host_gave_back_waits_for_another_host_instead_of_failing() -> None:
    router = a_router("a", idempotent=True)
    call_id, effects = call(router)
    assert sent_to(effects) == ["a"]
    gave_back = failed(HostLost("its owner wants the machine", host="a"), try_elsewhere=True)
    effects = reply(router, call_id, gave_back, 0.5)
    assert sent_to(effects) == [] and not [each for each in effects if isinstance(each, Settle)]
    assert sent_to(router.on_routes(routes("b", idempotent=True), 0.6)) == ["b"]
    assert outcome_of(reply(router, call_id, DONE, 0.7)) == DONE
