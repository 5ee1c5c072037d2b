"""Hosts that have still to fetch what a call needs: others are asked, and a call that finds none waits and is told."""

from __future__ import annotations

import pytest

from motes.errors import SpaceFailed, TimedOut
from motes.model.call import STATUS_TRY_ELSEWHERE, Outcome, failed
from motes.model.host import Load
from motes.router.effects import Settle
from router.routing import DONE, a_router, beat, call, error_of, reply, sent_to

MUCH = 150 * 2**20


def still_fetching(missing_bytes: object = MUCH) -> Outcome:
    return failed(SpaceFailed("still fetching", fetching_bytes=missing_bytes), try_elsewhere=True)


def test_a_host_that_tells_that_it_fetches_is_passed_over_until_it_tells_that_it_has_all() -> None:
    router = a_router("a", "b")
    router.on_beat(beat("a", {"app.f": Load(fetching=MUCH)}), 0.0)
    assert {sent_to(call(router)[1])[0] for _ in range(10)} == {"b"}
    router.on_beat(beat("a"), 0.1)
    assert sent_to(call(router, 0.1)[1]) == ["a"]


def test_a_call_that_came_too_early_goes_to_the_next_host_and_so_do_those_after_it() -> None:
    router = a_router("a", "b")
    call_id, effects = call(router)
    (first,) = sent_to(effects)
    other = "b" if first == "a" else "a"
    assert sent_to(reply(router, call_id, still_fetching(), 0.1)) == [other]
    assert {sent_to(call(router, 0.1)[1])[0] for _ in range(10)} == {other}
    assert reply(router, call_id, DONE, 0.2) == [Settle(call_id, DONE)]


def test_where_every_host_fetches_a_call_waits_and_is_sent_when_one_has_all() -> None:
    router = a_router("a")
    call_id, _ = call(router)
    for at in (0.1, 0.2, 0.3):
        assert sent_to(reply(router, call_id, still_fetching(), at)) == []
    router.on_beat(beat("a", {"app.f": Load(fetching=MUCH)}), 0.4)
    assert sent_to(router.tick(0.5)) == []
    router.on_beat(beat("a"), 0.6)
    assert sent_to(router.tick(0.7)) == ["a"]


def test_a_call_whose_time_is_over_is_told_which_host_fetches_how_much() -> None:
    router = a_router("a")
    call_id, _ = call(router, timeout_s=2.0)
    reply(router, call_id, still_fetching(), 0.1)
    router.on_beat(beat("a", {"app.f": Load(fetching=MUCH)}), 1.9)
    error = error_of(router.tick(2.0))
    assert isinstance(error, TimedOut)
    assert error.message == (
        "app.f: not begun within 2 s: host 'a' is still fetching what it needs (150 MiB to come); try again later"
    )


@pytest.mark.parametrize("missing_bytes", [0, -1, "much", None, 1.5, [1]])
def test_what_is_no_number_of_bytes_is_a_failure_like_others(missing_bytes: object) -> None:
    router = a_router("a")
    call_id, _ = call(router, timeout_s=60.0)
    reply(router, call_id, still_fetching(missing_bytes), 0.1)
    assert router.hosts.fetching("app.f", ["a"]) == {} and router.calls[call_id].space_failures == 1


def test_a_number_that_is_absurd_keeps_no_call_from_ending_in_time() -> None:
    router = a_router("a")
    body = b'{"code": "space_failed", "message": "", "detail": {"fetching_bytes": 1%b}}' % (b"0" * 400)
    first, _ = call(router, timeout_s=2.0)
    reply(router, first, Outcome(STATUS_TRY_ELSEWHERE, body), 0.1)
    second, _ = call(router, timeout_s=2.0)
    ended = {effect.call_id for effect in router.tick(4.0) if isinstance(effect, Settle)}
    assert ended == {first, second} and not router.calls
