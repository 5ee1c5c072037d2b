"""A cluster lives in a NATS that its user runs, by a signing key of an account there."""

from __future__ import annotations

import asyncio
import contextlib
import json
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from motes.bus.connection import Connection
from motes.controller.crowd import MOST
from motes.errors import Unavailable
from motes.grants.keys import Key
from motes.model import invite as invites
from ports import free_port
from system import daemon_elsewhere
from system.daemon_elsewhere import Client, content
from system.own_nats import APP, Account, Lodger, OwnNats
from system.own_sshd import Sshd
from system.people import People, with_people
from system.running import Away, RunningCluster, is_alive, wait_until

MIB = 2**20
APART = """
from motes import function

@function(place="there")
def double(number: int) -> int:
    return 2 * number

@function(place="!there", calls=[double])
def quadruple(number: int) -> int:
    return double.remote(double.remote(number))
"""


@pytest.fixture
def nats(tmp_path: Path) -> Iterator[OwnNats]:
    with OwnNats(tmp_path / "nats", *map(Account, ("MOTES", "OTHER", "THIRD"))) as made:
        yield made


@pytest.fixture
def keeper(tmp_path: Path) -> Iterator[Lodger]:
    """Not started yet."""
    with Lodger(tmp_path / "keeper") as cluster:
        yield cluster


def test_a_cluster_lives_there_and_outlives_its_keeper_and_the_nats(nats: OwnNats, keeper: Lodger) -> None:
    keeper.live_in(nats)
    keeper.deploy("app", APP)
    assert keeper.json("call", "app.double", "21") == 42
    facts = keeper.json("up", "--http", "127.0.0.1:0")
    assert facts["already"] and facts["nats"] == nats.url
    with urllib.request.urlopen(f"{facts['http']}/app/double", b"4") as answer:
        assert answer.read() == b"8"
    with pytest.raises(LookupError):
        keeper.pid("nats-server")
    # It is remembered, and what was deployed is there again.
    keeper.down()
    keeper.up()
    assert keeper.json("call", "app.double", "21") == 42
    nats.stop()
    nats.start()
    wait_until(lambda: keeper.run("call", "app.double", "5").stdout == "10\n", "calls go on after NATS came back")
    assert keeper.run("doctor").returncode == 0
    nats_check = next(check for check in keeper.json("doctor")["checks"] if check["name"] == "NATS")
    assert nats_check["works"] and nats.url in nats_check["detail"]
    nats.stop()
    nats_check = next(
        check for check in json.loads(keeper.run("doctor", "--json").stdout)["checks"] if check["name"] == "NATS"
    )
    assert not nats_check["works"] and "no connection to NATS" in nats_check["detail"]


def test_on_the_loopback_it_may_do_without_tls_and_then_nobody_else_joins(keeper: Lodger, tmp_path: Path) -> None:
    with OwnNats(tmp_path / "nats", Account("MOTES"), tls=False) as nats, keeper:
        keeper.live_in(nats)
        keeper.deploy("app", APP)
        assert keeper.json("call", "app.double", "21") == 42
        assert "no other machine can reach the NATS" in keeper.refusal(3, "invite")


def test_its_owner_commands_it_from_elsewhere(nats: OwnNats, keeper: Lodger, away: Away, tmp_path: Path) -> None:
    keeper.live_in(nats)
    file = tmp_path / "owner.creds"
    keeper.motes("creds", "--owner", "--output", str(file))
    away.motes("context", "add", "work", "--creds", str(file))
    away.motes("context", "use", "work")
    away.deploy("app", APP)
    assert keeper.json("call", "app.double", "4") == 8
    assert str(away.json("invite")["invite"]).startswith("motes2-")


def test_a_machine_joins_is_called_and_is_removed_at_once_for_good(
    nats: OwnNats, keeper: Lodger, machine: RunningCluster, tmp_path: Path
) -> None:
    keeper.live_in(nats)
    invited = keeper.json("invite")
    assert invited["addresses"] == [f"127.0.0.1:{nats.ports[0]}"]
    machine.join(keeper, "b")
    keeper.motes("host", "stop", "--name", "local")
    keeper.deploy("app", APP)
    assert keeper.json("call", "app.double", "4") == 8
    assert {each["host"] for each in keeper.instances()} == {"b"}
    # Both come back by themselves.
    machine.down()
    keeper.down()
    keeper.up()
    machine.up()
    wait_until(lambda: keeper.hosts() == {"b": "up"}, "b is back")
    assert keeper.json("call", "app.double", "4") == 8
    keeper.motes("host", "start", "--name", "local")
    agent = machine.pid("agent-b")
    keeper.motes("host", "rm", "b")
    assert keeper.hosts() == {"local": "up"}
    assert keeper.json("call", "app.double", "4") == 8
    assert {each["host"] for each in keeper.instances()} == {"local"}
    # An honest agent ends, and does not come back; nor does its machine's restart help it.
    wait_until(lambda: not is_alive(agent), "the agent has ended")
    for start_again in (machine.up, lambda: (keeper.down(), keeper.up())):
        machine.down()
        start_again()
        assert keeper.hosts() == {"local": "up"}
    wait_until(lambda: "was removed from this cluster" in machine.home.log("agent-b").read_text())
    # NATS lets it in under its name, so nobody else gets that.
    other = RunningCluster(tmp_path / "other")
    line = str(keeper.json("invite")["invite"])
    assert "choose another" in other.refusal(3, "join", line, "--name", "b")
    assert "choose another" in keeper.refusal(3, "host", "start", "--name", "b")
    assert machine.json("leave") == {"name": "b", "told": True}
    machine.join(keeper, "c")
    assert machine.json("leave") == {"name": "c", "told": True}
    assert keeper.hosts() == {"local": "up"}


def test_a_machine_joins_over_a_websocket_that_the_nats_has(
    keeper: Lodger, machine: RunningCluster, away: Away, tmp_path: Path
) -> None:
    with OwnNats(tmp_path / "nats", Account("MOTES"), websocket=free_port()) as made, keeper, machine:
        keeper.live_in(made)
        web = f"wss://127.0.0.1:{made.websocket}"
        for wrong in (web.replace("wss", "ws"), web.replace("wss", "https")):
            assert "or wss://keeper.example" in keeper.refusal(3, "invite", "--address", wrong)
        invited = keeper.json("invite", "--address", web)
        assert invited["addresses"] == [web, f"127.0.0.1:{made.ports[0]}"]
        # Nothing else leads there.
        line = invites.parse(invited["invite"])._replace(addresses=(web,)).line()
        assert machine.json("join", line, "--name", "b")["address"] == web
        keeper.motes("host", "stop", "--name", "local")
        keeper.deploy("app", APP)
        assert keeper.json("call", "app.double", "4") == 8
        machine.down()
        machine.up()
        wait_until(lambda: keeper.hosts() == {"b": "up"}, "b is back")
        assert keeper.json("call", "app.double", "4") == 8
        # An owner elsewhere as well.
        keeper.motes("creds", "--owner", "--output", str(tmp_path / "owner.creds"))
        away.motes("context", "add", "mine", "--creds", str(tmp_path / "owner.creds"), "--keeper", web)
        assert away.json("--context", "mine", "call", "app.double", "5") == 10


def test_what_is_on_a_machine_that_joined_is_reached_as_everywhere(
    nats: OwnNats, keeper: Lodger, machine: RunningCluster
) -> None:
    keeper.live_in(nats)
    machine.join(keeper, "b", "--lend", "labels=there")
    daemon_elsewhere.deploy(keeper, "hello", "--place", "there")
    client, large = Client(keeper), 8 * MIB
    assert client.says() == "hello" and daemon_elsewhere.where(keeper) == {"b"}
    # More than one message of that NATS may carry.
    client.upload(content(large))
    assert client.download(large) == content(large)
    with client.switched() as echo:
        echo.sendall(b"x")
        assert echo.recv(1) == b"x"
    keeper.deploy("app", APART)
    with urllib.request.urlopen(f"{keeper.home.cluster()['http']}/app/double", b"4") as answer:
        assert answer.read() == b"8"
    assert keeper.json("call", "app.quadruple", "3") == 12
    ran = {(each["workload"], each["host"]) for each in keeper.instances() if each["app"] == "app"}
    assert ran == {("double", "b"), ("quadruple", "local")}

    def used(app: str, what: str) -> int:
        return sum(int(each[what]) for each in keeper.json("usage", "--app", app, "--host", "b"))

    wait_until(lambda: used("app", "calls") == 3, "its calls are counted")
    wait_until(lambda: min(used("site", "in_bytes"), used("site", "out_bytes")) >= large, "so is what passed")


def test_a_machine_of_another_cluster_in_the_same_nats_is_left_alone(
    nats: OwnNats, keeper: Lodger, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Both know the NATS by the same authority; only their keys tell them apart."""
    far, other = Sshd(tmp_path_factory.mktemp("far")), RunningCluster(tmp_path_factory.mktemp("other") / "home")
    machine = far.cluster()
    try:
        keeper.live_in(nats)
        other.motes("up", "--http", "127.0.0.1:0", *nats.options(nats.accounts[1]))
        machine.join(keeper, "b")
        add = ("host", "add", "far", "--ssh-config", str(far.settings), "--name", "c")
        assert "has joined another cluster" in other.refusal(3, *add)
        assert "is host 'b' already" in keeper.refusal(3, *add)
        # Nor does a keeper become a host, although no nats-server is its own.
        machine.motes("leave")
        machine.motes("up", "--http", "127.0.0.1:0", *nats.options(nats.accounts[2]))
        assert "is the keeper of a cluster of its own" in other.refusal(3, *add)
    finally:
        for each in (machine, other):
            each.down()
        far.stop()


def test_it_is_left_only_when_nothing_is_deployed_there(nats: OwnNats, keeper: Lodger) -> None:
    keeper.live_in(nats)
    keeper.deploy("app", APP)
    assert "stay there" in keeper.refusal(3, "keeper", "move", "b", "motes-keeper1-x")
    keeper.down()
    for words in (("--listen", "127.0.0.1"), ("--nats", nats.url, "--creds", "/x", "--listen", "127.0.0.1")):
        assert "nothing to listen with" in keeper.refusal(3, "up", *words)
    assert "1 apps are deployed" in keeper.refusal(3, "up", "--nats", "off")
    keeper.up()
    keeper.motes("rm", "app")
    keeper.down()
    assert keeper.json("up", "--http", "127.0.0.1:0", "--nats", "off")["nats"].startswith("nats://127.0.0.1:")
    keeper.deploy("app", APP)
    assert keeper.json("call", "app.double", "4") == 8
    assert keeper.pid("nats-server") and not keeper.home.key("signing").exists()


def test_another_signing_key_may_take_the_place_of_one(nats: OwnNats, keeper: Lodger) -> None:
    account = nats.accounts[0]
    keeper.live_in(nats)
    keeper.deploy("app", APP)
    keeper.down()
    account.signing = Key.generate()
    account.listed = [account.signing]
    nats.push(account)
    assert "does not list the signing key" in keeper.refusal(8, "up", "--http", "127.0.0.1:0")
    keeper.live_in(nats)
    assert keeper.json("call", "app.double", "4") == 8


def test_a_user_of_the_system_account_lets_the_keeper_see_at_once_who_goes_and_who_is_too_many(
    nats: OwnNats, keeper: Lodger, machine: RunningCluster
) -> None:
    keeper.live_in(nats, *nats.system_options())
    machine.join(keeper, "b")
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
