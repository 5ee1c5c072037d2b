"""Daemons with a port on machines that have joined: reached through the one connection that each has."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from system import moving
from system.daemon_elsewhere import Client, content, deploy, where
from system.machines import KINDS, Machines, Proxied, machines, needs_namespaces, network, proxied
from system.running import wait_until

MIB = 2**20
NAP = """
    import time
    from motes import function

    @function(place="there")
    def nap(seconds: float) -> float:
        time.sleep(seconds)
        return seconds
"""


def join(lab: Machines, name: str) -> None:
    """One more machine, with the label `there`."""
    machine = lab.machine()
    machine.motes("join", lab.invite(machine), "--name", name, "--lend", "labels=there")
    lab.wait_for(name, "up")


@pytest.fixture(params=KINDS)
def lab(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Machines]:
    """A keeper, and a machine `far` that serves the daemon."""
    with machines(request.param, tmp_path) as made:
        join(made, "far")
        yield made


@pytest.fixture
def narrow(tmp_path: Path) -> Iterator[Proxied]:
    with proxied(tmp_path) as made:
        join(made, "far")
        yield made


def test_it_serves_as_one_on_the_keepers_machine_does(lab: Machines) -> None:
    deploy(lab.keeper, "hello", "--place", "there")
    client, large = Client(lab.keeper), 64 * MIB
    assert client.says() == "hello" and where(lab.keeper) == {"far"}
    client.upload(content(large))
    assert client.download(large) == content(large)
    with client.switched() as echo:
        for size in (1, 1000, 60_000):
            echo.sendall(content(size))
            heard = b""
            while len(heard) < size:
                heard += echo.recv(size)
            assert heard == content(size)
        echo.shutdown(1)
        assert echo.recv(1) == b""
    heard_by: list[bytes] = []
    many = [threading.Thread(target=lambda: heard_by.append(client.download(MIB))) for _ in range(30)]
    for each in many:
        each.start()
    for each in many:
        each.join()
    assert heard_by == [content(MIB)] * 30
    # What went through is on the machine's account.
    wait_until(lambda: sum(each["in_bytes"] for each in lab.keeper.json("usage")) >= large, "the upload is counted")
    wait_until(lambda: sum(each["out_bytes"] for each in lab.keeper.json("usage")) >= large + 30 * MIB)


def test_who_reads_slowly_gets_all_of_it_and_holds_nobody_up(lab: Machines) -> None:
    deploy(lab.keeper, "hello", "--place", "there")
    client = Client(lab.keeper)
    with client.begin(32 * MIB) as slow:
        time.sleep(3.0)
        for _ in range(3):
            assert client.download(4 * MIB) == content(4 * MIB)
        heard = bytearray()
        while len(heard) < 32 * MIB:
            heard += slow.recv(MIB)
        assert heard == content(32 * MIB)


def test_when_its_machine_is_lost_its_clients_see_an_end_and_the_next_find_it_elsewhere(lab: Machines) -> None:
    deploy(lab.keeper, "hello", "--place", "there")
    join(lab, "other")
    client, (far, _) = Client(lab.keeper), lab.machines
    with client.begin(64 * MIB) as cut, client.switched() as idle:
        assert where(lab.keeper) == {"far"}
        far.vanish()
        heard = 0
        while data := cut.recv(MIB):
            heard += len(data)
        assert heard < 64 * MIB and idle.recv(1) == b""
    assert client.says() == "hello" and where(lab.keeper) == {"other"}


def test_when_its_machine_is_cut_off_it_is_found_elsewhere_and_nobody_waits_for_the_old_one(lab: Machines) -> None:
    deploy(lab.keeper, "hello", "--place", "there")
    join(lab, "other")
    client, (far, _) = Client(lab.keeper), lab.machines
    with client.switched() as idle:
        assert where(lab.keeper) == {"far"}
        lab.cut(far)
        wait_until(lambda: client.says() == "hello", "it serves elsewhere")
        idle.settimeout(60)
        assert idle.recv(1) == b"", "whoever was connected there is told in the end"
        lab.mend(far)
        lab.wait_for("far", "up")
    wait_until(lambda: where(lab.keeper) == {"other"}, "there is one")
    assert client.says() == "hello"


def test_a_new_release_replaces_it_while_it_is_visited(lab: Machines) -> None:
    deploy(lab.keeper, "one", "--place", "there")
    client, heard, over = Client(lab.keeper), list[str](), threading.Event()

    def visit() -> None:
        while not over.is_set():
            heard.append(client.says())

    visiting = threading.Thread(target=visit)
    visiting.start()
    try:
        for says in ("two", "three"):
            deploy(lab.keeper, says, "--place", "there")
            wait_until(lambda says=says: says in heard, f"{says} serves")
    finally:
        over.set()
        visiting.join()
    assert set(heard) == {"one", "two", "three"}


def test_a_gateway_that_starts_anew_finds_it_and_the_host_keeps_nothing_of_the_old_one(lab: Machines) -> None:
    deploy(lab.keeper, "hello", "--place", "there")
    client = Client(lab.keeper)
    with contextlib.ExitStack() as kept:
        for _ in range(20):
            kept.enter_context(client.switched())
        assert client.echoing() == 20
        old = lab.keeper.kill("gateway")
        lab.keeper.wait_until_back("gateway", old)
        wait_until(lambda: client.echoing() == 0, "what led to the old one is closed")


def test_the_keeper_moves_away_from_it_and_it_is_reached_from_where_the_keeper_is(tmp_path: Path) -> None:
    with moving.machines(tmp_path, "laptop", "server") as (laptop, server):
        laptop.motes("lend", "labels=there")
        deploy(laptop, "hello", "--place", "there")
        assert Client(laptop).says() == "hello"
        pid = laptop.instances("main")[0]["pid"]
        done = laptop.move("server", server.accept())
        assert done.returncode == 0, done
        server.become()
        wait_until(lambda: Client(server).says() == "hello", "it is reached")
        assert [(each["host"], each["pid"]) for each in server.instances("main")] == [("local", pid)]


def test_over_a_line_that_is_slow_the_host_stays_up_and_is_called_meanwhile(narrow: Proxied) -> None:
    """What is on the way would else keep its heartbeats waiting for seconds."""
    deploy(narrow.keeper, "hello", "--place", "there")
    narrow.keeper.deploy("work", NAP)
    assert narrow.keeper.json("call", "work.nap", "0.0") == 0.0
    client, size = Client(narrow.keeper), 3 * MIB
    narrow.line(narrow.machines[0]).narrow(400_000)
    heard: list[bytes] = []
    loading = threading.Thread(target=lambda: heard.append(client.download(size)))
    sending = threading.Thread(target=lambda: client.upload(content(size)))
    states = set[str]()
    for each in (loading, sending):
        each.start()
    while loading.is_alive() or sending.is_alive():
        states.add(narrow.state("far"))
        assert narrow.keeper.json("call", "work.nap", "0.0", "--timeout", "10") == 0.0
    assert heard == [content(size)] and states == {"up"}
    assert "host.end" not in {each["what"] for each in narrow.keeper.json("events")}


@needs_namespaces
def test_over_a_line_that_delays_and_loses_packets_all_of_it_arrives(tmp_path: Path) -> None:
    with network(tmp_path) as lossy:
        join(lossy, "far")
        deploy(lossy.keeper, "hello", "--place", "there")
        client = Client(lossy.keeper)
        assert client.says() == "hello"
        lossy.line(lossy.machines[0]).slow(delay_s=0.03, loss=0.02)
        assert client.download(8 * MIB) == content(8 * MIB)
        assert lossy.state("far") == "up"
