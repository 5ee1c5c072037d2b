"""The agent's program: `python -m motes.agent --home HOME --name HOST`.

Started as root it reads what only root may read, then becomes an ordinary user for good, before it serves anything.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import hashlib
import logging
import shutil
import signal
import socket
import sys
from pathlib import Path
from typing import Any

import msgspec

from motes.agent.following import adopt
from motes.agent.holding import Holding, hold
from motes.agent.owner import Owner, Word, word_of
from motes.agent.service import Agent
from motes.agent.standing import Standing
from motes.agent.trust import Trust
from motes.bus.connection import Connection, next_wait_s
from motes.errors import BadInput, MotesError, NotFound, Unavailable, Untrusted
from motes.grants.keys import load_public
from motes.home import Home
from motes.model.credentials import Credentials
from motes.model.host import Offer
from motes.model.names import HOST_PREFIX
from motes.router.ingress import serve_ingress
from motes.space.descend import descend
from motes.space.walls import walls_in_words
from motes.supervised import ENDED_FOR_GOOD, announce_ready, end_with_parent, orders

INGRESS = "ingress.sock"
KEEPER_RETRY_S = 1.0
KEEPER_AWAY_S = 5.0
"""After this a machine that has joined is taken for up, keeper or not."""
_log = logging.getLogger("motes.agent")


class Settings(msgspec.Struct, frozen=True):
    """What an agent needs to know from the home, read before it gives up its rights."""

    name: str
    server: str
    certificate: bytes
    has_joined: bool
    """Whether the keeper is on another machine."""
    credentials: Credentials
    word: Word
    unsaid: dict[str, Any]
    """What counts of an offer as long as its owner does not say it."""
    trust: Trust
    folder: Path
    run: Path


def settings_from(home: Home, name: str) -> Settings:
    """Raises NotFound when the home has no such host, BadInput when what it lends cannot be read."""
    offers = home.offers()
    if name not in offers:
        raise NotFound(f"{home.hosts_file} names no host {name!r} (add it with: motes host start --name {name})")
    unsaid = {"machine": this_machine(), "disk_bytes": some_disk(home)}
    try:
        word = word_of(offers[name], unsaid)
    except ValueError as error:
        raise BadInput(
            f"{home.hosts_file}, host {name!r}: {error} (say it anew: motes lend --host {name} ...)"
        ) from None
    controller, owner = (load_public(home.public_key(key)) for key in ("controller", "owner"))
    trust = Trust(controller, frozenset({owner}))
    adopt(home, name, trust)
    keeper = home.keeper()
    return Settings(
        name=name,
        server=keeper.servers,
        certificate=keeper.certificate,
        has_joined=home.keeper_file.exists(),
        credentials=home.credentials(HOST_PREFIX + name),
        word=word,
        unsaid=unsaid,
        trust=trust,
        folder=home.host(name),
        run=home.host_run(name),
    )


def this_machine() -> str:
    """What all hosts of this machine have in common: made of its id, which itself nobody needs to know."""
    try:
        found = Path("/etc/machine-id").read_bytes().strip()
    except OSError:
        found = b""
    return hashlib.blake2b(found or socket.gethostname().encode(), digest_size=8, person=b"motes machine").hexdigest()


def some_disk(home: Home) -> int:
    """What is lent of a disk of which its owner said nothing: a quarter, and no more than an Offer's own."""
    return min(shutil.disk_usage(home.path).total // 4, Offer().disk_bytes)


def program_paths() -> tuple[Path, ...]:
    """What this program itself is made of: the interpreter, its packages and its own source."""
    return (Path(sys.base_prefix), Path(sys.prefix), Path(__file__).parents[1])


async def serve(settings: Settings, holding: Holding) -> None:
    """Run until SIGTERM or SIGINT."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    standing = Standing(settings.has_joined)
    owner = Owner(settings.word, settings.unsaid, orders(), standing)
    async with contextlib.AsyncExitStack() as stack:
        connecting = asyncio.create_task(connected(settings, standing))
        await asyncio.wait((connecting, asyncio.create_task(stop.wait())), return_when=asyncio.FIRST_COMPLETED)
        if not connecting.done():
            connecting.cancel()
            return
        connection = connecting.result()
        stack.push_async_callback(connection.close)
        agent = Agent(settings.name, settings.word.offer, connection, settings.trust, settings.folder, holding)
        await owner.begin(agent)
        await agent.start()
        stack.push_async_callback(agent.stop)
        ingress = await serve_ingress(settings.run / INGRESS, agent.connect)
        stack.callback(ingress.close)
        agent.tasks.spawn(owner.follow())
        # Beside its keeper a host is up when that knows it, however long both take on a busy machine.
        agent.tasks.spawn(announce_joined(agent, KEEPER_AWAY_S if settings.certificate else None))
        displaced = agent.membership.displaced
        ends = [asyncio.create_task(event.wait()) for event in (stop, displaced)]
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        agent.ends = owner.ends
    if displaced.is_set():
        raise SystemExit(ENDED_FOR_GOOD)


async def connected(settings: Settings, standing: Standing) -> Connection:
    """A connection to the keeper. On another machine than the keeper's this waits for it, for as long as it takes.

    Raises Unavailable.
    """
    if not settings.certificate:
        return await Connection.open(settings.server, settings.credentials)
    wait_s = KEEPER_RETRY_S
    # This machine is up; that the keeper is not is no failure of it. A single attempt may take longer than this.
    patience = asyncio.get_running_loop().call_later(KEEPER_AWAY_S, announce_ready)
    try:
        while True:
            try:
                return await Connection.open(settings.server, settings.credentials, certificate=settings.certificate)
            except (Unavailable, Untrusted) as error:
                if standing.trouble is None or error.message != standing.trouble.message:
                    _log.warning("the keeper is not there: %s; trying again", error.message)
                standing.trouble = error
            await asyncio.sleep(wait_s)
            wait_s = next_wait_s(wait_s, standing.trouble, KEEPER_RETRY_S)
    finally:
        patience.cancel()


async def announce_joined(agent: Agent, patience_s: float | None) -> None:
    """Say that this host is ready once work can be placed on it, or after `patience_s`: the keeper may be away."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(patience_s):
            await agent.takes_calls.wait()
    announce_ready()


def main() -> None:
    parser = argparse.ArgumentParser(prog="motes.agent")
    parser.add_argument("--home", required=True)
    parser.add_argument("--name", required=True)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    end_with_parent()
    try:
        settings = settings_from(Home(arguments.home), arguments.name)
        for folder in (settings.folder, settings.run):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        holding = hold(settings.word.offer, settings.name)
        descend(readable=program_paths(), writable=(settings.folder, settings.run), name=settings.name)
        logging.getLogger("motes.space").info("the walls of process spaces here: %s", walls_in_words())
        import uvloop

        uvloop.run(serve(settings, holding))
    except MotesError as error:
        raise SystemExit(f"agent {arguments.name}: {error}") from None


if __name__ == "__main__":
    main()
