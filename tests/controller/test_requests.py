"""Requests to the controller: answered to the asker's own inbox, and bounded for each sender and together."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from types import SimpleNamespace
from typing import Any, TypeVar, cast
from unittest.mock import AsyncMock, MagicMock

import msgspec
import pytest

from motes.bus.connection import Message
from motes.controller.door import Door
from motes.controller.requests import Requests
from motes.controller.service import Controller
from motes.controller.slots import LIMITS
from motes.errors import NotFound, TooLarge, Unavailable
from motes.model.instance import Event
from motes.model.keeper import AskLogs, AskRoutes, LogLine, Tool, decode_answer
from motes.model.routes import Routes
from motes.tasks import Tasks
from system.test_crossings import CALLERS_VERBS, GATEWAYS_VERBS, HOSTS_VERBS, OWNERS_VERBS

T = TypeVar("T")
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


class Narrow:
    """A connection that carries little."""

    payload_limit_bytes = 64 * 2**10

    def __init__(self) -> None:
        self.sent: list[bytes] = []

    def publish(self, subject: str, data: bytes) -> bool:
        if len(data) > self.payload_limit_bytes:
            raise TooLarge(f"a message of {len(data)} bytes", limit_bytes=self.payload_limit_bytes)
        self.sent.append(data)
        return True


def answered(verb: str, question: object, kind: type[T], **store: Any) -> T:
    """What the owner hears; what the store has, by its method."""

    async def run() -> T:
        connection, tasks = Narrow(), Tasks("controller")
        given = {name: AsyncMock(return_value=found) for name, found in store.items()}
        core = SimpleNamespace(state=SimpleNamespace(apps={"app": SimpleNamespace(release_id="r1")}, removed=set()))
        controller = MagicMock(connection=connection, tasks=tasks, core=core, store=SimpleNamespace(**given))
        controller.withdrawn.names = frozenset()
        requests = Requests(cast(Controller, controller), cast(Door, MagicMock()))
        data = msgspec.msgpack.encode(question)
        requests.on_message(Message(f"keeper.local.{verb}", "_INBOX.local.x.request.y", data, False))
        await tasks.wait()
        return decode_answer(connection.sent[-1], kind)

    return asyncio.run(run())


def test_of_logs_that_no_message_can_carry_the_newest_come() -> None:
    """As of an app that writes what is no text: each byte of it becomes three."""
    lines = [LogLine(float(number), "host", "app", "f", 1, "\N{REPLACEMENT CHARACTER}" * 4096) for number in range(100)]
    found = answered(
        "logs", AskLogs("app", limit=1000), list[LogLine], logs=[msgspec.msgpack.encode(line) for line in lines]
    )
    assert found == lines[-len(found) :] and 3 <= len(found) < 100


def test_a_quiet_workload_is_heard_beside_one_whose_logs_no_message_can_carry() -> None:
    quiet = LogLine(0.0, "host", "app", "quiet", 1, "what went wrong")
    loud = [LogLine(float(number), "host", "app", "loud", 1, "x" * 4096) for number in range(1, 100)]
    logs = [msgspec.msgpack.encode(line) for line in (quiet, *loud)]
    assert answered("logs", AskLogs("app", "quiet"), list[LogLine], logs=logs) == [quiet]


def test_of_events_that_no_message_can_carry_the_newest_come() -> None:
    events = [Event(float(number), "instance.end", "crashed", "host", detail="x" * 4096) for number in range(100)]
    found = answered("events", 1000, list[Event], events=[msgspec.json.encode(event) for event in events])
    assert found == events[-len(found) :] and 3 <= len(found) < 100


def test_an_answer_that_no_message_can_carry_is_an_error_and_no_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    tools = [Tool("app", f"f{number}", "what it does" * 100, {}, ()) for number in range(100)]
    monkeypatch.setattr("motes.controller.requests.tools", lambda state: tools)
    with pytest.raises(TooLarge, match="'tools'"):
        answered("tools", None, list[Tool])


def test_what_is_told_of_all_releases_is_put_into_words_once_and_anew_after_each_deploy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Any caller may ask for it, in a few bytes, without end."""
    told: list[int] = []

    def tell(state: Any) -> list[Tool]:
        told.append(1)
        return [Tool("app", state.apps["app"].release_id, "", {}, ())]

    async def run() -> None:
        connection, tasks = Narrow(), Tasks("controller")
        app = SimpleNamespace(release_id="r1")
        core = SimpleNamespace(state=SimpleNamespace(apps={"app": app}, removed=set()))
        controller = MagicMock(connection=connection, tasks=tasks, core=core)
        controller.withdrawn.names = frozenset()
        requests = Requests(cast(Controller, controller), cast(Door, MagicMock()))
        for app.release_id in ("r1", "r2"):
            for _ in range(50):
                requests.on_message(Message("keeper.shop.tools", "_INBOX.shop.x.request.y", b"\xc0", False))
                await tasks.wait()
            assert decode_answer(connection.sent[-1], list[Tool])[0].name == app.release_id

    monkeypatch.setattr("motes.controller.requests.tools", tell)
    asyncio.run(run())
    assert len(told) == 2
