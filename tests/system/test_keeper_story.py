"""A cluster that was begun on a laptop: its control moves to a server, and the lid of the laptop is closed.

The laptop is behind a router that lets only its own connections through, but for one port that it passes on.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.namespaces import delete, ip, make
from system.machines import needs_namespaces
from system.moving import APP, Machine
from system.running import wait_until

pytestmark = needs_namespaces

ROUTER, LAPTOP, PORT = "10.78.0.1", "192.168.78.2", 7423
FORWARDED_PORT = f"""
import asyncio
async def pump(reader, writer):
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    except OSError:
        pass
    writer.close()
async def accept(reader, writer):
    try:
        further, onward = await asyncio.open_connection("{LAPTOP}", {PORT})
    except OSError:
        return writer.close()
    await asyncio.gather(pump(reader, onward), pump(further, writer))
async def main():
    async with await asyncio.start_server(accept, "{ROUTER}", {PORT}) as server:
        await server.serve_forever()
asyncio.run(main())
"""


class Placed(Machine):
    """A machine in a network namespace."""

    def __init__(self, folder: Path, namespace: str) -> None:
        super().__init__(folder)
        self.prefix = ("ip", "netns", "exec", namespace)
        self.namespace = namespace
        self.port = PORT

    @property
    def address(self) -> str:
        return "0.0.0.0"


class World:
    """A router, a laptop behind it, and machines before it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._name = f"keeper{os.getpid()}"
        self.router = self._namespace("r")
        ip("-n", self.router, "link", "add", "public", "type", "bridge")
        ip("-n", self.router, "addr", "add", f"{ROUTER}/24", "dev", "public")
        ip("-n", self.router, "link", "set", "public", "up")
        subprocess.run(["ip", "netns", "exec", self.router, "sysctl", "-q", "-w", "net.ipv4.ip_forward=1"], check=True)
        self.laptop = Placed(folder / "laptop", self._namespace("l"))
        self._wire("lan", self.laptop.namespace)
        ip("-n", self.router, "addr", "add", "192.168.78.1/24", "dev", "lan")
        ip("-n", self.laptop.namespace, "addr", "add", f"{LAPTOP}/24", "dev", "wire")
        ip("-n", self.laptop.namespace, "route", "add", "default", "via", "192.168.78.1")
        # Answers to what the laptop began pass, and nothing else from outside.
        only_answers = ("ipproto", "tcp", "dport", "1-32767", "blackhole")
        ip("-n", self.router, "rule", "add", "from", "10.78.0.0/24", "to", LAPTOP, *only_answers)
        self.others: list[Placed] = []
        self.passing = subprocess.Popen(["ip", "netns", "exec", self.router, sys.executable, "-c", FORWARDED_PORT])

    def machine(self, name: str) -> Placed:
        """One more on the public side."""
        found = Placed(self._folder / name, self._namespace(name[0]))
        self.others.append(found)
        self._wire(name, found.namespace)
        ip("-n", self.router, "link", "set", name, "master", "public")
        ip("-n", found.namespace, "addr", "add", f"10.78.0.{len(self.others) + 1}/24", "dev", "wire")
        ip("-n", found.namespace, "route", "add", "default", "via", ROUTER)
        return found

    def _namespace(self, end: str) -> str:
        return make(f"{self._name}{end}")

    def _wire(self, name: str, namespace: str) -> None:
        ip("-n", self.router, "link", "add", name, "type", "veth", "peer", "name", "wire", "netns", namespace)
        ip("-n", self.router, "link", "set", name, "up")
        ip("-n", namespace, "link", "set", "wire", "up")

    def lid(self, state: str) -> None:
        """`down` or `up`: nothing passes any more, and nobody is told."""
        ip("-n", self.router, "link", "set", "lan", state)

    def close(self) -> None:
        self.passing.kill()
        self.passing.wait()
        for each in (*self.others, self.laptop):
            each.close()
            delete(each.namespace)
        delete(self.router)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    try:
        yield made
    finally:
        made.close()


def test_the_lid_of_the_laptop_is_closed_and_everything_goes_on(world: World) -> None:
    laptop = world.laptop
    laptop.listen()
    server, third, away = map(world.machine, ("server", "third", "away"))
    for each in (server, third, away):
        invite = laptop.invite("--address", f"{ROUTER}:{PORT}")
        assert each.json("join", invite, "--name", each.folder.name)["address"] == f"{ROUTER}:{PORT}"
    laptop.deploy("work", APP)
    assert laptop.json("call", "work.double", "21") == 42
    away.down()
    # No other address of the laptop leads anywhere.
    assert "no connection" in world.machine("outside").run("join", without_router(laptop)).stderr

    done = laptop.move("server", server.accept())
    assert done.returncode == 0, done
    server.become()
    wait_until(lambda: all(map(server.is_up, ("server", "third", "local"))), "all are there")
    assert server.json("call", "work.double", "21") == 42

    # Who was away finds the old place, which leads to the new one.
    away.up()
    wait_until(lambda: server.is_up("away"), "it has found the keeper through the laptop")
    wait_until((away.home.host("away") / "keeper.notice").exists, "it was told where the keeper is")

    world.lid("down")
    for number in range(5):
        assert server.json("call", "work.double", str(number), "--timeout", "20") == 2 * number
    wait_until(lambda: not server.is_up("local"), "the laptop is missed")
    wait_until(lambda: server.is_up("away"), "who came through the laptop goes straight there")
    third.down()
    third.up()
    wait_until(lambda: server.is_up("third"), "it knows where the keeper is")
    assert [each["app"] for each in server.json("apps")] == ["work"]

    world.lid("up")
    wait_until(lambda: server.is_up("local"), "the laptop is back")
    server.motes("host", "stop", "--name", "server")
    for each in (third, away):
        each.down()
    wait_until(lambda: not server.is_up("third") and not server.is_up("away"), "they are gone")
    assert server.json("call", "work.double", "4", "--timeout", "30") == 8
    assert {each["host"] for each in server.instances() if each["state"] != "draining"} == {"local"}
    laptop.deploy("late", APP)
    assert server.json("call", "late.double", "5", "--timeout", "30") == 10


def without_router(laptop: Machine) -> str:
    return laptop.invite()
