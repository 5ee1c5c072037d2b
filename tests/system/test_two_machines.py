"""Machines that share nothing but a wire: they join, are cut off, and come back."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.namespaces import ip
from motes.model import invite as invites
from system.machines import KEEPER_ADDRESS, Network, needs_namespaces, network
from system.running import wait_until

pytestmark = needs_namespaces

APP = """
    import time
    from motes import function

    @function(idempotent=True)
    def nap(seconds: float) -> float:
        time.sleep(seconds)
        return seconds
"""


@pytest.fixture
def lan(tmp_path: Path) -> Iterator[Network]:
    with network(tmp_path) as made:
        yield made


def test_a_machine_joins_over_the_wire_and_runs_what_the_keeper_places_there(lan: Network) -> None:
    invite = lan.keeper.json("invite")
    assert invite["addresses"] == [f"{KEEPER_ADDRESS}:7423", "127.0.0.1:7423"]
    lan.join("far")
    lan.keeper.motes("host", "stop", "--name", "local")
    lan.keeper.deploy("work", APP)
    assert lan.keeper.motes("call", "work.nap", "0.01") == "0.01\n"
    assert {each["host"] for each in lan.keeper.instances()} == {"far"}


def test_a_machine_that_is_cut_off_is_missed_by_nobody_and_serves_again_when_it_is_back(lan: Network) -> None:
    far = lan.join("far")
    lan.keeper.deploy("work", APP)
    lan.keeper.motes("host", "stop", "--name", "local")
    assert lan.keeper.motes("call", "work.nap", "0.01") == "0.01\n"
    lan.keeper.motes("host", "start", "--name", "local")
    lan.cut(far)
    for _ in range(5):
        assert lan.keeper.motes("call", "work.nap", "0.01", "--timeout", "20") == "0.01\n"
    wait_until(lambda: lan.state("far") != "up", "the keeper misses it")
    lan.mend(far)
    wait_until(lambda: lan.state("far") == "up", "it is back")
    lan.keeper.motes("host", "stop", "--name", "local")
    assert lan.keeper.motes("call", "work.nap", "0.01", "--timeout", "20") == "0.01\n"
    assert {each["host"] for each in lan.keeper.instances() if each["state"] != "draining"} == {"far"}


def test_a_machine_that_starts_while_the_keeper_is_away_serves_when_it_is_back(lan: Network) -> None:
    far = lan.join("far")
    far.down()
    lan.keeper.down()
    far.up()
    lan.keeper.up()
    wait_until(lambda: lan.state("far") == "up", "it is back")


def test_without_a_way_to_the_keeper_every_address_is_tried_and_the_reason_said(lan: Network) -> None:
    machine = lan.machine()
    invite = lan.keeper.invite()
    lan.cut(machine)
    done = machine.run("join", invite, "--name", "far")
    assert done.returncode == 8, done
    lines = done.stderr.splitlines()
    assert lines[0] == f"trying {KEEPER_ADDRESS}:7423 ..." and lines[2] == "trying 127.0.0.1:7423 ..."
    for number, address in ((1, KEEPER_ADDRESS), (3, "127.0.0.1"), (4, KEEPER_ADDRESS)):
        assert f"no connection to NATS at tls://{address}:7423 as" in lines[number], done.stderr
    assert "failed" in lines[3] and len(lines) == 5, done.stderr
    lan.mend(machine)
    assert machine.json("join", invite, "--name", "far")["address"] == f"{KEEPER_ADDRESS}:7423"


def test_a_keeper_that_listens_on_every_ipv6_address_is_found_at_both_kinds(lan: Network) -> None:
    lan.keeper.down()
    ip("-n", lan.keeper.namespace, "addr", "add", "fd77::1/64", "dev", "bridge", "nodad")
    lan.keeper.motes("up", "--http", "127.0.0.1:0", "--listen", "[::]:7423")
    machine = lan.machine()
    ip("-n", machine.namespace, "addr", "add", "fd77::2/64", "dev", "wire", "nodad")
    invite = lan.keeper.json("invite", "--uses", "2")
    assert invite["addresses"] == [f"{KEEPER_ADDRESS}:7423", "[fd77::1]:7423", "127.0.0.1:7423"]
    line = invites.parse(invite["invite"])._replace(addresses=("[fd77::1]:7423",)).line()
    assert machine.json("join", line, "--name", "sixth")["address"] == "[fd77::1]:7423"
    lan.wait_for("sixth", "up")
    other = lan.machine()
    assert other.json("join", invite["invite"], "--name", "fourth")["address"] == f"{KEEPER_ADDRESS}:7423"
