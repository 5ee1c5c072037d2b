"""A NATS of three servers that the user runs, and one whose system account the keeper may listen in."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from motes.bus.connection import Connection
from motes.controller.crowd import MOST
from motes.errors import Unavailable
from motes.grants import creds
from motes.model import invite as invites
from system.own_nats import Account, OwnNats
from system.people import People, with_people
from system.running import RunningCluster, wait_until
from system.test_own_nats import APP, join, up


@pytest.fixture
def keeper(tmp_path: Path) -> Iterator[RunningCluster]:
    """Not started yet."""
    with RunningCluster(tmp_path / "keeper") as cluster:
        yield cluster


def test_of_three_servers_one_may_be_lost(keeper: RunningCluster, machine: RunningCluster, tmp_path: Path) -> None:
    nats = OwnNats(tmp_path / "nats", Account("MOTES"), servers=3)
    nats.start()
    try:
        up(keeper, nats)
        invited = keeper.json("invite")
        assert invited["addresses"] == [f"127.0.0.1:{port}" for port in nats.ports]
        join(keeper, machine, "b")
        keeper.deploy("app", APP)
        for place in range(3):
            # Another one each time, that of the keeper and of the machine first.
            nats.stop_one(place, signal.SIGKILL)
            wait_until(lambda: keeper.run("call", "app.double", "4").stdout == "8\n", "calls go on")
            file = tmp_path / f"app{place}.py"
            file.write_text(APP)
            # The others have to agree first on who leads.
            wait_until(lambda file=file: keeper.run("deploy", str(file)).returncode == 0, "one can deploy")  # type: ignore[misc]
            assert keeper.json("call", f"app{place}.double", "5") == 10
            nats.start_one(place)
        keeper.down()
        keeper.up()
        assert {each["app"] for each in keeper.json("apps")} == {"app", "app0", "app1", "app2"}
        wait_until(lambda: "b" in {host["name"] for host in keeper.json("host", "ls")}, "b is back")
    finally:
        keeper.down()
        machine.down()
        nats.stop()


def test_who_knows_one_server_is_told_of_those_that_the_keeper_is_told_to_use_now(
    keeper: RunningCluster, machine: RunningCluster, tmp_path: Path
) -> None:
    nats = OwnNats(tmp_path / "nats", Account("MOTES"), servers=3)
    nats.start()
    servers = nats.url.split(",")
    elsewhere = RunningCluster(tmp_path / "elsewhere")
    elsewhere.environment = {**elsewhere.environment, "XDG_CONFIG_HOME": str(tmp_path / "settings")}
    del elsewhere.environment["MOTES_HOME"]
    try:
        up(keeper, nats)
        first = f"127.0.0.1:{nats.ports[0]}"
        invite = invites.parse(keeper.json("invite")["invite"])._replace(addresses=(first,)).line()
        machine.motes("join", invite, "--name", "b")
        keeper.motes("creds", "--owner", "--output", str(tmp_path / "owner.creds"))
        known = creds.parse((tmp_path / "owner.creds").read_text())._replace(addresses=(first,))
        (tmp_path / "one.creds").write_text(known.text())
        elsewhere.motes("context", "add", "mine", "--creds", str(tmp_path / "one.creds"))
        keeper.down()
        up(keeper, nats, "--nats", ",".join((*servers[1:], servers[0])))
        notice = machine.home.host("b") / "keeper.notice"
        wait_until(notice.exists, "the machine is told")

        def follows() -> bool:
            elsewhere.run("--context", "mine", "apps")
            return servers[1] in elsewhere.json("context", "ls")[-1]["where"]

        wait_until(follows, "the context is led there")
        nats.stop_one(0, signal.SIGKILL)

        def shown() -> dict[str, str]:
            done = elsewhere.run("--context", "mine", "host", "ls", "--json")
            found = json.loads(done.stdout) if done.returncode == 0 else []
            return {host["name"]: host["state"] for host in found}

        wait_until(lambda: shown().get("b") == "up", "both are where the keeper is")
        # Also where it is started anew.
        machine.down()
        machine.up()
        wait_until(lambda: shown().get("b") == "up", "it is back")
    finally:
        keeper.down()
        machine.down()
        nats.stop()


def test_a_user_of_the_system_account_lets_the_keeper_see_at_once_who_goes_and_who_is_too_many(
    keeper: RunningCluster, machine: RunningCluster, tmp_path: Path
) -> None:
    nats = OwnNats(tmp_path / "nats", Account("MOTES"))
    nats.start()
    system = tmp_path / "system.creds"
    system.write_text(nats.system.user("a user with a name that is none here"))
    try:
        up(keeper, nats, "--system-creds", str(system))
        join(keeper, machine, "b")
        machine.kill("agent-b")
        wait_until(lambda: "its connection broke" in keeper.motes("events", "--json"), "the keeper was told")
        ended: list[Connection] = []

        async def work(people: People) -> None:
            user = machine.home.credentials("host-b")
            for _ in range(MOST["host"] + 4):
                connection = await people.connect(user.user, user)
                connection._on_disconnected = lambda connection=connection: ended.append(connection)  # type: ignore[misc]
            while not ended:
                # The newest are ended, also while one asks.
                with contextlib.suppress(Unavailable):
                    await connection.flush()
                await asyncio.sleep(0.01)

        with_people(keeper, work)
    finally:
        keeper.down()
        machine.down()
        nats.stop()
