"""The gateway's program: HTTP in on this machine's loopback."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import signal
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

import uvloop

from motes.bus.connection import Connection
from motes.client.cluster import Cluster
from motes.errors import MotesError, Unavailable
from motes.gateway.backend import Backend
from motes.gateway.relay import Relay
from motes.gateway.server import Server
from motes.gateway.services import Services
from motes.gateway.tunnels import Tunnels
from motes.grants.keys import load_public
from motes.grants.shut_out import ShutOut
from motes.home import Home
from motes.model.names import GATEWAY, GATEWAY_ANSWERS
from motes.supervised import allow_many_files, announce_ready, end_with_parent

DEFAULT_HTTP = "127.0.0.1:8080"
READY_POLL_S = 0.01
CONNECT_RETRY_S = 0.2

T = TypeVar("T")


def main() -> int:
    """Serve until SIGTERM; the exit code is 0, or that of the error on stderr."""
    parser = argparse.ArgumentParser(prog="python -m motes.gateway", description="HTTP in for a cluster.")
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--http", default=DEFAULT_HTTP, metavar="HOST:PORT", help="port 0 is any free port")
    arguments = parser.parse_args()
    end_with_parent()
    allow_many_files()
    try:
        host, port = parse_address(arguments.http)
        uvloop.run(serve(Home(arguments.home), host, port))
    except MotesError as error:
        print(f"gateway: {error.message}", file=sys.stderr)
        return error.exit_code
    return 0


async def serve(home: Home, host: str, port: int) -> None:
    """Listen at once, connect to the cluster when it is there, and end at SIGTERM or SIGINT. Raises MotesError."""
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    backend = Backend()
    server = await _start(backend, home, host, port)
    home.write_text(_port_file(home), f"{server.port}\n")
    shown_host = f"[{host}]" if ":" in host else host
    connecting = asyncio.create_task(_connect(backend, home, f"http://{shown_host}:{server.port}", server.port))
    connecting.add_done_callback(lambda task: _end_if_failed(task, ended))
    await ended.wait()
    await server.stop()
    connecting.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        cluster, answers, tunnels = await connecting
        await tunnels.close()
        await answers.close()
        await cluster.close()


async def _start(backend: Backend, home: Home, host: str, port: int) -> Server:
    """With port 0 the port of the last time, so that addresses outlive a restart; another when that is taken."""
    if port == 0 and (last := _last_port(home)):
        with contextlib.suppress(Unavailable):
            return await Server.start(backend, home.run, host, last)
    return await Server.start(backend, home.run, host, port)


async def _connect(backend: Backend, home: Home, http: str, port: int) -> tuple[Cluster, Connection, Tunnels]:
    cluster = await _opened(lambda: Cluster.open(home, GATEWAY))
    answers = await _opened(lambda: _answers(home))
    tunnels = await _opened(lambda: Tunnels.open(home))
    backend.connect(cluster, tunnels)
    await Relay(cluster, answers, answers.credentials.secret).start()
    shut_out = ShutOut(load_public(home.public_key("controller")))
    if home.foreign() is not None:
        # Before the first of them can ask: NATS would let it.
        shut_out.hear(await _opened(lambda: cluster.ask("shut-out", None, bytes)))
    await Services(cluster, answers, shut_out).start()
    while not backend.ready:  # noqa: ASYNC110  the connection tells nobody when it comes
        await asyncio.sleep(READY_POLL_S)
    announce_ready(http=http, port=port)
    return cluster, answers, tunnels


async def _answers(home: Home) -> Connection:
    keeper = home.keeper()
    return await Connection.open(keeper.servers, home.credentials(GATEWAY_ANSWERS), certificate=keeper.certificate)


def _end_if_failed(connecting: asyncio.Task[Any], ended: asyncio.Event) -> None:
    """What is no MotesError is a mistake of ours; the process ends with it rather than serve without a cluster."""
    if not connecting.cancelled() and connecting.exception() is not None:
        ended.set()


async def _opened(open: Callable[[], Awaitable[T]]) -> T:
    """What `open` gives as soon as it can be had."""
    told = ""
    while True:
        try:
            return await open()
        except MotesError as error:
            if error.message != told:
                told = error.message
                print(f"gateway: {told}; trying again", file=sys.stderr)
        await asyncio.sleep(CONNECT_RETRY_S)


def parse_address(text: str) -> tuple[str, int]:
    """`127.0.0.1:8080`, `[::1]:8080` or `localhost:0` as its two parts. Raises Unavailable."""
    host, colon, port = text.rpartition(":")
    if not colon or not host or not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise Unavailable(f"{text!r} is no address; write --http HOST:PORT, as in {DEFAULT_HTTP}")
    return host.strip("[]"), int(port)


def _port_file(home: Home) -> Path:
    return home.run / "http_port"


def _last_port(home: Home) -> int:
    try:
        return int(_port_file(home).read_text())
    except (OSError, ValueError):
        return 0


if __name__ == "__main__":
    sys.exit(main())
