"""The program that a machine runs which the keeper has left: `python -m motes.supervisor.forward --home HOME`.

First it tells the machine that is to be the keeper that it is, as often as it takes. Then it passes on to it whatever
comes to the keeper's old address, for a while: hosts and callers that were away learn there where it is now. It holds
no key: the order is signed already, and what it passes on is TLS between the two ends. Stdlib only.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import logging
import ssl
import time
from typing import Any, NamedTuple

from motes.bus import tls
from motes.bus.frames import Frames
from motes.errors import MotesError, Unavailable, Untrusted
from motes.home import Home, sync
from motes.model.succession import GREETING
from motes.supervised import announce_ready, end_with_parent
from motes.supervisor import succession

RETRY_S = 0.2
TIMEOUT_S = 10.0
LINE_LIMIT_BYTES = 64 * 2**10
CHUNK_BYTES = 64 * 2**10
MOST_CONNECTIONS = 1024
"""Passed on at a time; who comes beyond it is turned away."""
TLS_HANDSHAKE = b"\x16"
"""How a client begins TLS. What begins otherwise would cross the network for all to read."""
UNKNOWN = "unknown"
"""The other machine has nothing to commit: it will never be the keeper by this order."""

_log = logging.getLogger("motes.forward")


class Moved(NamedTuple):
    """Where the keeper moved, `moved.json`."""

    host: str
    port: int
    """Where it listened here."""
    address: str
    """Where it is, `HOST:PORT`: the one at which this machine reached it."""
    certificate: bytes
    """The keeper's own, which it takes along."""
    accept: bytes
    """That of the machine that waits to become it."""
    order: str
    until: float
    """Unix time, when to forward no more."""
    is_done: bool


def read(home: Home) -> Moved:
    """Raises OSError, ValueError and KeyError where there is none."""
    found: dict[str, Any] = json.loads(home.moved_file.read_text())
    return Moved(
        found["host"],
        found["port"],
        found["address"],
        bytes.fromhex(found["certificate"]),
        bytes.fromhex(found["accept"]),
        found["order"],
        found["until"],
        bool(found.get("is_done")),
    )


async def open_at(address: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter, bytes]:
    """A connection, and the line that the other side says first. Raises OSError and TimeoutError."""
    host, _, port = address.rpartition(":")
    async with asyncio.timeout(TIMEOUT_S):
        reader, writer = await asyncio.open_connection(host.strip("[]"), int(port), limit=LINE_LIMIT_BYTES)
        try:
            return reader, writer, await reader.readuntil(b"\n")
        except BaseException as error:
            writer.close()
            if isinstance(error, (asyncio.IncompleteReadError, asyncio.LimitOverrunError)):
                raise ConnectionError("what answers there is no keeper") from error
            raise


async def secure(writer: asyncio.StreamWriter, certificate: bytes) -> None:
    """Go on over TLS, to who shows this certificate only. Raises OSError, TimeoutError and Untrusted."""
    async with asyncio.timeout(TIMEOUT_S):
        await writer.start_tls(tls.context())
    tls.check(writer.transport, certificate)


async def commit(moved: Moved) -> str:
    """Tell the other machine once: `done` when it is the keeper, `told`, or UNKNOWN. Raises OSError and MotesError."""
    reader, writer, greeting = await open_at(moved.address)
    try:
        if greeting.startswith(b"INFO "):
            # Only who has the keeper's own key can show its certificate.
            await secure(writer, moved.certificate)
            return "done"
        if greeting != GREETING:
            raise Unavailable(f"what answers at {moved.address} is no machine that waits to become the keeper")
        await secure(writer, moved.accept)
        frames = Frames(reader, writer, TIMEOUT_S)
        await frames.say(do="commit", order=moved.order)
        answer = await frames.hear()
        if "error" in answer and answer["error"] != UNKNOWN:
            raise Unavailable(f"the other machine says: {answer['error']}")
        return str(answer.get("error", "told"))
    finally:
        writer.close()


async def settle(home: Home, moved: Moved) -> bool:
    """Until the other machine is the keeper, or never will be: then this one is again, and False.

    It hears nothing before the disk here holds that this one is not: what was only written may be gone after a loss of
    power, and then both would be.
    """
    told = ""
    while not moved.is_done:
        try:
            _hold(home)
            answer = await commit(moved)
        except (OSError, TimeoutError, ssl.SSLError, MotesError) as error:
            answer = str(error) or type(error).__name__
        if answer == UNKNOWN:
            _log.error("the other machine has lost what it was given, and is no keeper: this machine is it again")
            succession.take_back(home)
            return False
        if answer == "done":
            home.decide(home.moved_file, json.loads(home.moved_file.read_text()) | {"is_done": True})
            break
        if answer != told:
            told = answer
            _log.warning("the keeper is not at %s yet: %s", moved.address, told)
        await asyncio.sleep(RETRY_S)
    # Only now: until then this machine could have been the keeper again.
    succession.forget(home)
    return True


def _hold(home: Home) -> None:
    """Raises Unavailable."""
    try:
        sync(home.path)
    except OSError as error:
        raise Unavailable(f"the disk with {home.path} does not hold yet that it is there ({error}); mend it") from error


class Relay:
    """Passes on what comes to the old address."""

    def __init__(self, moved: Moved) -> None:
        self._moved = moved
        self._tasks: set[asyncio.Task[None]] = set()

    async def listen(self) -> None:
        """As soon as the address can be had; until cancelled."""
        while True:
            try:
                server = await asyncio.start_server(self._accept, self._moved.host.strip("[]"), self._moved.port)
                break
            except OSError as error:
                _log.warning("the old address cannot be had: %s", error)
            await asyncio.sleep(RETRY_S * 5)
        async with server:
            await server.serve_forever()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        if len(self._tasks) >= MOST_CONNECTIONS:
            writer.close()
            return
        self._tasks.add(task)
        try:
            with contextlib.suppress(OSError, TimeoutError, asyncio.IncompleteReadError):
                await self._pass_on(reader, writer)
        finally:
            self._tasks.discard(task)
            writer.close()

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        further, onward, greeting = await open_at(self._moved.address)
        try:
            if not greeting.startswith(b"INFO "):
                return
            writer.write(greeting)
            async with asyncio.timeout(TIMEOUT_S):
                first = await reader.readexactly(1)
            if first != TLS_HANDSHAKE:
                return
            onward.write(first)
            async with asyncio.TaskGroup() as both:
                both.create_task(_pump(reader, onward))
                both.create_task(_pump(further, writer))
        except* OSError:
            pass
        finally:
            onward.close()


async def _pump(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    while data := await source.read(CHUNK_BYTES):
        target.write(data)
        await target.drain()
    raise ConnectionError("one side has ended")


async def serve(home: Home) -> None:
    """Until the time is over, or this machine is the keeper again."""
    moved = read(home)
    announce_ready()
    relaying = asyncio.create_task(Relay(moved).listen())
    try:
        if not await settle(home, moved):
            return
        # Whoever removes the file wants this address for himself.
        while time.time() < moved.until and home.moved_file.exists():  # noqa: ASYNC110  files tell nobody
            await asyncio.sleep(RETRY_S)
        home.moved_file.unlink(missing_ok=True)
    finally:
        relaying.cancel()


def main() -> None:
    parser = argparse.ArgumentParser(prog="motes.supervisor.forward")
    parser.add_argument("--home", required=True)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    end_with_parent()
    try:
        asyncio.run(serve(Home(arguments.home)))
    except (FileNotFoundError, Untrusted) as error:
        raise SystemExit(f"forward: {error}") from None


if __name__ == "__main__":
    main()
