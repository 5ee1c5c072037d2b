"""The machine that becomes the keeper: it waits, takes keys and streams into a home of their own, and is told to be it.

Follow one: `_serve` -> `_take` -> `_pack_in` -> motes.moving.storing -> `_prepare` on one connection, `_commit` on
another. What was taken is nothing until it is prepared, and prepared it waits for the word: a keeper that has begun to
move decides alone, and may be asleep for a while after that.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from motes.bus import tls
from motes.bus.frames import Frames
from motes.errors import MotesError, Refused, Unavailable, Untrusted
from motes.grants.keys import Key, Tag, load_public, sign, verify
from motes.home import Home, Listen, sync
from motes.model import succession as words
from motes.model.bounds import UNREADABLE
from motes.model.names import HOST_PREFIX
from motes.model.release import Signed
from motes.model.wire import WIRE
from motes.moving import storing
from motes.moving.luggage import Luggage, check, unpack
from motes.supervisor import succession
from motes.supervisor.forward import UNKNOWN

TIMEOUT_S = 60.0
GREET_TIMEOUT_S = 10.0
ORDER_LIMIT_BYTES = 16 * 2**10
"""What is read of somebody who has not shown an order yet."""
BUFFER_BYTES = 256 * 2**10
MOST_CONNECTIONS = 16

Say = Callable[[str], None]


class Taking:
    """One machine that waits. `serve` returns when it has been told to be the keeper."""

    def __init__(
        self, home: Home, host: str, listen: Listen, web: Listen | None, addresses: tuple[str, ...], say: Say
    ) -> None:
        self._home, self._host, self._listen, self._addresses, self._say = home, host, listen, addresses, say
        self._web = {} if web is None else {"web": web._asdict()}
        self._came = Home(home.arriving)
        self._certificate = _own_certificate(home)
        state = succession.arrival(home)
        # Who was prepared before this program was killed is still waited for.
        is_prepared = state.get("stage") == succession.PREPARED
        self._session = bytes.fromhex(state["session"]) if is_prepared else os.urandom(words.SESSION_BYTES)
        self._taker: asyncio.Task[Any] | None = None
        self._connections = 0
        self._committed = asyncio.Event()
        if not is_prepared:
            shutil.rmtree(home.arriving, ignore_errors=True)

    def line(self) -> str:
        """What the keeper's owner pastes, signed by this host."""
        willing = words.Willing(self._host, self._addresses, self._certificate, self._session)
        key = Key(self._home.credentials(HOST_PREFIX + self._host).secret)
        return words.line(sign(key, Tag.WILLING, msgspec.msgpack.encode(willing)))

    async def serve(self, on_listening: Callable[[], None]) -> None:
        """Raises Unavailable where the address cannot be had."""
        host, port = self._listen.host.strip("[]"), self._listen.port
        try:
            server_ = await asyncio.start_server(self._accept, host, port, limit=BUFFER_BYTES)
        except OSError as error:
            raise Unavailable(f"{self._listen.host}:{port} cannot be had: {error.strerror or error}") from error
        try:
            on_listening()
            await self._committed.wait()
        finally:
            server_.close()
            if self._taker is not None:
                self._taker.cancel()
                await asyncio.wait((self._taker,))
            if not succession.arrival(self._home):
                # Keys that came for nothing.
                shutil.rmtree(self._home.arriving, ignore_errors=True)

    # From here on: one connection.

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._connections >= MOST_CONNECTIONS:
            writer.close()
            return
        self._connections += 1
        frames = Frames(reader, writer, GREET_TIMEOUT_S)
        try:
            await self._serve(frames)
        except (Refused, Untrusted) as error:
            with contextlib.suppress(MotesError):
                await frames.say(error=error.message)
        except (OSError, TimeoutError, MotesError) as error:
            # Of others, as of hosts that look for the keeper here already, there is nothing to say.
            if self._taker is asyncio.current_task():
                self._say(f"the other machine is gone: {str(error) or type(error).__name__}")
        finally:
            self._connections -= 1
            writer.close()

    async def _serve(self, frames: Frames) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.load_cert_chain(self._home.accept_certificate, self._home.accept_key)
        async with asyncio.timeout(GREET_TIMEOUT_S):
            frames.writer.write(words.GREETING)
            await frames.writer.start_tls(context)
        asked = await frames.hear(ORDER_LIMIT_BYTES)
        order = self._order(asked)
        if order.do == "commit":
            await self._commit(frames, order)
        elif order.do == "take":
            # The keeper begins anew: what it sent before is worth nothing.
            if self._taker is not None:
                self._taker.cancel()
                await asyncio.wait((self._taker,))
            self._taker = asyncio.current_task()
            await self._take(frames, order)

    def _order(self, asked: dict[str, Any]) -> words.Order:
        """What the controller's key signed, for this host and this time. Raises Untrusted and Refused."""
        try:
            signed = msgspec.msgpack.decode(bytes.fromhex(str(asked.get("order"))), type=Signed)
            trusted = (load_public(self._home.public_key("controller")),)
            order = msgspec.msgpack.decode(verify(signed, Tag.ORDER, trusted), type=words.Order)
        except (ValueError, *UNREADABLE) as error:
            raise Untrusted("that is no order of this cluster's controller") from error
        if (order.host, order.certificate) != (self._host, self._certificate):
            raise Untrusted("an order for another machine")
        if order.wire != WIRE:
            raise Refused("the keeper has another version of Motes; install the same on both")
        if order.do == "take" and order.session != self._session:
            raise Refused("the line is of an earlier `motes keeper accept`; paste the one that it shows now")
        return order

    # From here on: what is done in turn.

    async def _take(self, frames: Frames, order: words.Order) -> None:
        frames.timeout_s = TIMEOUT_S
        shutil.rmtree(self._home.arriving, ignore_errors=True)
        await frames.say(ok=True)
        await self._pack_in(frames)
        async with storing.store(self._came) as connection:
            await frames.say(ok=True)
            asked = await storing.take(frames, connection)
        if asked.get("do") != "prepare":
            raise Refused(f"cannot do {str(asked.get('do'))[:40]!r} now")
        self._prepare(order, self._check(asked))
        await frames.say(ok=True)
        self._say("all is here; the keeper hands over")

    async def _pack_in(self, frames: Frames) -> None:
        """Keys, certificate and accounts."""
        unpack(self._check(await frames.hear()), self._came)
        self._say("the keys are here; the streams follow")

    def _check(self, asked: dict[str, Any]) -> Luggage:
        """Raises Refused, and Untrusted for another cluster's."""
        try:
            luggage = msgspec.convert(asked["luggage"], Luggage)
        except (KeyError, msgspec.ValidationError) as error:
            raise Refused(f"what came is no keeper's: {error}") from error
        check(luggage, self._home)
        return luggage

    def _prepare(self, order: words.Order, luggage: Luggage) -> None:
        """From here on this machine is able to be the keeper whenever it is told, whatever happens to it before.

        `luggage` is what came last: whoever was removed while the streams came is let in no more.
        """
        for folder, _, files in os.walk(self._home.arriving):
            for each in (*(Path(folder, name) for name in files), Path(folder)):
                if not each.is_socket():
                    sync(each)
        state = {
            "listen": {**self._listen._asdict(), **self._web},
            "addresses": self._addresses,
            "accounts": luggage.accounts(),
            "session": order.session.hex(),
            "attempt": order.attempt.hex(),
        }
        self._note(succession.PREPARED, state)

    def _note(self, stage: str, state: dict[str, Any]) -> None:
        self._home.decide(succession.state_file(self._home), {**state, "stage": stage})
        sync(self._home.path)

    async def _commit(self, frames: Frames, order: words.Order) -> None:
        state = succession.arrival(self._home)
        if state.get("attempt") != order.attempt.hex():
            await frames.say(error=UNKNOWN)
            return
        self._note(succession.COMMITTED, state)
        with contextlib.suppress(MotesError):
            await frames.say(ok=True)
        self._committed.set()


def _own_certificate(home: Home) -> bytes:
    """The fingerprint of the one behind which this machine waits; made at the first time, and kept."""
    if not home.accept_certificate.exists():
        key, certificate = tls.make_certificate("motes")
        home.write_text(home.accept_key, key)
        home.write_text(home.accept_certificate, certificate)
    return tls.fingerprint_of(home.accept_certificate)
