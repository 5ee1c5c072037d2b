"""The controller's program: `python -m motes.controller --home HOME`."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import os
import signal

from motes.bus.connection import Connection
from motes.bus.notices import disconnects
from motes.bus.server import has_given_up, running_pids
from motes.controller.crowd import Crowd
from motes.controller.disk import Disk
from motes.controller.door import Seal
from motes.controller.service import Controller
from motes.errors import MotesError, NotFound
from motes.grants.jwt import public_key_of
from motes.grants.keys import Nkey, load_or_create, load_public
from motes.home import Home
from motes.model.names import HOST_PREFIX
from motes.supervised import announce_ready, end_with_parent


async def serve(home: Home) -> None:
    """Run until SIGTERM or SIGINT."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    server = home.nats_url()
    owners = frozenset({load_public(home.public_key("owner"))})
    async with contextlib.AsyncExitStack() as stack:
        connection = await Connection.open(server, home.credentials("keeper"))
        stack.push_async_callback(connection.close)
        system = await Connection.open(server, home.credentials("system"))
        stack.push_async_callback(system.close)
        key, operator, account = (load_or_create(home.key(name)) for name in ("controller", "operator", "account"))
        seal = Seal(operator, account, system, lambda name: own_host_key(home, name))
        disk = Disk(home.jetstream, lambda: restart_server(home))
        controller = await Controller.open(connection, key, seal, owners, disk)
        stack.push_async_callback(controller.close)
        controller.succession.tell(home.moved_to(), home.tls_certificate)
        await system.subscribe(disconnects(account.nkey(Nkey.ACCOUNT)), controller.on_disconnect_notice)
        crowd = Crowd(system, account.nkey(Nkey.ACCOUNT))
        stack.push_async_callback(crowd.close)
        await crowd.start()
        announce_ready()
        await stop.wait()


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
        raise SystemExit(f"controller: {error}") from None


if __name__ == "__main__":
    main()
