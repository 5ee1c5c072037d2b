"""Calls that functions on one host make of functions on another: each host asks the gateway, which routes them.

A host may have called what a function that it holds a lease for declares, and nothing else: it is the gateway that
checks this, for a host could say anything of itself. Whose call it is the host says as well, and so that call meets
nothing but what the same host has asked for. The id by which the gateway calls is made of the host's with a secret: who
knew it could answer its own call in the name of the host that has it, so that this host is passed over by everybody.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import time
from collections import OrderedDict
from collections.abc import AsyncGenerator
from typing import Protocol

import msgspec

from motes.bus import subjects
from motes.bus.connection import Connection, Message
from motes.errors import HostLost, MotesError, NotFound, Overloaded, Refused, TimedOut
from motes.model.call import (
    CALL_ID_BYTES,
    MOST_AWAITED,
    STATUS_ITEM,
    STATUS_OK,
    WINDOW_ITEMS,
    Context,
    Outcome,
    failed,
    unpack_more,
    unpack_request,
)
from motes.model.caller import told_by_host
from motes.model.names import HOST_PREFIX, is_name
from motes.model.routes import Routes
from motes.model.units import format_bytes
from motes.tasks import Tasks

MOST_OF_A_HOST = 1_000
"""Calls of one host that are under way here at a time."""
MOST_BYTES_OF_A_HOST = 256 * 2**20
"""What their bodies may hold together."""
MOST_QUESTIONS_OF_A_HOST = 8
"""So many at a time may have the controller asked, in the gateway's name, for what the host's functions declare."""
STILL_ALLOWED_S = 60.0
"""What a host was allowed it may do for so long after its lease has ended: calls that had begun there go on."""
MOST_REMEMBERED = 10_000
LATE_S = 1.0
"""So long after a call's time its stream still waits for the host to take items: who has the call tells first."""


class Caller(Protocol):
    """The part of `motes.client.cluster.Cluster` that a relay uses."""

    async def call_bytes(
        self,
        app: str,
        workload: str,
        body: bytes,
        timeout_s: float | None = None,
        context: Context | None = ...,
        call_id: bytes | None = None,
    ) -> bytes: ...

    def stream_bytes(
        self,
        app: str,
        workload: str,
        body: bytes,
        timeout_s: float | None = None,
        context: Context | None = ...,
        call_id: bytes | None = None,
    ) -> AsyncGenerator[bytes, None]: ...

    async def routes(self, app: str, anew: bool = False) -> Routes: ...


class _Host:
    """What one host has under way here."""

    def __init__(self) -> None:
        self.calls = 0
        self.bytes = 0
        self.questions = asyncio.Semaphore(MOST_QUESTIONS_OF_A_HOST)


class _Relayed:
    """One call under way; `room` is how many items its caller still takes."""

    def __init__(self, host: str, reply: str, ends_at: float) -> None:
        self.host = host
        self.reply = reply
        self.ends_at = ends_at
        self.room = asyncio.Semaphore(WINDOW_ITEMS)
        self.has_sent_items = False
        self.task: asyncio.Task[None] | None = None


class Relay:
    """Hears the hosts' calls on one connection; motes.agent.relaying is the other side."""

    def __init__(self, cluster: Caller, answers: Connection, secret: bytes) -> None:
        """`secret` is the same for every gateway of the cluster: a call that is sent again is the same call."""
        self._secret = secret
        self._cluster = cluster
        self._answers = answers
        self._under_way: dict[bytes, _Relayed] = {}
        self._hosts: dict[str, _Host] = {}
        self._allowed: OrderedDict[tuple[str, str, str], float] = OrderedDict()
        """When a host's function was last seen to be allowed to call another."""
        self._tasks = Tasks("gateway")

    async def start(self) -> None:
        """Raises Unavailable."""
        self._answers.on_reconnected = self.on_reconnected
        for subject in subjects.relayed("*"):
            await self._answers.subscribe(subject, self._on_message)

    def on_reconnected(self) -> None:
        """Items that were on their way are lost."""
        for relayed in list(self._under_way.values()):
            self._break_off(relayed)

    def _on_message(self, message: Message) -> None:
        _, host, verb, *address = message.subject.split(".")
        try:
            is_its_own = message.reply.startswith(f"{subjects.inbox(HOST_PREFIX + host)}.")
            if verb == "call" and len(address) == 2 and is_its_own:
                self._on_call(host, address[0], address[1], message)
            elif verb == "await" and is_its_own:
                self._on_await(host, message)
            elif verb == "cancel":
                self._on_cancel(host, message.data)
            elif verb == "more":
                self._on_more(host, *unpack_more(message.data))
        except ValueError:
            return  # No call: its sender gets no answer, and its own time ends.

    def _on_call(self, host: str, app: str, workload: str, message: Message) -> None:
        call_id, budget_s, body, context = unpack_request(message.data)
        context = msgspec.structs.replace(context, on_behalf=told_by_host(host, context.on_behalf))
        if call_id in self._under_way:
            return  # One that a host sends again while it is under way is answered once.
        size, of_host = len(body), self._hosts.setdefault(host, _Host())
        if of_host.calls >= MOST_OF_A_HOST or of_host.bytes + size > MOST_BYTES_OF_A_HOST:
            most = f"{MOST_OF_A_HOST} calls or {format_bytes(MOST_BYTES_OF_A_HOST)}"
            error = Overloaded(f"functions on host {host!r} have {most} under way elsewhere", retry_after_s=1)
            self._answer(message.reply, failed(error))
            return
        relayed = _Relayed(host, message.reply, asyncio.get_running_loop().time() + budget_s + LATE_S)
        self._under_way[call_id] = relayed
        of_host.calls += 1
        of_host.bytes += size
        work = self._work(relayed, call_id, app, workload, body, budget_s, context)
        relayed.task = self._tasks.spawn(work)
        relayed.task.add_done_callback(lambda _: self._ended(call_id, host, size))

    def _ended(self, call_id: bytes, host: str, size: int) -> None:
        del self._under_way[call_id]
        of_host = self._hosts[host]
        of_host.calls -= 1
        of_host.bytes -= size
        if not of_host.calls:
            del self._hosts[host]

    def _on_cancel(self, host: str, call_id: bytes) -> None:
        relayed = self._under_way.get(call_id)
        if relayed is not None and relayed.host == host and relayed.task is not None:
            relayed.task.cancel()

    def _on_more(self, host: str, call_id: bytes, count: int) -> None:
        relayed = self._under_way.get(call_id)
        if relayed is None or relayed.host != host:
            return
        if not count:
            self._break_off(relayed)
        for _ in range(min(count, WINDOW_ITEMS)):
            relayed.room.release()

    def _break_off(self, relayed: _Relayed) -> None:
        """A connection broke, this one or the host's: a stream would have a hole, and look whole."""
        if relayed.has_sent_items and relayed.task is not None and not relayed.task.done():
            relayed.task.cancel()
            self._answer(relayed.reply, failed(_broken(relayed.host)))

    def _on_await(self, host: str, message: Message) -> None:
        """A host waits for calls; one that is not known here was another gateway's, or its answer was not heard."""
        why = "the connection broke over which its answer came, or the gateway that had the call sent on has ended"
        lost = failed(HostLost(f"whether the call ran is unknown: {why}"))
        ids = message.data[: MOST_AWAITED * CALL_ID_BYTES]
        for at in range(0, len(ids), CALL_ID_BYTES):
            relayed = self._under_way.get(ids[at : at + CALL_ID_BYTES])
            if relayed is None or relayed.host != host:
                self._answer(f"{message.reply}.{ids[at : at + CALL_ID_BYTES].hex()}", lost)

    async def _work(
        self,
        relayed: _Relayed,
        call_id: bytes,
        app: str,
        workload: str,
        body: bytes,
        budget_s: float,
        context: Context,
    ) -> None:
        cluster, own_id = self._cluster, self._own_id(relayed.host, call_id)
        try:
            await self._check(relayed.host, context.caller, app, workload)
            route = (await cluster.routes(app)).workloads.get(workload)
            if route is None:
                raise NotFound(f"app {app!r} has no function {workload!r}")
            if not route.streams:
                result = await cluster.call_bytes(app, workload, body, budget_s, context, own_id)
                outcome = Outcome(STATUS_OK, result)
            else:
                stream = cluster.stream_bytes(app, workload, body, budget_s, context, own_id)
                async with contextlib.aclosing(stream) as items:
                    async for item in items:
                        await self._hand(relayed, item)
                outcome = Outcome(STATUS_OK, b"")
        except MotesError as error:
            outcome = failed(error)
        self._answer(relayed.reply, outcome)

    async def _hand(self, relayed: _Relayed, item: bytes) -> None:
        """The next item, as soon as the host takes one. Raises TimedOut and HostLost."""
        try:
            async with asyncio.timeout_at(relayed.ends_at):
                await relayed.room.acquire()
        except TimeoutError:
            raise TimedOut(f"host {relayed.host!r} took no more items within the call's time") from None
        relayed.has_sent_items = True
        if not self._answer(relayed.reply, Outcome(STATUS_ITEM, item)):
            raise _broken(relayed.host)

    def _own_id(self, host: str, call_id: bytes) -> bytes:
        return hashlib.blake2b(host.encode() + b"." + call_id, key=self._secret, digest_size=CALL_ID_BYTES).digest()

    async def _check(self, host: str, caller: str, app: str, workload: str) -> None:
        """Raises Refused when no function that this host may run declares the call."""
        callee, key = f"{app}.{workload}", (host, caller, f"{app}.{workload}")
        was_allowed = time.monotonic() - self._allowed.get(key, float("-inf")) <= STILL_ALLOWED_S
        if await self._declares(host, caller, callee):
            self._note_allowed(key)
        elif was_allowed:
            return
        # What is known here may be old: what was told while there was no connection was not heard.
        elif await self._declares(host, caller, callee, anew=True):
            self._note_allowed(key)
        else:
            raise Refused(
                f"host {host!r} runs no function {caller or '(without a name)'} that declares a call of {callee}"
            )

    def _note_allowed(self, key: tuple[str, str, str]) -> None:
        self._allowed[key] = time.monotonic()
        self._allowed.move_to_end(key)
        if len(self._allowed) > MOST_REMEMBERED:
            self._allowed.popitem(last=False)

    async def _declares(self, host: str, caller: str, callee: str, *, anew: bool = False) -> bool:
        """Whether a function that the host may run declares the call. Raises Unavailable."""
        app, _, name = caller.partition(".")
        if not is_name(app) or not is_name(name):
            return False
        try:
            async with self._hosts[host].questions:
                route = (await self._cluster.routes(app, anew)).workloads.get(name)
        except NotFound:
            return False
        return route is not None and host in route.hosts and callee in route.calls

    def _answer(self, reply: str, outcome: Outcome) -> bool:
        return self._answers.publish(reply, outcome.pack())


def _broken(host: str) -> HostLost:
    return HostLost(f"the connection between the gateway and host {host!r} broke in the middle of the stream")
