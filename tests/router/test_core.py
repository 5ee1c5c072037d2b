"""The router's core: which host gets a call, waiting for one, budgets and cancelling."""

from __future__ import annotations

import random

import pytest

from motes.errors import BadInput, FunctionError, NotFound, Overloaded, TimedOut, Unavailable
from motes.model.call import failed
from motes.model.host import Load
from motes.model.routes import Route, Routes
from motes.router import core
from motes.router.core import ACTIVATE_AGAIN_S, GRACE_S, Router
from motes.router.effects import Activate, CancelAt, Send, Settle
from router.routing import (
    DONE,
    FULL,
    a_router,
    beat,
    call,
    epochs,
    error_of,
    reply,
    routes,
    sent_to,
)


def test_a_call_goes_to_a_host_of_the_route_and_its_answer_settles_it() -> None:
    router = a_router("a")
    call_id, effects = call(router)
    assert sent_to(effects) == ["a"]
    assert reply(router, call_id, DONE, 0.1) == [Settle(call_id, DONE)]
    assert not router.calls


def test_a_daemon_is_not_called_as_a_function() -> None:
    router = Router(random.Random(1).randrange)
    call(router)
    effects = router.on_routes(Routes("app", next(epochs), {"f": Route("daemon", ("a",))}), 0.1)
    assert isinstance(error_of(effects), BadInput) and not router.calls and not router.waiting
    _, effects = call(router)
    assert "is a daemon" in error_of(effects).message and not sent_to(effects) and not router.calls


def test_an_answer_that_comes_twice_settles_once() -> None:
    router = a_router("a")
    call_id, _ = call(router)
    reply(router, call_id, DONE, 0.1)
    assert reply(router, call_id, DONE, 0.1) == []


def test_an_error_of_the_function_is_not_tried_elsewhere() -> None:
    router = a_router("a", "b", idempotent=True)
    call_id, _ = call(router)
    assert isinstance(error_of(reply(router, call_id, failed(FunctionError("ValueError")), 0.1)), FunctionError)


def test_calls_spread_over_the_hosts() -> None:
    router = a_router("a", "b", "c", "d")
    hosts = [sent_to(call(router)[1])[0] for _ in range(40)]
    assert all(8 <= hosts.count(name) <= 12 for name in "abcd")


def test_one_call_after_the_other_stays_on_one_host() -> None:
    router = a_router("a", "b")
    hosts = set()
    for _ in range(10):
        call_id, effects = call(router)
        hosts.update(sent_to(effects))
        reply(router, call_id, DONE, 0.0)
    assert len(hosts) == 1


def test_a_host_that_boasts_of_no_load_gets_no_more_than_its_share() -> None:
    router = a_router("a", "b")
    router.on_beat(beat("a", {"app.f": Load(-1000, 0, 1000)}), 0.0)
    router.on_beat(beat("b", {"app.f": Load(0, 0, 1)}), 0.0)
    hosts = [sent_to(call(router)[1])[0] for _ in range(40)]
    assert hosts.count("a") <= 20


def test_a_host_that_tells_of_a_queue_is_passed_over() -> None:
    router = a_router("a", "b")
    router.on_beat(beat("a", {"app.f": Load(50, 1, 0)}), 0.0)
    assert {sent_to(call(router)[1])[0] for _ in range(10)} == {"b"}


def test_the_budget_that_is_sent_is_what_is_left() -> None:
    router = a_router("a", "b")
    call_id, _ = call(router, now=0.0, timeout_s=10.0)
    router.on_beat(beat("a"), 4.0), router.on_beat(beat("b"), 4.0)
    (sent,) = [effect for effect in reply(router, call_id, FULL, 4.0) if isinstance(effect, Send)]
    assert sent.budget_s == pytest.approx(6.0)


def test_no_more_calls_than_the_limit_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(core, "MAX_CALLS", 2)
    router = a_router("a")
    call(router), call(router)
    assert isinstance(error_of(call(router)[1]), Overloaded)
    assert len(router.calls) == 2


def test_a_call_of_what_runs_nowhere_asks_the_controller_and_waits() -> None:
    router = Router(random.Random(1).randrange)
    call_id, effects = call(router)
    assert effects == [Activate("app", "f")]
    assert sent_to(router.on_routes(routes("a"), 0.1)) == ["a"]
    assert router.calls[call_id].hosts == ["a"]


def test_many_waiting_calls_ask_once() -> None:
    router = Router(random.Random(1).randrange)
    asked = [effect for _ in range(50) for effect in call(router)[1]]
    assert asked == [Activate("app", "f")]
    assert len(sent_to(router.on_routes(routes("a"), 0.1))) == 50


def test_activation_is_tried_again_while_the_controller_is_away() -> None:
    router = Router(random.Random(1).randrange)
    call(router, now=0.0)
    assert router.tick(ACTIVATE_AGAIN_S / 2) == []
    assert router.tick(ACTIVATE_AGAIN_S) == [Activate("app", "f")]
    assert router.tick(ACTIVATE_AGAIN_S * 2) == [Activate("app", "f")]


def test_an_unknown_app_ends_its_waiting_calls_with_the_controllers_words() -> None:
    router = Router(random.Random(1).randrange)
    call(router), call(router)
    effects = router.on_refused("app", "f", NotFound("there is no app 'app'"))
    assert [effect.outcome.error().message for effect in effects if isinstance(effect, Settle)] == [
        "there is no app 'app'"
    ] * 2
    assert not router.calls and not any(router.waiting.values())


def test_a_call_that_found_no_host_in_its_time_says_so() -> None:
    router = Router(random.Random(1).randrange)
    call(router, timeout_s=2.0)
    assert isinstance(error_of(router.tick(2.0)), Unavailable)
    assert not router.calls and not any(router.waiting.values())


def test_older_routes_change_nothing() -> None:
    router = Router(random.Random(1).randrange)
    old, new = routes("a"), routes("b")
    router.on_routes(new, 0.0)
    router.on_routes(old, 0.0)
    assert sent_to(call(router)[1]) == ["b"]


def test_a_removed_app_is_forgotten() -> None:
    router = a_router("a")
    router.on_routes(Routes("app", next(epochs), {}), 0.0)
    assert router.routes("app") is None


def test_a_call_without_an_answer_ends_soon_after_its_budget() -> None:
    router = a_router("a")
    call(router, timeout_s=2.0)
    for now in (0.5, 1.0, 1.5, 2.0, 2.5, 2.9):
        router.on_beat(beat("a"), now)
        assert router.tick(now) == []
    assert isinstance(error_of(router.tick(2.0 + GRACE_S)), TimedOut)


def test_cancelling_tells_the_host_and_settles_nothing() -> None:
    router = a_router("a")
    call_id, _ = call(router)
    assert router.cancel(call_id) == [CancelAt("a", call_id)]
    assert router.cancel(call_id) == []
    assert reply(router, call_id, DONE, 0.1) == []


def test_cancelling_a_waiting_call_leaves_nothing_behind() -> None:
    router = Router(random.Random(1).randrange)
    call_id, _ = call(router)
    assert router.cancel(call_id) == []
    assert not any(router.waiting.values())
