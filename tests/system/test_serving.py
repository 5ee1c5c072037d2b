"""A machine's owner has it serve some of the cluster owner's apps only, by real commands on two real hosts."""

from __future__ import annotations

import asyncio
import functools
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from motes.grants import keys
from motes.model.host import HostReport, Lease
from motes.model.names import KEEPER
from system.crossings import Ear
from system.deeds import signed_lease
from system.people import People, with_people
from system.running import Keeper, RunningCluster, is_alive, wait_until
from system.test_lending import FREE_WITHIN_S, load, state
from system.test_placement import homes
from waiting import until

WORK = """
    import time
    from motes import function

    @function(idempotent=True)
    def nap(seconds: float) -> float:
        time.sleep(seconds)
        return seconds
"""
MAIL = """
    from motes import function

    @function(scale=(2, None))
    def greet(name: str) -> str:
        return f"hello, {name}"
"""


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Keeper]:
    """Two hosts that say that they are two machines, with an app that waits to be called and one that always runs."""
    with Keeper(tmp_path / "home") as made:
        made.up()
        made.motes("host", "start", "--name", "b", "--lend", "spaces=30,machine=B")
        made.deploy("work", WORK)
        made.deploy("mail", MAIL)
        wait_until(lambda: homes(made, "mail") == {"local", "b"}, "mail is on both")
        yield made


def processes(cluster: RunningCluster, app: str) -> set[int]:
    """Of an app on host b: its instances, and whatever they descend from below the agent."""
    agent, found = cluster.pid("agent-b"), set()
    for each in cluster.instances():
        pid = int(each["pid"]) if (each["app"], each["host"]) == (app, "b") else 0
        while pid and pid != agent and is_alive(pid):
            found.add(pid)
            pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    return found


@pytest.mark.parametrize("seconds", [0.05, 12.0])
def test_what_a_host_serves_no_more_is_gone_from_it_and_goes_on_elsewhere_until_it_serves_it_again(
    cluster: RunningCluster, seconds: float
) -> None:
    def come_and_go() -> None:
        wait_until(lambda: "b" in homes(cluster, "work"), "b works")
        before, others = processes(cluster, "work"), processes(cluster, "mail")
        assert len(before) > 2 and len(others) > 2 and not before & others
        began = time.monotonic()
        assert "serve=mail" in cluster.motes("lend", "--host", "b", "serve=mail")
        wait_until(lambda: not any(map(is_alive, before)), "nothing is left of it")
        assert time.monotonic() - began < FREE_WITHIN_S
        assert all(map(is_alive, others)), "the other app has noticed nothing"
        wait_until(lambda: state(cluster, "b")["lends"]["serve"] == ["mail"], "the cluster knows")
        assert state(cluster, "b")["state"] == "up"
        assert "host b serves only mail, as its owner says" in cluster.motes("host", "ls")
        assert "serves     mail" in cluster.motes("host", "show", "b")
        wait_until(lambda: homes(cluster, "work") == {"local"}, "it goes on at the other")
        cluster.motes("lend", "--host", "b", "serve=owner")
        wait_until(lambda: "b" in homes(cluster, "work"), "b works again")
        assert all(map(is_alive, others))

    async def meanwhile() -> None:
        async with load(cluster, seconds, at_once=8) as took:
            await asyncio.to_thread(come_and_go)
        assert took

    asyncio.run(meanwhile())


def test_a_daemon_moves_to_who_serves_it_and_what_nobody_serves_is_refused_with_each_owners_word(
    cluster: RunningCluster,
) -> None:
    folder = cluster.folder.parent / "bot"
    folder.mkdir()
    (folder / "readme").write_text("nothing")
    cluster.motes("deploy", str(folder), "--cmd", "sleep 1000")
    (first,) = homes(cluster, "bot")
    (other,) = {"local", "b"} - {first}
    cluster.motes("lend", "--host", first, "serve=mail+later")
    wait_until(lambda: homes(cluster, "bot") == {other}, "it has moved")
    cluster.motes("lend", "--host", other, "serve=mail+bot")
    said = cluster.refusal(7, "call", "work.nap", "0.01", "--timeout", "5")
    assert "no host serves app 'work': host b serves only" in said and "host local serves only" in said
    cluster.motes("lend", "--host", other, "serve=mail")
    wait_until(lambda: not homes(cluster, "bot"), "it has nowhere to go")
    assert "bot.main: no host serves app 'bot': host b serves only" in cluster.motes("apps")
    file = cluster.folder.parent / "later.py"
    file.write_text("from motes import function\n\n@function\ndef f() -> int:\n    return 1\n")
    cluster.motes("deploy", str(file))
    cluster.motes("call", "later.f")
    assert homes(cluster, "later") == {first}, "it was named before it was there"
    file = file.rename(file.with_name("never.py"))
    assert "no host serves app 'never'" in cluster.refusal(7, "deploy", str(file))
    # It holds over restarts, from the first moment on.
    before = cluster.kill(f"agent-{first}")
    cluster.wait_until_back(f"agent-{first}", before)
    wait_until(lambda: state(cluster, first)["state"] == "up", "it is back")
    assert state(cluster, first)["lends"]["serve"] == ["later", "mail"] and not homes(cluster, "bot")


def test_the_keepers_own_key_makes_no_host_run_what_its_owner_does_not_serve(cluster: RunningCluster) -> None:
    cluster.motes("call", "work.nap", "0.01")
    release = next(each["release"] for each in cluster.json("apps") if each["app"] == "work")
    cluster.motes("lend", "--host", "b", "serve=mail")
    wait_until(lambda: homes(cluster, "work") <= {"local"}, "b has nothing of it")
    key = keys.load_or_create(cluster.home.key("controller"))

    async def work(people: People) -> None:
        keeper = await people.connect(KEEPER)
        ear = await Ear.at(keeper, "report.b.state")

        def reports() -> list[HostReport]:
            return [msgspec.msgpack.decode(each.data, type=HostReport) for each in ear.heard]

        def is_refused(address: str, why: str) -> bool:
            return any(why in each.held[address].failing for each in reports() if address in each.held)

        # As what it is, and under the name of what is served.
        for epoch, app, why in ((2**62, "work", "serves only mail"), (2**62 + 1, "mail", "another app, 'work'")):
            lease = Lease("b", app, "nap", release, 5, 5, epoch)
            keeper.publish("host.b.lease", signed_lease(key, lease))
            await until(functools.partial(is_refused, lease.address, why))
        await asyncio.sleep(1.0)
        assert not [each for each in reports() if {"work.nap", "mail.nap"} & each.running.keys()]

    with_people(cluster, work)
    assert not processes(cluster, "work")
    assert state(cluster, "b")["lends"]["serve"] == ["mail"]


def test_a_machine_joins_serving_what_its_owner_says(cluster: Keeper) -> None:
    with RunningCluster(cluster.folder.parent / "other") as other:
        cluster.down()
        cluster.listen()
        invite = cluster.invite()
        said = other.refusal(3, "join", invite, "--lend", "serve=anyone")
        assert "no wall between owners" in said and not other.home.keeper_file.exists()
        other.motes("join", invite, "--name", "other", "--lend", "spaces=5,serve=mail")
        wait_until(lambda: state(cluster, "other")["state"] == "up")
        assert other.json("lend")["lends"]["serve"] == state(cluster, "other")["lends"]["serve"] == ["mail"]
        other.motes("lend", "serve=owner")
        wait_until(lambda: state(cluster, "other")["lends"]["serve"] == [], "the cluster knows")
