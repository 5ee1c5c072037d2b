"""A host that is new or back is not given every call at once, only because it has none in flight."""

from __future__ import annotations

from motes.router.core import Router
from motes.router.hosts import GENTLY_S
from router.routing import DONE, a_router, beat, call, reply, routes, sent_to


def load(router: Router, count: int, now: float) -> list[str]:
    """The hosts of so many calls that stay in flight."""
    return [sent_to(call(router, now=now)[1])[0] for _ in range(count)]


def beats(router: Router, since: float, until: float) -> None:
    """All hosts are heard, each half second."""
    for step in range(int((until - since) * 2) + 1):
        for name in ("a", "b", "new"):
            router.on_beat(beat(name), min(since + step / 2, until))


def test_a_host_that_comes_to_a_busy_workload_gets_a_part_that_grows() -> None:
    router = a_router("a", "b")
    load(router, 40, 0.0)
    router.on_routes(routes("a", "b", "new"), 0.0)
    assert load(router, 20, 0.1).count("new") <= 2
    beats(router, 0.0, GENTLY_S / 2)
    assert 5 <= load(router, 40, GENTLY_S / 2).count("new") <= 25
    beats(router, GENTLY_S / 2, GENTLY_S + 1)
    assert load(router, 60, GENTLY_S + 1).count("new") >= 20


def test_a_host_that_is_back_is_called_gently_at_first() -> None:
    router = a_router("a", "b")
    load(router, 20, 0.0)
    router.on_host_gone("b", 0.0)
    load(router, 10, 0.5)
    router.on_beat(beat("b"), 0.6)
    assert load(router, 20, 0.7).count("b") <= 2


def test_where_nobody_else_is_it_gets_every_call() -> None:
    router = a_router("a", "b")
    router.on_routes(routes("a", "b", "new"), 0.0)
    router.on_host_gone("a", 0.0), router.on_host_gone("b", 0.0)
    assert set(load(router, 10, 0.1)) == {"new"}


def test_who_begins_to_call_is_gentle_to_nobody() -> None:
    router = a_router("a", "b", "c", "d")
    hosts = load(router, 40, 0.0)
    assert all(8 <= hosts.count(name) <= 12 for name in "abcd")
    assert not router.hosts._fresh


def test_when_nobody_is_new_any_more_nothing_is_remembered() -> None:
    router = a_router("a", "b")
    router.on_routes(routes("a", "b", "new"), 0.0)
    beats(router, 0.0, GENTLY_S)
    call_id, _ = call(router, now=GENTLY_S)
    reply(router, call_id, DONE, GENTLY_S)
    assert not router.hosts._fresh
