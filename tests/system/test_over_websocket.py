"""Hosts from where only HTTPS is let out: they join and serve over WebSocket, and follow the keeper."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from motes.model import invite as invites
from ports import free_port
from proxies import ConnectProxy
from system.daemon_elsewhere import Client, content, deploy
from system.moving import Machine
from system.running import RunningCluster, wait_until

APP = """
    from motes import function

    @function(idempotent=True)
    def double(text: str) -> str:
        return 2 * text
"""


class WebKeeper(Machine):
    """A keeper that listens over WebSocket too."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.web_port = free_port()

    def listen(self) -> None:
        web = f"127.0.0.1:{self.web_port}"
        self.motes("up", "--http", "127.0.0.1:0", "--listen", self.address, "--listen-ws", web)

    def web_invite(self) -> str:
        """As it is where nothing else leads here."""
        found = self.json("invite")
        assert found["addresses"] == [self.address, f"wss://127.0.0.1:{self.web_port}"]
        return invites.parse(found["invite"])._replace(addresses=tuple(found["addresses"][1:])).line()


@pytest.fixture
def keeper(tmp_path: Path) -> Iterator[WebKeeper]:
    made = WebKeeper(tmp_path / "keeper")
    made.listen()
    yield made
    made.close()


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[RunningCluster]:
    with RunningCluster(tmp_path / "far") as made:
        for name in ("HTTPS_PROXY", "https_proxy", "NO_PROXY", "no_proxy"):
            made.environment.pop(name, None)
        yield made


@pytest.fixture
def proxy() -> Iterator[ConnectProxy]:
    """The only way out."""
    made = ConnectProxy("ada", "secret")
    loop = asyncio.new_event_loop()
    ended = asyncio.Event()

    async def run() -> None:
        async with made:
            ready.set()
            await ended.wait()

    ready = threading.Event()
    thread = threading.Thread(target=loop.run_until_complete, args=(run(),))
    thread.start()
    ready.wait()
    yield made
    loop.call_soon_threadsafe(ended.set)
    thread.join()
    loop.close()


def test_a_host_serves_over_websocket_through_a_proxy(
    keeper: WebKeeper, machine: RunningCluster, proxy: ConnectProxy
) -> None:
    machine.environment["HTTPS_PROXY"] = f"http://ada:secret@127.0.0.1:{proxy.port}"
    address = machine.json("join", keeper.web_invite(), "--name", "far")["address"]
    assert address == f"wss://127.0.0.1:{keeper.web_port}"
    keeper.motes("host", "stop", "--name", "local")
    keeper.deploy("work", APP)
    text = "words " * 15_000
    assert keeper.json("call", "work.double", f'"{text}"') == 2 * text
    assert {each["host"] for each in keeper.instances()} == {"far"}
    # It has no other way, and nobody on this one reads a word.
    assert set(proxy.asked) == {f"127.0.0.1:{keeper.web_port}"}
    assert len(proxy.seen) > 2 * len(text) and b"words words" not in proxy.seen and b"eyJ" not in proxy.seen
    # The keeper goes and comes.
    keeper.down()
    keeper.motes("up", "--http", "127.0.0.1:0")
    wait_until(lambda: keeper.is_up("far"), "it is back")
    assert keeper.json("call", "work.double", '"a"') == "aa"
    # The machine goes and comes.
    machine.down()
    machine.up()
    wait_until(lambda: keeper.is_up("far"), "it is back")
    keeper.motes("host", "rm", "far")
    assert not keeper.is_up("far")
    assert machine.json("leave")["told"] is True, "it knows already"


def test_a_daemon_there_is_reached_through_the_same_proxy(
    keeper: WebKeeper, machine: RunningCluster, proxy: ConnectProxy
) -> None:
    machine.environment["HTTPS_PROXY"] = f"http://ada:secret@127.0.0.1:{proxy.port}"
    machine.motes("join", keeper.web_invite(), "--name", "far", "--lend", "labels=there")
    wait_until(lambda: keeper.is_up("far"), "it is up")
    deploy(keeper, "hello", "--place", "there")
    client, size = Client(keeper), 8 * 2**20
    client.upload(content(size))
    assert client.download(size) == content(size) and client.says() == "hello"
    assert set(proxy.asked) == {f"127.0.0.1:{keeper.web_port}"} and len(proxy.seen) > 2 * size


def test_where_no_websocket_is_wanted_there_is_none(keeper: WebKeeper, machine: RunningCluster) -> None:
    line = keeper.web_invite()
    assert "motes down" in keeper.refusal(3, "up", "--listen-ws", "off")
    keeper.down()
    assert "is no address" in keeper.refusal(3, "up", "--listen-ws", "here:there")
    keeper.motes("up", "--http", "127.0.0.1:0", "--listen-ws", "off")
    assert keeper.json("invite")["addresses"] == [keeper.address]
    assert "no connection to NATS at wss://" in machine.refusal(8, "join", line, "--name", "far")
    assert "let them first: motes up --listen" in machine.refusal(3, "up", "--listen-ws", "127.0.0.1")


def test_a_host_that_has_only_websockets_follows_the_keeper(
    keeper: WebKeeper, machine: RunningCluster, tmp_path: Path
) -> None:
    server = Machine(tmp_path / "server")
    try:
        server.join(keeper, "server")
        machine.motes("join", keeper.web_invite(), "--name", "far")
        keeper.deploy("work", APP)
        web = free_port()
        line = server.accept("--listen-ws", f"127.0.0.1:{web}")
        assert keeper.move("server", line).returncode == 0
        server.become()
        keeper.down()
        wait_until(lambda: server.is_up("far"), "it found the new place")
        machine.down()
        machine.up()
        wait_until(lambda: server.is_up("far"), "it knows the new place")
        assert f"wss://127.0.0.1:{web}" in machine.home.keeper().servers
        assert server.json("call", "work.double", '"a"') == "aa"
    finally:
        server.close()
