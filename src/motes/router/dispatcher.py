"""The router's shell: carries calls over a connection as the core decides. A part of every program that calls."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import os
import random
from asyncio import Future
from collections.abc import AsyncGenerator, Callable, Sequence
from typing import Any
from weakref import WeakValueDictionary

import msgspec

from motes.bus import subjects
from motes.bus.connection import Connection, Message
from motes.errors import BadInput, EngineError, MotesError, Refused, TooLarge, Untrusted
from motes.model.bounds import UNREADABLE
from motes.model.call import (
    FROM_OUTSIDE,
    ITEM_LIMIT_BYTES,
    STATUS_OK,
    WINDOW_ITEMS,
    Context,
    Outcome,
    failed,
    inbox_token,
    pack_asked,
    pack_more,
    pack_request,
    read_inbox_token,
    unpack_reply,
)
from motes.model.host import Beat
from motes.model.keeper import AskRoutes, decode_answer
from motes.model.release import PAYLOAD_LIMIT_BYTES
from motes.model.routes import Routes
from motes.model.units import format_bytes
from motes.router import room
from motes.router.core import Router
from motes.router.effects import Activate, AskAfter, CancelAt, Effect, Hand, MakeRoom, MoreAt, Send, Settle
from motes.router.room import ROOM_OF_A_HOST_BYTES, Room
from motes.router.spans import CallSpans
from motes.tasks import Tasks
from motes.tracing import incoming, tracer

TICK_S = 0.1
KEEPER_TIMEOUT_S = 5.0

_log = logging.getLogger("motes.router")
_beats = msgspec.msgpack.Decoder(Beat)
_routes = msgspec.msgpack.Decoder(Routes)


class Dispatcher:
    """Calls, routed. Create it, open its connection with the two callbacks, then `start`."""

    def __init__(self, part: str = "client") -> None:
        found = tracer(part)
        self._spans = None if found is None else CallSpans(found)
        self._router = Router(random.Random().randrange)
        self._futures: dict[bytes, Future[Outcome]] = {}
        self._items: dict[bytes, asyncio.Queue[bytes | None]] = {}
        """Of calls whose caller wants a stream."""
        self._gathered: dict[bytes, bytearray] = {}
        """A JSON list without its end, for callers who get a stream and did not ask for one."""
        self._room = Room()
        self._rooms: WeakValueDictionary[str, Room] = WeakValueDictionary()
        """Of each host that has or waits for some of it."""
        self._large: dict[tuple[bytes, int], asyncio.Task[None]] = {}
        """Sendings of calls whose large results are waited for."""
        self._asking = Tasks("router")
        self._ticking: asyncio.TimerHandle | None = None
        self._do: dict[type, Callable[[Any], None]] = {
            Send: self._do_send,
            Settle: self._do_settle,
            CancelAt: self._do_cancel,
            Activate: self._do_activate,
            Hand: self._do_hand,
            MoreAt: self._do_more,
            AskAfter: self._do_ask_after,
            MakeRoom: self._do_make_room,
        }

    async def start(self, connection: Connection) -> None:
        """Hear answers, heartbeats and routes on `connection`. Raises Unavailable."""
        self._connection = connection
        self._loop = asyncio.get_running_loop()
        self._reply_prefix = f"{connection.inbox}.call."
        await connection.subscribe(self._reply_prefix + "*", self._on_reply)
        await connection.subscribe(subjects.beat("*"), self._on_beat)
        await connection.subscribe(subjects.gone("*"), self._on_gone)
        await connection.subscribe(subjects.route("*"), self._on_route)

    def close(self) -> None:
        """Give every call up."""
        if self._ticking is not None:
            self._ticking.cancel()
        self._asking.cancel()
        for future in self._futures.values():
            future.cancel()
        self._futures.clear()

    # ------------------------------------------------------------------ what callers use

    async def call(
        self,
        app: str,
        workload: str,
        body: bytes,
        timeout_s: float | None,
        context: Context = FROM_OUTSIDE,
        call_id: bytes | None = None,
    ) -> bytes:
        """The function's result for `body`. Raises what motes.errors lists; cancelling it cancels the call."""
        call_id, future = self._begin(app, workload, body, timeout_s, context, call_id)
        try:
            outcome: Outcome = await future
        except asyncio.CancelledError:
            self._carry_out(self._router.cancel(call_id))
            raise
        finally:
            self._futures.pop(call_id, None)
            gathered = self._gathered.pop(call_id, None)
        if outcome.status == STATUS_OK:
            # Only a stream's end is empty: whoever did not ask for a stream gets its items as one list.
            return outcome.body or bytes(gathered or b"[")[: -1 if gathered else None] + b"]"
        raise _error_of(app, workload, outcome)

    async def stream(
        self,
        app: str,
        workload: str,
        body: bytes,
        timeout_s: float | None,
        context: Context = FROM_OUTSIDE,
        call_id: bytes | None = None,
    ) -> AsyncGenerator[bytes, None]:
        """The items of a function that streams, as they come; of another function its one result.

        The function waits for who takes them. Closing this cancels the call. Raises as `call`, also in the middle.
        """
        call_id, future = self._begin(app, workload, body, timeout_s, context, call_id)
        items = self._items[call_id] = asyncio.Queue()
        future.add_done_callback(lambda _: items.put_nowait(None))
        taken = 0
        try:
            while (item := await items.get()) is not None:
                yield item
                taken += 1
                if taken == WINDOW_ITEMS // 2:
                    self._carry_out(self._router.more(call_id, taken))
                    taken = 0
            outcome = future.result()
            if outcome.status != STATUS_OK:
                raise _error_of(app, workload, outcome)
            if outcome.body:
                yield outcome.body
        finally:
            self._carry_out(self._router.cancel(call_id))
            future.cancel()
            self._futures.pop(call_id, None)
            self._items.pop(call_id, None)

    def _begin(
        self,
        app: str,
        workload: str,
        body: bytes,
        timeout_s: float | None,
        context: Context,
        call_id: bytes | None,
    ) -> tuple[bytes, Future[Outcome]]:
        if len(body) > PAYLOAD_LIMIT_BYTES:
            limit = format_bytes(PAYLOAD_LIMIT_BYTES)
            raise TooLarge(f"{app}.{workload}: the input is over {limit}", limit_bytes=PAYLOAD_LIMIT_BYTES)
        # Nobody can guess it: a host could answer in another's place.
        call_id = call_id or os.urandom(16)
        if not context.trace and (trace := incoming.get()):
            context = msgspec.structs.replace(context, trace=trace)
        if call_id in self._futures:
            raise Refused("a call of this id is under way; give each call its own")
        future = self._futures[call_id] = self._loop.create_future()
        if self._spans is not None:
            context = self._spans.begin(call_id, app, workload, context)
            future.add_done_callback(functools.partial(self._end_spans, call_id))
        self._carry_out(self._router.call(call_id, app, workload, body, timeout_s, self._loop.time(), context))
        if self._ticking is None:
            self._ticking = self._loop.call_later(TICK_S, self._tick)
        return call_id, future

    async def routes(self, app: str, anew: bool = False) -> Routes:
        """The app's routes, asked for when they are not known here, or `anew`. Raises NotFound and Unavailable."""
        known = self._router.routes(app)
        if known is not None and known.workloads and not anew:
            return known
        found = await self._ask("routes", AskRoutes(app))
        # From now on changes are heard.
        self._carry_out(self._router.on_routes(found, self._loop.time()))
        return found

    def hosts(self) -> list[str]:
        """The hosts that were heard of."""
        return self._router.hosts.names()

    def on_disconnected(self) -> None:
        """The connection was lost."""
        self._carry_out(self._router.on_disconnected(self._loop.time()))

    def on_reconnected(self) -> None:
        """The connection is back; what changed meanwhile is asked for anew."""
        self._carry_out(self._router.on_connected(self._loop.time()))

    # ------------------------------------------------------------------ events

    def _on_reply(self, message: Message) -> None:
        try:
            call_id, number, asks = read_inbox_token(message.subject[len(self._reply_prefix) :])
            now = self._loop.time()
            if not message.no_responders:
                effects = self._router.on_reply(call_id, number, unpack_reply(message.data), now)
            elif asks:
                return  # The host has gone again: that says nothing about the call, which is asked after once more.
            else:
                effects = self._router.on_nobody_there(call_id, number, now)
        except ValueError:
            return  # Not an answer to anything that was asked here.
        self._carry_out(effects)

    def _on_beat(self, message: Message) -> None:
        with contextlib.suppress(*UNREADABLE):
            beat = _beats.decode(message.data)
            # The subject says who sent it; NATS lets a host use only its own.
            if subjects.beat(beat.host) == message.subject:
                self._carry_out(self._router.on_beat(beat, self._loop.time()))

    def _on_gone(self, message: Message) -> None:
        host = message.subject.rpartition(".")[2]
        self._carry_out(self._router.on_host_gone(host, self._loop.time(), message.data == subjects.LEFT))

    def _on_route(self, message: Message) -> None:
        with contextlib.suppress(*UNREADABLE):
            self._carry_out(self._router.on_routes(_routes.decode(message.data), self._loop.time()))

    def _tick(self) -> None:
        try:
            self._carry_out(self._router.tick(self._loop.time()))
            self._leave_room()
        except Exception:
            # A mistake in one turn must not end all later ones: no call would be given up, or sent again.
            _log.exception("a turn of the router failed")
        self._ticking = self._loop.call_later(TICK_S, self._tick) if self._router.calls else None

    # ------------------------------------------------------------------ effects

    def _carry_out(self, effects: Sequence[Effect]) -> None:
        for effect in effects:
            self._do[type(effect)](effect)

    def _do_send(self, effect: Send) -> None:
        reply = self._reply_prefix + inbox_token(effect.call_id, effect.number)
        context = effect.context
        if self._spans is not None:
            context = self._spans.send(effect.call_id, effect.host, context)
        request = pack_request(effect.call_id, effect.budget_s, effect.body, context)
        subject = subjects.call(effect.host, effect.app, effect.workload, self._connection.user)
        if not self._connection.publish(subject, request, reply):
            # Too much is unsent already, or the connection has just broken. Not from here: the router is in the middle.
            self._loop.call_soon(self._on_unsent, effect.call_id, effect.number)

    def _on_unsent(self, call_id: bytes, number: int) -> None:
        self._carry_out(self._router.on_unsent(call_id, number))

    def _do_settle(self, effect: Settle) -> None:
        future = self._futures.get(effect.call_id)
        if future is not None and not future.done():
            future.set_result(effect.outcome)

    def _end_spans(self, call_id: bytes, future: Future[Outcome]) -> None:
        if self._spans is not None:
            self._spans.end(call_id, None if future.cancelled() else future.result())

    def _do_hand(self, effect: Hand) -> None:
        items = self._items.get(effect.call_id)
        if len(effect.item) > ITEM_LIMIT_BYTES:
            self._break_off(effect.call_id, Untrusted("a host sends an item larger than any may be"))
        elif items is not None:
            items.put_nowait(effect.item)
            if items.qsize() > WINDOW_ITEMS:
                self._break_off(effect.call_id, Untrusted("a host sends items that nobody asked for"))
        elif effect.call_id in self._futures:
            gathered = self._gathered.setdefault(effect.call_id, bytearray(b"["))
            gathered += effect.item + b","
            if len(gathered) > PAYLOAD_LIMIT_BYTES:
                limit = format_bytes(PAYLOAD_LIMIT_BYTES)
                message = f"the items of the stream are over {limit} together; take them one by one with `stream`"
                self._break_off(effect.call_id, TooLarge(message, limit_bytes=PAYLOAD_LIMIT_BYTES))
            else:
                self._carry_out(self._router.more(effect.call_id, 1))

    def _break_off(self, call_id: bytes, error: MotesError) -> None:
        self._carry_out(self._router.cancel(call_id))
        self._do_settle(Settle(call_id, failed(error)))

    def _do_more(self, effect: MoreAt) -> None:
        self._connection.publish(subjects.more(effect.host), pack_more(effect.call_id, effect.count))

    def _do_ask_after(self, effect: AskAfter) -> None:
        reply = self._reply_prefix + inbox_token(effect.call_id, effect.number, asks=True)
        self._connection.publish(subjects.more(effect.host), pack_asked(effect.call_id, effect.heard), reply)

    def _do_make_room(self, effect: MakeRoom) -> None:
        future = self._futures.get(effect.call_id)
        sending = effect.call_id, effect.number
        if future is not None and not future.done() and sending not in self._large:
            self._large[sending] = self._asking.spawn(self._make_room(effect, future))

    async def _make_room(self, effect: MakeRoom, future: Future[Outcome]) -> None:
        """Ask for a large result in its turn. Its room in the host's part is free again when the call is over."""
        of_host = self._rooms.setdefault(effect.host, Room(ROOM_OF_A_HOST_BYTES))
        try:
            async with of_host.hold(effect.size):
                async with self._room.hold(effect.size):
                    if not future.done():
                        self._carry_out(self._router.more(effect.call_id, 1))
                        await self._come_or_late(future)
                await asyncio.wait((future,))
        finally:
            self._large.pop((effect.call_id, effect.number), None)

    async def _come_or_late(self, future: Future[Outcome]) -> None:
        """Until the call is over, or its host had time to answer and nothing of it waits in nats-server.

        The server answers behind all that it has for this connection. So however slow the connection is, room is given
        to others only as fast as it takes what comes.
        """
        while not (await asyncio.wait((future,), timeout=room.PATIENCE_S))[0]:
            with contextlib.suppress(MotesError):
                await self._connection.flush(room.PATIENCE_S)
                return

    def _leave_room(self) -> None:
        """Of calls that were sent anew: where they are now may be the same host, and what it has wait for that room."""
        for (call_id, number), waits in list(self._large.items()):
            call = self._router.calls.get(call_id)
            if call is not None and number not in call.sent:
                del self._large[call_id, number]
                waits.cancel()

    def _do_cancel(self, effect: CancelAt) -> None:
        self._connection.publish(subjects.cancel(effect.host), effect.call_id)

    def _do_activate(self, effect: Activate) -> None:
        self._asking.spawn(self._activate(effect.app, effect.workload))

    async def _activate(self, app: str, workload: str) -> None:
        try:
            routes = await self._ask("activate", AskRoutes(app, workload))
        except (EngineError, TimeoutError):
            return  # The controller is away: calls wait, and ask again until their time is over.
        except MotesError as error:
            self._carry_out(self._router.on_refused(app, workload, error))
            return
        self._carry_out(self._router.on_routes(routes, self._loop.time()))

    async def _ask(self, verb: str, question: AskRoutes) -> Routes:
        subject = subjects.keeper(self._connection.user, verb)
        data = await self._connection.request(subject, msgspec.msgpack.encode(question), KEEPER_TIMEOUT_S)
        return decode_answer(data, Routes)


def _error_of(app: str, workload: str, outcome: Outcome) -> MotesError:
    error = outcome.error()
    if isinstance(error, BadInput):
        # The instance knows which value does not fit, and not under which name it was called.
        return BadInput(f"{app}.{workload}: {error.message}", **error.detail)
    return error
