"""Requests to the controller: answered to the asker's own inbox, and bounded for each sender and together."""

from __future__ import annotations

from collections.abc import Coroutine
from types import SimpleNamespace
from typing import Any, cast
from unittest.mock import MagicMock

import msgspec
import pytest

from motes.bus.connection import Message
from motes.controller.door import Door
from motes.controller.requests import Requests
from motes.controller.service import Controller
from motes.controller.slots import LIMITS
from motes.errors import NotFound, Unavailable
from motes.model.keeper import AskRoutes, decode_answer
from motes.model.routes import Routes
from system.test_crossings import CALLERS_VERBS, GATEWAYS_VERBS, HOSTS_VERBS, OWNERS_VERBS

MAX_OF_ONE, MAX_AT_ONCE = LIMITS["caller"]


class Desk:
    """Requests whose work is done only when a test says so."""

    def __init__(self) -> None:
        self.answers: list[tuple[str, bytes]] = []
        self.waiting: list[Coroutine[Any, Any, None]] = []
        connection = SimpleNamespace(publish=lambda subject, data: self.answers.append((subject, data)))
        core = SimpleNamespace(routes=self._no_app)
        controller = MagicMock(connection=connection, core=core, tasks=SimpleNamespace(spawn=self.waiting.append))
        self.requests = Requests(cast(Controller, controller), cast(Door, MagicMock()))

    def _no_app(self, app: str) -> Routes:
        raise NotFound(f"there is no app {app!r}")

    def ask(self, sender: str, count: int = 1, reply: str = "") -> None:
        data = msgspec.msgpack.encode(AskRoutes("nothing"))
        for _ in range(count):
            inbox = reply or f"_INBOX.{sender}.x.request.y"
            self.requests.on_message(Message(f"keeper.{sender}.routes", inbox, data, False))

    def work(self) -> None:
        """Do everything that waits."""
        waiting, self.waiting[:] = list(self.waiting), []
        for each in waiting:
            with pytest.raises(StopIteration):
                each.send(None)

    def errors(self) -> list[type[BaseException]]:
        found: list[type[BaseException]] = []
        for _, data in self.answers:
            try:
                decode_answer(data, Routes)
            except Exception as error:
                found.append(type(error))
        return found


def test_one_that_asks_without_end_leaves_the_others_their_turn() -> None:
    desk = Desk()
    desk.ask("loud", 1_000)
    assert len(desk.waiting) == MAX_OF_ONE and desk.errors() == [Unavailable] * (1_000 - MAX_OF_ONE)
    desk.ask("quiet")
    assert len(desk.waiting) == MAX_OF_ONE + 1
    desk.work()


def test_all_together_are_bounded_and_who_was_answered_may_ask_again() -> None:
    desk = Desk()
    for number in range(MAX_AT_ONCE + 50):
        desk.ask(f"u{number}")
    assert len(desk.waiting) == MAX_AT_ONCE and desk.errors() == [Unavailable] * 50
    desk.work()
    assert desk.errors().count(NotFound) == MAX_AT_ONCE
    for _ in range(3):
        desk.ask("loud", MAX_OF_ONE)
        assert len(desk.waiting) == MAX_OF_ONE
        desk.work()


def test_however_many_invites_are_out_their_bearers_take_nobody_elses_turn() -> None:
    """Who has an invite is anybody to whom it was passed on."""
    desk = Desk()
    for number in range(1_000):
        desk.ask(f"guest-{number:016x}", 5)
    of_one, of_all = LIMITS["guest"]
    assert len(desk.waiting) == of_all == 8 * of_one
    for sender in ("shop", "host-a", "local", "gateway"):
        desk.ask(sender, MAX_OF_ONE)
    assert len(desk.waiting) == of_all + 4 * MAX_OF_ONE
    desk.work()


def test_callers_keep_neither_the_owner_nor_the_gateway_waiting() -> None:
    desk = Desk()
    for number in range(10):
        desk.ask(f"u{number}", MAX_OF_ONE)
        desk.ask(f"host-{number}", MAX_OF_ONE)
    assert len(desk.waiting) == 2 * MAX_AT_ONCE
    desk.ask("local")
    desk.ask("gateway")
    assert len(desk.waiting) == 2 * MAX_AT_ONCE + 2
    desk.work()


@pytest.mark.parametrize("reply", ["_INBOX.other.x.request.y", "_INBOX.loudly.x", "host.a.lease", "$JS.API.INFO"])
def test_nobody_has_an_answer_sent_to_another(reply: str) -> None:
    desk = Desk()
    desk.ask("loud", reply=reply)
    assert not desk.waiting and not desk.answers


def test_every_verb_stands_in_the_list_of_what_is_for_others() -> None:
    """So that for each new one somebody says whose it is, and it is tried by those who are not."""
    listed = {"host": HOSTS_VERBS, "caller": CALLERS_VERBS, "owner": OWNERS_VERBS, "guest": ("join",)}
    listed["gateway"] = GATEWAYS_VERBS
    verbs = Desk().requests._verbs
    assert {kind: {name for name, verb in verbs.items() if verb.who == kind} for kind in listed} == {
        kind: set(names) for kind, names in listed.items()
    }
