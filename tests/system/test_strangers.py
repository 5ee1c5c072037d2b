"""Who reaches the port that the keeper listens at, and has no key: it learns nothing, and takes nothing away."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import ssl
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from motes.bus import tls
from motes.bus.connection import Connection
from motes.controller.crowd import MOST
from motes.errors import Unavailable
from motes.grants import jwt, keys, roles
from motes.model import invite as invites
from system.people import People, new_key, with_people
from system.running import DEADLINE_S, Keeper, RunningCluster, wait_until

FILES = 1024
"""That a process of this cluster may have open: as on a small board, so that a stranger can come to the limit."""
HELLO = """
    from motes import function

    @function
    def greet(name: str) -> str:
        return f"hello {name}"
"""


class Narrow(Keeper):
    """One whose processes may have FILES files open each."""

    def command(self, *words: str) -> list[str]:
        return ["sh", "-c", f'ulimit -n {FILES} && exec "$@"', "sh", *super().command(*words)]


@pytest.fixture(scope="module")
def keeper(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Narrow]:
    with Narrow(tmp_path_factory.mktemp("strangers") / "home") as cluster:
        cluster.listen()
        cluster.deploy("hello", HELLO)
        yield cluster


def connected(keeper: Keeper) -> socket.socket:
    made = socket.create_connection(("127.0.0.1", keeper.port), DEADLINE_S)
    made.settimeout(DEADLINE_S)
    return made


def said_until_the_end(stranger: socket.socket) -> bytes:
    """All that the server says until it ends the connection, which it must."""
    said = b""
    with contextlib.suppress(ConnectionError, ssl.SSLError):
        while more := stranger.recv(65536):
            said += more
    return said


def is_whole(keeper: Keeper) -> bool:
    """Whether calls go through, and what is deployed is kept."""
    if keeper.run("call", "hello.greet", "Ada").stdout != '"hello Ada"\n':
        return False
    keeper.deploy("kept", HELLO.replace("hello {name}", f"{time.monotonic_ns()} {{name}}"))
    return keeper.hosts().get("local") == "up"


@pytest.mark.parametrize(
    "says",
    [
        b"PUB host.local.lease 1\r\nx\r\n",
        b"SUB > 1\r\n",
        b"CONNECT {}\r\nSUB > 1\r\nPING\r\n",
        b'CONNECT {"user":"keeper","pass":"keeper"}\r\nSUB > 1\r\nPING\r\n',
        b'CONNECT {"nkey":"UA","sig":"AA"}\r\nPING\r\n',
        # As another server, or a leaf node, would.
        b'INFO {"server_id":"x","cluster":"motes"}\r\n',
        b"LS+ $G >\r\n",
        b"RS+ $G >\r\n",
        b"A+ $G\r\n",
        b"CONNECT " + b"x" * 2**20 + b"\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n\r\n",
        b"\x10\x0c\x00\x04MQTT\x04\x02\x00\x3c\x00\x00",
    ],
    ids=range(12),
)
@pytest.mark.parametrize("over_tls", [False, True], ids=["plain", "tls"])
def test_who_shows_no_token_is_told_what_everybody_is_and_shut_out(keeper: Narrow, says: bytes, over_tls: bool) -> None:
    plain = connected(keeper)
    greeting = plain.recv(65536)
    with tls.context().wrap_socket(plain) if over_tls else plain as stranger:
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            stranger.sendall(says)
        said = said_until_the_end(stranger)
    assert greeting.startswith(b"INFO ") and b"MSG" not in said and b"PONG" not in said


@pytest.mark.parametrize("begins", [b"", b"\x16\x03\x01\x02\x00\x01", b"CONN", b"CONNECT {"], ids=range(4))
def test_who_begins_and_does_not_go_on_is_not_waited_for(keeper: Narrow, begins: bytes) -> None:
    with connected(keeper) as stranger:
        stranger.sendall(begins)
        said_until_the_end(stranger)


def test_more_connections_than_the_server_has_files_end_nothing_and_are_over_in_seconds(keeper: Narrow) -> None:
    process = keeper.pid("nats-server")
    with contextlib.ExitStack() as stack:
        for _ in range(2 * FILES):
            stack.enter_context(connected(keeper))
        # They are held, and say nothing.
        wait_until(lambda: is_whole(keeper))
    assert keeper.pid("nats-server") == process


def test_who_has_an_invite_or_a_key_has_a_few_connections_and_leaves_the_others_theirs(
    keeper: Narrow, tmp_path: Path
) -> None:
    """Else whoever came first had them all, and not even the owner could connect to withdraw the key."""
    line = invites.parse(keeper.invite())
    guest = jwt.guest_credentials(line, roles.guest(keys.Key(line.secret).public))
    shop = new_key(keeper, "shop", tmp_path / "shop.creds")

    async def work(people: People) -> None:
        for user, most in ((guest, MOST["guest"]), (shop, MOST["caller"])):
            crowd: list[Connection] = []
            for _ in range(3 * MOST["caller"]):
                with contextlib.suppress(Unavailable):
                    crowd.append(await people.connect(user.user, user))
                    crowd[-1]._closed = True  # It does not come back by itself: what that costs is no matter of keys.
            while open_ones(crowd) > most:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
            assert await people.motes("creds", "ls")
            assert open_ones(crowd) == most, "it has as many as it may"

    with_people(keeper, work)


def open_ones(connections: list[Connection]) -> int:
    return sum(each._wire is not None and each._wire.open for each in connections)


def test_the_keeper_opens_one_port_to_others_and_no_other_protocol(keeper: Narrow) -> None:
    inodes = set()
    for each in Path(f"/proc/{keeper.pid('nats-server')}/fd").iterdir():
        with contextlib.suppress(OSError):
            inodes.add(os.readlink(each).removeprefix("socket:[").rstrip("]"))
    rows = [line.split() for name in ("tcp", "tcp6") for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]]
    listens = {int(row[1].rpartition(":")[2], 16) for row in rows if row[3] == "0A" and row[9] in inodes}
    assert listens == {keeper.port}


def test_the_gateway_is_reached_from_this_machine_only(keeper: RunningCluster) -> None:
    """Whoever reaches it calls without a key."""
    port = int(keeper.home.cluster()["http"].rpartition(":")[2])
    rows = [line.split() for name in ("tcp", "tcp6") for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]]
    listens = {row[1] for row in rows if row[3] == "0A" and int(row[1].rpartition(":")[2], 16) == port}
    assert listens == {f"0100007F:{port:04X}"}
