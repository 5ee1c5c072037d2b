"""Requests to the controller: answered to the asker's own inbox, and bounded for each sender and together."""

from __future__ import annotations

from collections.abc import Coroutine
from types import SimpleNamespace
from typing import Any, cast

import msgspec
import pytest

from motes.bus.connection import Message
from motes.controller.admission import Admission
from motes.controller.requests import MAX_AT_ONCE, MAX_OF_ONE, Requests
from motes.controller.service import Controller
from motes.errors import NotFound, Unavailable
from motes.model.keeper import AskRoutes, decode_answer
from motes.model.routes import Routes

_DOOR = ("invite", "join", "remove", "quit")


class Desk:
    """Requests whose work is done only when a test says so."""

    def __init__(self) -> None:
        self.answers: list[tuple[str, bytes]] = []
        self.waiting: list[Coroutine[Any, Any, None]] = []
        connection = SimpleNamespace(publish=lambda subject, data: self.answers.append((subject, data)))
        core = SimpleNamespace(routes=self._no_app)
        controller = SimpleNamespace(connection=connection, core=core, tasks=SimpleNamespace(spawn=self.waiting.append))
        self.requests = Requests(cast(Controller, controller), cast(Admission, SimpleNamespace(**dict.fromkeys(_DOOR))))

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


@pytest.mark.parametrize("reply", ["_INBOX.other.x.request.y", "_INBOX.loudly.x", "host.a.lease", "$JS.API.INFO"])
def test_nobody_has_an_answer_sent_to_another(reply: str) -> None:
    desk = Desk()
    desk.ask("loud", reply=reply)
    assert not desk.waiting and not desk.answers
