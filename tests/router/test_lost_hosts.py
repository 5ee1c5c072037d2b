"""Hosts that end or fall silent, and this router's own connection."""

from __future__ import annotations

from motes.errors import HostLost
from motes.model.call import NEVER_ARRIVED, Heard, failed, lost
from motes.model.host import SILENCE_S
from motes.router.core import FORGET_S, HOST_LOST_S, MOST_MISSED, Router
from motes.router.effects import AskAfter, CancelAt
from motes.router.hosts import NO_LEASE_S
from router.routing import (
    DONE,
    NO_LEASE,
    a_router,
    beat,
    call,
    error_of,
    outcome_of,
    reply,
    routes,
    sent_to,
)


def on_two_hosts(router: Router, connection: int = 0) -> tuple[bytes, str, str]:
    """A call that is on two hosts, for the first was silent when the second beat: its id, the first, and the second."""
    call_id, effects = call(router)
    (first,) = sent_to(effects)
    second = "b" if first == "a" else "a"
    router.on_beat(beat(second, connection=connection), SILENCE_S)
    assert sent_to(router.tick(SILENCE_S)) == [second]
    return call_id, first, second


def test_nobody_there_is_always_safe_to_try_elsewhere() -> None:
    router = a_router("a", "b")
    call_id, effects = call(router)
    (first,) = sent_to(effects)
    (second,) = sent_to(router.on_nobody_there(call_id, 1, 0.1))
    assert first != second


def test_a_call_that_may_have_begun_is_not_sent_again() -> None:
    router = a_router("a", "b")
    _, effects = call(router, timeout_s=60.0)
    (host,) = sent_to(effects)
    assert router.on_host_gone(host, 0.1) == []
    assert router.tick(HOST_LOST_S - 0.1) == []
    assert isinstance(error_of(router.tick(HOST_LOST_S)), HostLost)


def test_a_host_that_left_or_was_removed_is_not_waited_for() -> None:
    router = a_router("a")
    call(router)
    assert isinstance(error_of(router.on_host_gone("a", 0.1, for_good=True)), HostLost)


def test_a_call_goes_on_when_its_host_is_back_by_another_connection() -> None:
    router = a_router("a")
    router.on_beat(beat("a"), 0.0)
    call_id, _ = call(router)
    router.on_host_gone("a", 0.1)
    router.on_beat(beat("a"), 2.0)
    assert router.tick(9.0) == []
    assert outcome_of(reply(router, call_id, DONE, 9.0)) == DONE


def test_a_call_is_lost_when_its_hosts_agent_has_started_anew() -> None:
    router = a_router("a")
    router.on_beat(beat("a", boot="1"), 0.0)
    call(router)
    assert isinstance(error_of(router.on_beat(beat("a", boot="2"), 0.5)), HostLost)


def test_a_call_is_lost_when_its_host_is_back_and_nobody_knows_whether_its_agent_is_the_same() -> None:
    router = a_router("a")
    call(router, timeout_s=60.0)
    router.on_host_gone("a", 0.1)
    router.on_routes(routes("a"), 0.3)
    assert isinstance(error_of(router.on_beat(beat("a", boot="2"), 0.5)), HostLost)


def test_a_call_that_did_not_leave_this_program_is_sent_later() -> None:
    router = a_router("a")
    call_id, _ = call(router)
    assert router.on_unsent(call_id, 1) == []
    assert sent_to(router.tick(0.1)) == ["a"]


def test_an_idempotent_call_moves_to_another_host() -> None:
    router = a_router("a", "b", idempotent=True)
    _, effects = call(router)
    (first,) = sent_to(effects)
    (second,) = sent_to(router.on_host_gone(first, 0.1))
    assert first != second


def test_an_idempotent_call_is_also_sent_to_another_host_when_its_own_is_silent() -> None:
    router = a_router("a", "b", idempotent=True)
    call_id, *_ = on_two_hosts(router)
    effects = reply(router, call_id, DONE, SILENCE_S + 0.1)
    assert outcome_of(effects) == DONE
    assert {effect.host for effect in effects if isinstance(effect, CancelAt)} == {"a", "b"}


def test_a_call_on_a_silent_host_is_given_up_after_a_while() -> None:
    router = a_router("a")
    call(router, timeout_s=60.0)
    assert router.tick(HOST_LOST_S - 0.1) == []
    assert isinstance(error_of(router.tick(HOST_LOST_S)), HostLost)


def test_new_calls_pass_over_a_silent_host_until_it_is_heard() -> None:
    router = a_router("a")
    call(router, now=SILENCE_S)
    assert sent_to(router.tick(SILENCE_S + 0.1)) == []
    assert sent_to(router.on_beat(beat("a"), SILENCE_S + 0.2)) == ["a"]


def test_a_beat_of_the_past_revives_nobody() -> None:
    router = a_router("a")
    router.on_beat(beat("a", number=7), 0.0)
    router.on_host_gone("a", 0.1)
    router.on_beat(beat("a", number=7), 0.2)
    assert sent_to(call(router, now=0.2)[1]) == []
    router.on_beat(beat("a", boot="2", number=1), 0.3)
    assert sent_to(call(router, now=0.3)[1]) == ["a"]


def test_what_was_sent_before_the_connection_broke_is_unknown() -> None:
    router = a_router("a")
    call(router)
    assert isinstance(error_of(router.on_disconnected(0.1)), HostLost)


def test_idempotent_calls_wait_for_the_connection() -> None:
    router = a_router("a", idempotent=True)
    call(router)
    assert router.on_disconnected(0.1) == []
    assert sent_to(call(router, now=3.0)[1]) == []
    assert sent_to(router.on_connected(4.0)) == ["a", "a"]


def test_silence_while_disconnected_is_nobodys_fault() -> None:
    router = a_router("a")
    router.on_disconnected(0.0)
    router.on_connected(60.0)
    assert sent_to(call(router, now=60.0)[1]) == ["a"]


# ---------------------------------------------------------------------- calls that may not have arrived

LOST_ON_ITS_WAY = failed(HostLost("the call did not reach it", **{NEVER_ARRIVED: True}), try_elsewhere=True)


def test_a_host_that_is_back_by_another_connection_is_asked_after_the_calls_that_it_may_never_have_got() -> None:
    router = a_router("a")
    first = beat("a", connection=3)
    router.on_beat(first, 0.0)
    call_id, _ = call(router)
    assert router.on_beat(beat("a", connection=3), 0.2) == []
    assert router.on_beat(beat("a", connection=8), 5.0) == [AskAfter("a", call_id, 1, Heard("1", first.number))]
    assert router.on_beat(beat("a", connection=8), 5.2) == []


def test_a_call_that_never_arrived_is_sent_again_also_when_it_may_run_only_once() -> None:
    router = a_router("a")
    router.on_beat(beat("a", connection=3), 0.0)
    call_id, _ = call(router)
    router.on_beat(beat("a", connection=8), 5.0)
    assert sent_to(reply(router, call_id, LOST_ON_ITS_WAY, 5.1)) == ["a"]
    assert outcome_of(reply(router, call_id, DONE, 5.2)) == DONE


def test_a_call_that_is_on_several_hosts_already_is_not_asked_after() -> None:
    router = a_router("a", "b", idempotent=True)
    for name in "ab":
        router.on_beat(beat(name, connection=3), 0.0)
    _, first, _ = on_two_hosts(router, connection=3)
    assert router.on_beat(beat(first, connection=8), SILENCE_S + 0.1) == []


def test_a_host_that_was_silent_for_long_is_known_no_more() -> None:
    router = a_router("a", "b")
    router.on_beat(beat("a"), FORGET_S - 1)
    call(router, now=FORGET_S - 1, timeout_s=60.0)
    router.tick(FORGET_S)
    assert router.hosts.names() == ["a"]
    router.on_beat(beat("b"), FORGET_S + 1)
    assert sorted(router.hosts.names()) == ["a", "b"]


def test_a_late_heartbeat_of_an_earlier_connection_asks_after_nothing() -> None:
    router = a_router("a")
    router.on_beat(beat("a", connection=8, number=9), 0.0)
    call(router)
    assert router.on_beat(beat("a", connection=3, number=8), 0.1) == []


def test_that_a_call_never_arrived_is_taken_once_of_each_sending() -> None:
    router = a_router("a")
    router.on_beat(beat("a", connection=3), 0.0)
    call_id, _ = call(router)
    for at in (5.0, 5.1):
        router.on_beat(beat("a", connection=int(at * 10)), at)
    assert sent_to(reply(router, call_id, LOST_ON_ITS_WAY, 5.2, number=1)) == ["a"]
    assert reply(router, call_id, LOST_ON_ITS_WAY, 5.3, number=1) == []
    assert outcome_of(reply(router, call_id, DONE, 5.4)) == DONE


def test_a_host_that_says_again_and_again_that_a_call_did_not_reach_it_is_not_sent_it_all_the_time() -> None:
    """Else one that lies would have a body of some megabytes sent for each of its few bytes."""
    router = a_router("a")
    call_id, effects = call(router)
    sent = 0
    while sent_to(effects) and sent < 1000:
        sent += 1
        effects = reply(router, call_id, LOST_ON_ITS_WAY, 0.1)
    assert sent == 1 + MOST_MISSED
    router.on_beat(beat("a"), NO_LEASE_S - 0.1)
    assert sent_to(router.tick(0.1 + NO_LEASE_S)) == ["a"]
    assert sent_to(reply(router, call_id, LOST_ON_ITS_WAY, 1.2)) == []
    router.on_beat(beat("a"), 3.0)
    other, effects = call(router, now=3.0)
    assert sent_to(effects) == ["a"] and sent_to(reply(router, other, LOST_ON_ITS_WAY, 3.1)) == ["a"]


def test_a_refusal_that_a_host_says_again_after_a_break_does_not_end_what_another_host_has() -> None:
    router = a_router("a", "b")
    call_id, effects = call(router)
    (first,) = sent_to(effects)
    (second,) = sent_to(reply(router, call_id, NO_LEASE, 0.1, number=1))
    assert first != second
    assert reply(router, call_id, NO_LEASE, 0.2, number=1) == []
    assert router.calls[call_id].hosts == [second]


def test_a_host_that_refused_a_call_cannot_refuse_it_in_the_place_of_the_one_that_has_it_now() -> None:
    router = a_router("a", "b")
    call_id, _ = call(router)
    (second,) = sent_to(reply(router, call_id, NO_LEASE, 0.1))
    assert all(reply(router, call_id, NO_LEASE, 0.2, guess) == [] for guess in range(10_000))
    assert router.calls[call_id].hosts == [second]


def test_of_two_hosts_that_have_a_call_the_one_that_refuses_it_is_the_one_that_leaves() -> None:
    router = a_router("a", "b", idempotent=True)
    call_id, _, second = on_two_hosts(router)
    assert reply(router, call_id, NO_LEASE, SILENCE_S + 0.1, number=1) == []
    assert router.calls[call_id].hosts == [second]


GONE = lost("host 'a' has answered this call before, and its answer is gone")


def test_a_call_whose_host_has_forgotten_its_end_is_unknown_to_its_caller_and_never_sent_again() -> None:
    router = a_router("a", "b")
    call_id, _ = call(router)
    error = error_of(reply(router, call_id, GONE, 5.0))
    assert isinstance(error, HostLost) and "its answer is gone" in error.message and "idempotent" in error.message


def test_one_that_may_run_twice_is_sent_again_instead() -> None:
    router = a_router("a", "b", idempotent=True)
    call_id, effects = call(router)
    (first,) = sent_to(effects)
    (second,) = sent_to(reply(router, call_id, GONE, 0.1))
    assert first != second and reply(router, call_id, GONE, 0.2, number=1) == []
    assert sent_to(reply(router, call_id, GONE, 0.3)) == []
    assert len(sent_to(router.on_routes(routes("a", "b", idempotent=True), 0.4))) == 1
