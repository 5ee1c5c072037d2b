"""What hosts and callers may ask the controller: `keeper.<sender>.<verb>`, see motes.model.keeper.

NATS sees to it that the sender in the subject is who sent it. It does not see to the reply subject, so an answer goes
only to the asker's own inbox.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import msgspec

from motes.bus import subjects
from motes.bus.connection import Message
from motes.controller.archives import Archives
from motes.controller.callers import Callers
from motes.controller.core.summary import services, statuses, summaries, tools
from motes.controller.deployment import Deployment, check_question
from motes.controller.door import Door
from motes.controller.fetches import Fetches
from motes.controller.inspecting import Inspecting
from motes.controller.slots import Slots
from motes.errors import (
    BadInput,
    EngineError,
    MotesError,
    NotFound,
    OwnerError,
    Refused,
    TooLarge,
    Unavailable,
)
from motes.model.bounds import UNREADABLE
from motes.model.host import HostStatus
from motes.model.instance import Event
from motes.model.keeper import (
    AppSummary,
    AskChunks,
    AskDrain,
    AskInvite,
    AskJoin,
    AskLogs,
    AskRoutes,
    AskToken,
    Deploy,
    Fetching,
    GetChunk,
    LogLine,
    NameHosts,
    PutChunk,
    Remove,
    encode_answer,
    encode_error,
)
from motes.model.names import GATEWAY, GUEST_PREFIX, HOST_PREFIX, OWN_USER
from motes.model.receipt import AskUsage, UsagePage
from motes.model.release import Manifest, Signed
from motes.model.routes import Routes
from motes.model.succession import AskSuccessor, Successor

if TYPE_CHECKING:
    from motes.controller.core.state import State
    from motes.controller.service import Controller

T = TypeVar("T")

_log = logging.getLogger("motes.controller")
_log_lines = msgspec.msgpack.Decoder(LogLine)
WITHDRAWN = "the keys of caller {!r} were withdrawn"
MAX_LIMIT = 5_000
"""Events or log lines in one answer."""


class Verb(NamedTuple):
    """A verb: who may use it, what it takes, and what answers it. With `takes` None the question is not read."""

    who: str
    """`host`, `guest`, `caller`, `gateway` or `owner`; the last two are callers as well."""
    takes: Any
    answer: Callable[[str, Any], Awaitable[object]]
    stores: bool = False
    """Whether it needs room on the keeper's disk."""


class Requests:
    """The verbs."""

    def __init__(self, controller: Controller, door: Door) -> None:
        self._controller = controller
        admission, callers = controller.admission, Callers(controller, door)
        self._deployment = Deployment(controller)
        self._fetches = Fetches()
        archives = Archives(controller, self._deployment, self._fetches)
        self._inspecting = Inspecting(controller, self._fetches)
        self._slots = Slots()
        self._told: dict[str, tuple[dict[str, str], msgspec.Raw]] = {}
        """What is told of all releases, by verb, with which these were."""
        self._verbs = {
            "routes": Verb("caller", AskRoutes, self._routes),
            "activate": Verb("caller", AskRoutes, self._activate),
            "where": Verb("caller", int, controller.succession.where),
            "tools": Verb("caller", None, self._tools),
            "services": Verb("caller", None, self._services),
            "hosts": Verb("owner", None, self._hosts),
            "apps": Verb("owner", None, self._apps),
            "events": Verb("owner", int, self._events),
            "logs": Verb("owner", AskLogs, self._logs),
            "bundle-has": Verb("owner", AskChunks, archives.has),
            "bundle-put": Verb("owner", PutChunk, archives.put, stores=True),
            "inspect": Verb("owner", Signed, self._inspect),
            "fetching": Verb("owner", None, self._fetching),
            "deploy": Verb("owner", Deploy, self._deploy, stores=True),
            "remove": Verb("owner", Remove, self._remove),
            "bundle-get": Verb("host", GetChunk, archives.get),
            "release-get": Verb("host", str, archives.release),
            "leave": Verb("host", object, self._leave),
            "host-name": Verb("owner", NameHosts, admission.name),
            "invite": Verb("owner", AskInvite, admission.invite, stores=True),
            "join": Verb("guest", AskJoin, admission.join, stores=True),
            "claim": Verb("owner", str, admission.claim),
            "drain": Verb("owner", AskDrain, admission.drain),
            "expel": Verb("owner", str, admission.remove),
            "callers": Verb("owner", None, callers.list),
            "caller-admit": Verb("owner", AskToken, callers.admit),
            "caller-withdraw": Verb("owner", str, callers.withdraw),
            "shut-out": Verb("gateway", None, controller.withdrawn.answer),
            "revocations": Verb("owner", str, door.left_to_say),
            "usage": Verb("owner", AskUsage, self._usage),
            "quit": Verb("host", None, admission.quit),
            "successor": Verb("owner", AskSuccessor, self._successor),
        }

    def on_message(self, message: Message) -> None:
        """A request arrived."""
        _, sender, name = message.subject.split(".")
        if not message.reply.startswith(subjects.inbox(sender) + "."):
            return  # An answer there would reach somebody who did not ask.
        try:
            self._slots.take(sender)
        except Unavailable as busy:
            self._controller.connection.publish(message.reply, encode_error(busy))
            return
        self._controller.tasks.spawn(self._serve(sender, name, message))

    async def _serve(self, sender: str, name: str, message: Message) -> None:
        try:
            answer = encode_answer(await self._answer(sender, name, message.data))
        except MotesError as error:
            answer = encode_error(error)
        except UNREADABLE as error:
            answer = encode_error(BadInput(f"{name}: {error}"))
        except Exception as error:
            _log.exception("a request of %s failed: %s", sender, name)
            answer = encode_error(EngineError(f"the controller failed at {name}: {error!r}; its log says more"))
        finally:
            self._slots.give_back(sender)
        self._say(message.reply, name, answer)

    def _say(self, reply: str, name: str, answer: bytes) -> None:
        try:
            self._controller.connection.publish(reply, answer)
        except TooLarge as error:
            # Else whoever asked would wait, and hear nothing.
            too_large = TooLarge(f"the answer to {name!r} is more than NATS carries: {error.message}", **error.detail)
            self._controller.connection.publish(reply, encode_error(too_large))

    async def _answer(self, sender: str, name: str, data: bytes) -> object:
        verb = self._verbs.get(name)
        if verb is None:
            raise NotFound(f"the controller knows no verb {name!r}; is this client newer than the cluster?")
        if verb.who not in _roles(sender):
            raise Refused(f"{sender!r} may not use {name!r}: it is for the {verb.who}")
        if sender in self._controller.withdrawn.names:
            raise Refused(WITHDRAWN.format(sender))
        if verb.who == "host" and sender.removeprefix(HOST_PREFIX) in self._controller.core.state.removed:
            raise NotFound(f"{sender!r} was removed from this cluster; forget it there: motes leave")
        if verb.stores:
            self._controller.disk.check()
        question = None if verb.takes is None else msgspec.msgpack.decode(data, type=verb.takes)
        return await verb.answer(sender, question)

    # ------------------------------------------------------------------ calling

    async def _routes(self, sender: str, question: AskRoutes) -> Routes:
        return self._controller.core.routes(question.app)

    async def _activate(self, sender: str, question: AskRoutes) -> Routes:
        controller = self._controller
        routes, effects = controller.core.on_activate(question.app, question.workload, controller.now())
        controller.carry_out(effects)
        return routes

    async def _services(self, sender: str, question: None) -> msgspec.Raw:
        return self._of_releases("services", services)

    async def _tools(self, sender: str, question: None) -> msgspec.Raw:
        return self._of_releases("tools", tools)

    def _of_releases(self, name: str, tell: Callable[[State], object]) -> msgspec.Raw:
        """What is told of all releases, put into words once: it is long, and any caller may ask without end."""
        state = self._controller.core.state
        releases = {app: each.release_id for app, each in state.apps.items()}
        told = self._told.get(name)
        if told is None or told[0] != releases:
            told = self._told[name] = releases, msgspec.Raw(msgspec.msgpack.encode(tell(state)))
        return told[1]

    # ------------------------------------------------------------------ looking

    async def _hosts(self, sender: str, question: None) -> list[HostStatus]:
        return statuses(self._controller.core.state)

    async def _apps(self, sender: str, question: None) -> list[AppSummary]:
        return summaries(self._controller.core.state)

    async def _events(self, sender: str, limit: int) -> list[Event]:
        found = await self._controller.store.events(max(1, min(limit, MAX_LIMIT)))
        return self._newest([(msgspec.json.decode(data, type=Event), len(data)) for data in found])

    async def _logs(self, sender: str, question: AskLogs) -> list[LogLine]:
        if question.app not in self._controller.core.state.apps:
            raise NotFound(f"there is no app {question.app!r} (see `motes apps`)")
        if question.workload is not None and not subjects.is_name(question.workload):
            raise BadInput(f"{question.workload[:80]!r} names no workload")
        found = [(_log_lines.decode(data), len(data)) for data in await self._controller.store.logs(question.app)]
        wanted = [each for each in found if question.workload in (None, each[0].workload)]
        wanted.sort(key=lambda each: each[0].at)
        return self._newest(wanted[-max(1, min(question.limit, MAX_LIMIT)) :])

    def _newest(self, kept: list[tuple[T, int]]) -> list[T]:
        """As much of the end as one answer can carry; of each, how many bytes it has where it is kept."""
        left = self._controller.connection.payload_limit_bytes * 7 // 8
        first = len(kept)
        while first and (left := left - kept[first - 1][1]) >= 0:
            first -= 1
        return [each for each, _ in kept[first:]]

    async def _usage(self, sender: str, question: AskUsage) -> UsagePage:
        return await self._controller.receipts.page(question)

    # ------------------------------------------------------------------ deploying

    async def _inspect(self, sender: str, signed: Signed) -> Manifest:
        question = self._controller.check_inspection(signed)
        check_question(question)
        try:
            return await self._inspecting.inspect(question, msgspec.msgpack.encode(signed))
        except OwnerError:
            self._controller.tasks.spawn(self._deployment.forget_code(question.bundle))
            raise

    async def _fetching(self, sender: str, question: None) -> list[Fetching]:
        return self._fetches.under_way(self._controller.now())

    async def _deploy(self, sender: str, question: Deploy) -> object:
        return await self._deployment.deploy(question.release)

    async def _remove(self, sender: str, question: Remove) -> bool:
        await self._deployment.remove(question.removal)
        return True

    # ------------------------------------------------------------------ hosts

    async def _successor(self, sender: str, question: AskSuccessor) -> Successor:
        return await self._controller.succession.successor(sender, question)

    async def _leave(self, sender: str, word: object) -> bool:
        controller, host = self._controller, sender.removeprefix(HOST_PREFIX)
        if host in controller.core.state.hosts:
            controller.absences.note_left(host, word)
        controller.carry_out(controller.core.on_left(host, controller.now()))
        return True


def _roles(sender: str) -> tuple[str, ...]:
    if sender.startswith(HOST_PREFIX):
        return ("host",)
    if sender.startswith(GUEST_PREFIX):
        return ("guest",)
    if sender == GATEWAY:
        return ("caller", "gateway")
    return ("caller", "owner") if sender == OWN_USER else ("caller",)
