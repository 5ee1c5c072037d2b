"""Hosts with labels, in sets and on machines of their own, and what runs where because of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from motes.errors import Refused
from motes.model.keeper import NameHosts
from system.people import People, with_people
from system.running import Keeper, RunningCluster, is_alive, wait_until

LEND = "cpus=1,memory=512MiB,spaces=20"
APP = """
    from motes import function

    @function({options})
    def greet(name: str) -> str:
        return f"hello, {{name}}"
"""
SLEEPER = ("--cmd", "sleep 1000")


def app(options: str) -> str:
    return APP.format(options=options)


def homes(cluster: RunningCluster, name: str) -> set[str]:
    """The hosts on which instances of an app run and are not about to end."""
    return {each["host"] for each in cluster.instances() if each["app"] == name and each["state"] != "draining"}


@pytest.fixture(scope="module")
def keeper(keeper: Keeper) -> Keeper:
    """With four hosts: `local`, two of machine A (one with a label), and one of machine B."""
    for name, more in (("a1", "labels=gpu+attic,machine=A"), ("a2", "machine=A"), ("b1", "machine=B")):
        keeper.motes("host", "start", "--name", name, "--lend", f"{LEND},{more}")
    return keeper


def test_a_function_runs_where_its_label_is_and_is_refused_where_there_is_none(keeper: Keeper) -> None:
    keeper.deploy("hot", app('place="gpu", scale=(1, None)'))
    assert keeper.motes("call", "hot.greet", "Ada") == '"hello, Ada"\n'
    assert homes(keeper, "hot") == {"a1"}
    keeper.deploy("cold", app('place="tpu"'))
    said = keeper.refusal(7, "call", "cold.greet", "Ada")
    assert "no host is tpu" in said and "a1 (arch:" in said and "labels=tpu" in said
    for name in ("hot", "cold"):
        keeper.motes("rm", name)


def test_what_is_said_at_deploy_narrows_what_a_function_says(keeper: Keeper) -> None:
    file = keeper.folder.parent / "both.py"
    file.write_text(app('place="!attic"').replace("\n    ", "\n").replace("{{", "{").replace("}}", "}"))
    assert "no host" in keeper.refusal(7, "deploy", str(file), "--place", "tpu")
    assert "--place" in keeper.run("deploy", str(file), "--place", "!own").stderr
    keeper.motes("deploy", str(file), "--place", "gpu")
    said = keeper.refusal(7, "call", "both.greet", "Ada")
    assert "placed at gpu,!attic" in said and "no host is all of that" in said
    keeper.motes("rm", "both")


def test_a_daemon_is_where_the_owner_puts_its_set_and_follows_it(keeper: Keeper) -> None:
    folder = keeper.folder.parent / "bot"
    folder.mkdir(exist_ok=True)
    (folder / "readme").write_text("nothing")
    assert "motes host name lab HOST" in keeper.refusal(7, "deploy", str(folder), *SLEEPER, "--place", "named:lab")
    keeper.motes("host", "name", "lab", "b1")
    keeper.motes("deploy", str(folder), *SLEEPER, "--place", "named:lab")
    assert homes(keeper, "bot") == {"b1"}
    assert {each["state"] for each in keeper.instances("main")} == {"idle"}, "it has no port to listen on"
    keeper.motes("host", "name", "lab", "a2", "local")
    keeper.motes("host", "unname", "lab", "b1", "local")
    wait_until(lambda: homes(keeper, "bot") == {"a2"}, "it has followed")
    assert "sets       lab" in keeper.motes("host", "show", "a2")
    keeper.motes("rm", "bot")


def test_a_set_outlives_the_controller(keeper: Keeper) -> None:
    keeper.motes("host", "name", "kept", "b1")
    before = keeper.kill("controller")
    keeper.wait_until_back("controller", before)
    wait_until(lambda: keeper.run("host", "show", "b1").returncode == 0, "b1 is known again")
    assert keeper.json("host", "show", "b1")["sets"] == ["kept"]
    keeper.motes("host", "unname", "kept", "b1")
    assert keeper.json("host", "show", "b1")["sets"] == []


def test_a_host_is_shown_within_eighty_columns(keeper: Keeper) -> None:
    shown = keeper.motes("host", "show", "a1")
    assert max(map(len, shown.splitlines())) <= 80
    for words in ("a1, up", "own        yes", "attic, gpu", "machine    A", "20 spaces"):
        assert words in shown
    assert "there are: a1, a2, b1, local" in keeper.refusal(4, "host", "show", "nobody")


def test_floors_on_two_machines_outlive_one_with_both_of_its_hosts(keeper: Keeper) -> None:
    keeper.deploy("firm", app('place="!own-not", scale=(2, None), idempotent=True'))
    wait_until(lambda: len(homes(keeper, "firm")) == 2, "both run")
    machines = {"a1": "A", "a2": "A", "b1": "B", "local": "local"}
    assert len({machines[host] for host in homes(keeper, "firm")}) == 2
    lost = "B" if homes(keeper, "firm") == {"b1", "local"} else "A"
    stays = next(each for each in keeper.instances() if each["app"] == "firm" and machines[each["host"]] != lost)
    for host in (host for host, machine in machines.items() if machine == lost):
        keeper.kill(f"agent-{host}")
    assert keeper.motes("call", "firm.greet", "Ada") == '"hello, Ada"\n'
    assert is_alive(int(stays["pid"]))
    wait_until(lambda: sum(each["app"] == "firm" for each in keeper.instances()) >= 2, "the other floor is there again")
    assert int(stays["pid"]) in {int(each["pid"]) for each in keeper.instances()}
    keeper.motes("rm", "firm")


# ---------------------------------------------------------------------- attacks


def test_no_host_puts_itself_in_a_set(keeper: Keeper) -> None:
    async def work(people: People) -> None:
        for user in ("host-b1", "gateway"):
            host = await people.connect(user)
            with pytest.raises(Refused):
                await people.ask(host, "host-name", NameHosts("lab", ["b1"]), bool)

    with_people(keeper, work)
    assert keeper.json("host", "show", "b1")["sets"] == []


def test_a_name_that_nobody_has_is_put_in_no_set_so_that_nobody_takes_it(keeper: Keeper) -> None:
    assert "no host 'later'" in keeper.refusal(4, "host", "name", "lab", "a2", "later")
    assert keeper.json("host", "show", "a2")["sets"] == ["lab"]
    keeper.refusal(3, "host", "name", "no set", "a2")


def test_a_machine_that_joined_is_its_owners_own_only_when_he_says_so_and_whoever_takes_its_name_is_not(
    keeper: Keeper, tmp_path: Path
) -> None:
    with RunningCluster(tmp_path / "first") as first, RunningCluster(tmp_path / "second") as second:
        first.motes("join", keeper.invite(), "--name", "far", "--lend", f"{LEND},labels=own")
        wait_until(lambda: keeper.hosts().get("far") == "up", "it is there")
        assert keeper.json("host", "show", "far")["is_own"] is False
        keeper.motes("host", "name", "own", "far")
        keeper.motes("host", "name", "lab", "far")
        assert keeper.json("host", "show", "far")["is_own"] is True
        keeper.motes("host", "rm", "far")
        second.motes("join", keeper.invite(), "--name", "far")
        wait_until(lambda: keeper.hosts().get("far") == "up", "another is there")
        shown = keeper.json("host", "show", "far")
        assert shown["sets"] == [] and shown["is_own"] is False
    keeper.run("host", "rm", "far")
