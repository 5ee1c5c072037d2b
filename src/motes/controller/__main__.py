"""The controller's program: `python -m motes.controller --home HOME`."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import os
import signal

from motes.bus import foreign, tls
from motes.bus.connection import REFUSAL, Connection
from motes.bus.notices import disconnects
from motes.bus.server import has_given_up, running_pids
from motes.controller.connections import Connections
from motes.controller.crowd import Crowd
from motes.controller.disk import Disk
from motes.controller.door import Gate, Seal
from motes.controller.service import Controller
from motes.errors import MotesError, NotFound, Refused, Unavailable
from motes.grants.issuing import issuer_of
from motes.grants.jwt import public_key_of
from motes.grants.keys import Nkey, load_or_create, load_public, public_nkey
from motes.grants.roles import SYSTEM
from motes.home import Home
from motes.model.names import HOST_PREFIX
from motes.supervised import announce_ready, end_with_parent


async def serve(home: Home) -> None:
    """Run until SIGTERM or SIGINT."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    is_foreign = home.foreign() is not None
    owners = frozenset({load_public(home.public_key("owner"))})
    async with contextlib.AsyncExitStack() as stack:
        connection = await opened(home, "keeper", stack)
        # Where others run the NATS, who may use what it says of connections is theirs to say.
        system = None if is_foreign and not home.user(SYSTEM.user).exists() else await opened(home, SYSTEM.user, stack)
        key, account = load_or_create(home.key("controller")), issuer_of(home)
        named = public_nkey(Nkey.ACCOUNT, account.account)
        crowd = None if system is None else Crowd(await Connections.open(system, named))
        gate = None
        if is_foreign:
            await foreign.examine(connection, key.public.hex())
            await foreign.check_alone(connection)
        elif system is not None:
            gate = Gate(load_or_create(home.key("operator")), account, system)
        seal = Seal(account, lambda name: own_host_key(home, name), gate, crowd if gate is None else None)
        disk = Disk.elsewhere() if is_foreign else Disk(home.jetstream, lambda: restart_server(home))
        replicas = foreign.replicas_of(connection.server) if is_foreign else 1
        controller = await Controller.open(connection, key, seal, owners, disk, replicas)
        stack.push_async_callback(controller.close)
        moved_to = home.moved_to()
        certificate = (
            tls.fingerprint_of(home.tls_certificate) if moved_to and not is_foreign else connection.certificate
        )
        controller.succession.tell(moved_to, certificate)
        if system is not None and crowd is not None:
            await system.subscribe(disconnects(named), controller.on_disconnect_notice)
            stack.push_async_callback(crowd.close)
            await crowd.start()
        announce_ready()
        await stop.wait()


async def opened(home: Home, user: str, stack: contextlib.AsyncExitStack) -> Connection:
    """A connection of that user, until the stack ends. Raises Unavailable and Untrusted."""
    keeper = home.keeper()
    try:
        connection = await Connection.open(keeper.servers, home.credentials(user), certificate=keeper.certificate)
    except Unavailable as error:
        if home.foreign() is None or REFUSAL not in error.message:
            raise
        raise Refused(
            f"{error.message}: the account there is not known any more, or does not list the signing key that it did"
            " (see: nsc describe account MOTES; then nsc push, or with another key: motes up --nats URL --creds FILE)"
        ) from None
    stack.push_async_callback(connection.close)
    return connection


def own_host_key(home: Home, name: str) -> bytes | None:
    """The public key of a host of this machine; None where there is none of that name."""
    try:
        return public_key_of(home.credentials(HOST_PREFIX + name).jwt)
    except NotFound:
        return None


def restart_server(home: Home) -> None:
    """End nats-server if it needs that; its supervisor starts it anew at once."""
    for pid in running_pids(home) if has_given_up(home) else ():
        os.kill(pid, signal.SIGTERM)


def main() -> None:
    parser = argparse.ArgumentParser(prog="motes.controller")
    parser.add_argument("--home", required=True)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    end_with_parent()
    import uvloop

    try:
        uvloop.run(serve(Home(arguments.home)))
    except MotesError as error:
        announce_ready(error=error.message)
        raise SystemExit(f"controller: {error}") from None


if __name__ == "__main__":
    main()
