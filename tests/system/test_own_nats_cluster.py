"""A NATS of three servers that the user runs."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from motes.grants import creds
from motes.model import invite as invites
from system.own_nats import APP, Account, Lodger, OwnNats
from system.running import Away, RunningCluster, wait_until


@pytest.fixture
def nats(tmp_path: Path) -> Iterator[OwnNats]:
    with OwnNats(tmp_path / "nats", Account("MOTES"), servers=3) as made:
        yield made


@pytest.fixture
def keeper(nats: OwnNats, tmp_path: Path) -> Iterator[Lodger]:
    """Not started yet."""
    with Lodger(tmp_path / "keeper") as cluster:
        yield cluster


def test_of_three_servers_one_may_be_lost(
    nats: OwnNats, keeper: Lodger, machine: RunningCluster, tmp_path: Path
) -> None:
    keeper.live_in(nats)
    invited = keeper.json("invite")
    assert invited["addresses"] == [f"127.0.0.1:{port}" for port in nats.ports]
    machine.join(keeper, "b")
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


def test_who_knows_one_server_is_told_of_those_that_the_keeper_is_told_to_use_now(
    nats: OwnNats, keeper: Lodger, machine: RunningCluster, away: Away, tmp_path: Path
) -> None:
    servers = nats.url.split(",")
    keeper.live_in(nats)
    first = f"127.0.0.1:{nats.ports[0]}"
    invite = invites.parse(keeper.json("invite")["invite"])._replace(addresses=(first,)).line()
    machine.motes("join", invite, "--name", "b")
    keeper.motes("creds", "--owner", "--output", str(tmp_path / "owner.creds"))
    known = creds.parse((tmp_path / "owner.creds").read_text())._replace(addresses=(first,))
    (tmp_path / "one.creds").write_text(known.text())
    away.motes("context", "add", "mine", "--creds", str(tmp_path / "one.creds"))
    keeper.down()
    keeper.live_in(nats, "--nats", ",".join((*servers[1:], servers[0])))
    notice = machine.home.host("b") / "keeper.notice"
    wait_until(notice.exists, "the machine is told")

    def follows() -> bool:
        away.run("--context", "mine", "apps")
        return servers[1] in away.json("context", "ls")[-1]["where"]

    wait_until(follows, "the context is led there")
    nats.stop_one(0, signal.SIGKILL)

    def shown() -> dict[str, str]:
        done = away.run("--context", "mine", "host", "ls", "--json")
        found = json.loads(done.stdout) if done.returncode == 0 else []
        return {host["name"]: host["state"] for host in found}

    wait_until(lambda: shown().get("b") == "up", "both are where the keeper is")
    # Also where it is started anew.
    machine.down()
    machine.up()
    wait_until(lambda: shown().get("b") == "up", "it is back")
