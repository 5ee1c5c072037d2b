"""The keeper's machine, which hands the keeper over to another: `motes keeper move`.

Follow it: `give` -> `find` -> `connect` -> `pass_keys` -> `hand_over`: what may be much goes (motes.moving.copying),
`freeze`, all else goes, `prepare`, `tell_hosts` -> `wait`. Until the supervisor hands over this machine is the keeper,
whatever happens, and the other forgets what came. From then on it is not, and its own `forward` gives the other the
word, as often as it takes (motes.supervisor.forward).
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import Callable
from typing import Any

import msgspec

from motes.bus import subjects, tls
from motes.bus.connection import Connection
from motes.bus.frames import Frames
from motes.client.cluster import Cluster
from motes.errors import MotesError, Refused, Unavailable, Untrusted
from motes.grants.keys import Key, Tag, load_or_create, sign, verify
from motes.home import Home
from motes.model import succession as words
from motes.model.host import HostStatus
from motes.model.names import HOST_PREFIX, KEEPER, OWN_USER
from motes.model.wire import WIRE
from motes.moving.copying import Copying
from motes.moving.luggage import pack
from motes.supervisor import control, forward
from motes.version import __version__

TIMEOUT_S = 60.0
FREEZE_TIMEOUT_S = 30.0
NOTICE_TIMEOUT_S = 2.0
FOLLOW_TIMEOUT_S = 30.0
"""How long to wait for hosts to be seen at the new keeper."""
RETRY_S = 0.2

Say = Callable[[str], None]


class Giving:
    """One move, on its keeper's machine."""

    def __init__(self, home: Home, host: str, line: str, forward_s: float, say: Say) -> None:
        self._home, self._host, self._line, self._forward_s, self._say = home, host, line, forward_s, say
        self._controller = load_or_create(home.key("controller"))
        self._attempt = os.urandom(words.SESSION_BYTES)

    async def give(self) -> list[str]:
        """Returns the hosts that were up and are not seen at the new keeper yet. Raises MotesError."""
        willing = await self.find()
        frames, address = await self.connect(willing)
        try:
            await self.pass_keys(frames)
            hosts, deaf = await self.hand_over(frames, willing, address)
        finally:
            frames.close()
        for name in deaf:
            # It would look for the keeper on this machine for ever.
            await asyncio.to_thread(restart_host, self._home, name)
        return await wait(self._home, hosts)

    async def find(self) -> words.Willing:
        """Where the host waits, by its own word. Raises Untrusted for another's, NotFound and Unavailable."""
        if self._host in self._own():
            raise Refused(f"host {self._host!r} is on this machine, where the keeper is")
        signed = words.parse_line(self._line)
        successor = await self.successor()
        willing = msgspec.msgpack.decode(verify(signed, Tag.WILLING, (successor.public,)), type=words.Willing)
        if willing.host != self._host:
            raise Untrusted(f"the line is that of host {willing.host!r}")
        words.check_addresses(willing.addresses)
        return willing

    def _own(self) -> dict[str, bytes]:
        """This machine's hosts, with their keys."""
        return {name: Key(self._home.credentials(HOST_PREFIX + name).secret).public for name in self._home.offers()}

    async def successor(self) -> words.Successor:
        """What the controller says now of the host that is to be the keeper, and of the others."""
        cluster = await Cluster.open(self._home)
        try:
            return await cluster.ask("successor", words.AskSuccessor(self._host, self._own()), words.Successor)
        finally:
            await cluster.close()

    async def connect(self, willing: words.Willing) -> tuple[Frames, str]:
        """To the first address at which that very machine answers. Raises what the last one's failure was."""
        failed: Exception = Unavailable("the line names no address")
        for address in willing.addresses:
            self._say(f"trying {address} ...")
            try:
                reader, writer, greeting = await forward.open_at(address)
            except (OSError, TimeoutError) as error:
                failed = Unavailable(f"nobody waits at {address}: {error or 'no answer'}")
                continue
            try:
                if greeting != words.GREETING:
                    raise Unavailable(f"what answers at {address} does not wait to become the keeper")
                await forward.secure(writer, willing.certificate)
                frames = Frames(reader, writer, TIMEOUT_S)
                await frames.ask(order=self._order("take", willing))
                return frames, address
            except (OSError, TimeoutError, MotesError) as error:
                writer.close()
                failed = error if isinstance(error, MotesError) else Unavailable(f"{address}: {error}")
        raise failed

    def _order(self, do: str, willing: words.Willing) -> str:
        order = words.Order(do, willing.host, willing.certificate, willing.session, self._attempt, WIRE)
        return msgspec.msgpack.encode(sign(self._controller, Tag.ORDER, msgspec.msgpack.encode(order))).hex()

    async def pass_keys(self, frames: Frames) -> None:
        """The other machine is able to be the keeper then, but for the streams."""
        await frames.ask(**self.luggage(), version=__version__)
        self._say("the keys are there")

    def luggage(self) -> dict[str, Any]:
        """As it is now: it says as well who was removed."""
        return {"luggage": msgspec.to_builtins(pack(self._home))}

    async def hand_over(self, frames: Frames, willing: words.Willing, address: str) -> tuple[list[str], list[str]]:
        """All that is stored, and then the keeper. Returns the hosts that are up, and those of this machine that did
        not hear of the move."""
        connection = await Connection.open(self._home.nats_url(), self._home.credentials(KEEPER))
        try:
            copying = Copying(frames, connection)
            await copying.send_code()
            await copying.send_growing()
            self._say("code, events, logs and receipts are there")
            # Anew: it may have taken a while.
            successor = await self.successor()
            with control.talk(self._home, FREEZE_TIMEOUT_S) as ask:
                self._say("nothing can be deployed from now on; calls go on")
                await self.freeze(ask)
                await copying.send_rest()
                self._say("all that is stored is there")
                await self.prepare(frames)
                deaf = await self.tell_hosts(connection, willing, successor)
                # Its server ends.
                await connection.close()
                self._say("handing over")
                await asyncio.to_thread(ask, "hand-over", facts=self.facts(willing, address))
        finally:
            await connection.close()
        return successor.hosts, deaf

    async def freeze(self, ask: Callable[..., dict[str, Any]]) -> None:
        """Nobody writes any more when this returns, until this command ends."""
        await asyncio.to_thread(ask, "freeze")

    async def prepare(self, frames: Frames) -> None:
        """The other machine has it all on its disk when this returns."""
        await frames.ask(do="prepare", **self.luggage())

    async def tell_hosts(self, connection: Connection, willing: words.Willing, successor: words.Successor) -> list[str]:
        """Where to look next. Who is away now learns it later, through this machine or from the new keeper."""
        certificate = tls.fingerprint_of(self._home.tls_certificate)
        notice = words.Notice(willing.addresses, certificate, successor.generation + 1)
        data = msgspec.msgpack.encode(sign(self._controller, Tag.NOTICE, msgspec.msgpack.encode(notice)))
        own = self._own()
        hosts = sorted({*successor.hosts, *own})
        heard = await asyncio.gather(*(_hears(connection, host, data) for host in hosts))
        return [host for host, has_heard in zip(hosts, heard, strict=True) if not has_heard and host in own]

    def facts(self, willing: words.Willing, address: str) -> dict[str, Any]:
        """What is decided: this machine's keeper.json and moved.json."""
        listen = self._home.listen()
        assert listen is not None
        certificate = tls.fingerprint_of(self._home.tls_certificate).hex()
        # First the one that has just been tried from here.
        addresses = [address, *(each for each in willing.addresses if each != address)]
        moved = {
            "host": listen.host,
            "port": listen.port,
            "address": address,
            "certificate": certificate,
            "accept": willing.certificate.hex(),
            "order": self._order("commit", willing),
            "until": time.time() + self._forward_s,
        }
        return {"moved": moved, "keeper": {"addresses": addresses, "certificate": certificate}}


async def _hears(connection: Connection, host: str, notice: bytes) -> bool:
    try:
        await connection.request(subjects.notice(host), notice, NOTICE_TIMEOUT_S)
    except MotesError:
        return False
    return True


def restart_host(home: Home, name: str) -> None:
    """One of this machine's."""
    for do in ("stop-host", "start-host"):
        control.ask(home, do, TIMEOUT_S, name=name)


async def wait(home: Home, hosts: list[str]) -> list[str]:
    """Until the keeper answers on the other machine. Returns those of `hosts` that it has not heard yet. Raises
    Unavailable where this machine is the keeper again."""
    # Nothing is lost by waiting, and by ending this command: what was decided is carried out without it.
    while not _is_done(home):
        if not home.keeper_file.exists():
            raise Unavailable("the other machine lost what it was given; the keeper is here again: try once more")
        await asyncio.sleep(RETRY_S)
    keeper = home.keeper()
    deadline = time.monotonic() + FOLLOW_TIMEOUT_S
    missing = hosts
    while missing and time.monotonic() < deadline:
        try:
            found = await _hosts(keeper.servers, home, keeper.certificate)
            missing = [name for name in hosts if name not in found]
        except MotesError:
            pass
        await asyncio.sleep(RETRY_S)
    return missing


def _is_done(home: Home) -> bool:
    try:
        return bool(json.loads(home.moved_file.read_text()).get("is_done"))
    except FileNotFoundError:
        return home.keeper_file.exists()


async def _hosts(servers: str, home: Home, certificate: bytes) -> set[str]:
    connection = await Connection.open(servers, home.credentials(OWN_USER), certificate=certificate)
    try:
        answer = await connection.request(subjects.keeper(OWN_USER, "hosts"), b"\xc0", 5.0)
        from motes.model.keeper import decode_answer

        return {each.name for each in decode_answer(answer, list[HostStatus]) if each.state == "up"}
    finally:
        await connection.close()
