"""Two agents in one host's name, as where a home was copied: one is the host, the other ends, no call runs twice."""

from __future__ import annotations

import shutil
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from motes.supervisor import control
from system.machines import KINDS, Machine, Machines, machines
from system.programs import CLOCK_OFF, change_programs
from system.running import DEADLINE_S, MOTES, wait_until
from system.single_runs import app, runs

CALLS = """
import asyncio, sys
from motes import connect

async def main():
    async with connect() as cluster:
        for number in range(int(sys.argv[2])):
            name = f"{sys.argv[1]}-{number}"
            assert await cluster.call("work.once", name) == name

asyncio.run(main())
"""


@pytest.fixture(params=KINDS)
def lab(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Machines]:
    with machines(request.param, tmp_path) as made:
        yield made


def joined(lab: Machines) -> Machine:
    machine = lab.join("b")
    lab.keeper.motes("host", "stop", "--name", "local")
    lab.keeper.deploy("work", app(pause_s=0.05))
    return machine


def copy_of(lab: Machines, machine: Machine) -> Machine:
    """Another machine with the same home."""
    twin = lab.machine()
    shutil.copytree(machine.folder, twin.folder, ignore=shutil.ignore_patterns("run", "logs", "hosts"))
    return twin


def agent(machine: Machine) -> dict[str, Any]:
    (found,) = (
        each for each in control.ask(machine.home, "status", DEADLINE_S)["processes"] if each["name"] == "agent-b"
    )
    return dict(found)


def has_ended_for_good(machine: Machine) -> bool:
    told = agent(machine)
    return told["pid"] is None and told["last_end"] == "exit code 78"


def call_many(lab: Machines, name: str, count: int) -> None:
    python = str(Path(MOTES).with_name("python"))
    program = lab.keeper.inside(python, "-c", CALLS, name, str(count))
    done = subprocess.run(program, env=lab.keeper.environment, capture_output=True, text=True, timeout=DEADLINE_S)
    assert done.returncode == 0, done.stderr


def logged(lab: Machines) -> Counter[str]:
    """How often each call has begun, by the logs."""
    return runs("".join(line["text"] for line in lab.keeper.json("logs", "work", "--limit", "1000")))


def twins_told(lab: Machines) -> list[str]:
    return [event["detail"] for event in lab.keeper.json("events") if event["what"] == "host.twin"]


def test_of_a_host_and_its_copy_the_later_start_is_the_host_and_the_other_ends(lab: Machines) -> None:
    machine = joined(lab)
    call_many(lab, "before", 5)
    twin = copy_of(lab, machine)
    twin.motes("up")
    wait_until(lambda: has_ended_for_good(machine), "the earlier one has ended")
    call_many(lab, "after", 20)
    assert lab.state("b") == "up" and agent(twin)["pid"]
    wait_until(lambda: sum(logged(lab).values()) >= 25, "what they wrote has arrived")
    assert set(logged(lab).values()) == {1}
    assert len([each for each in lab.keeper.instances("single") if each["state"] != "ended"]) == 1
    assert "another agent is host 'b' now" in machine.home.log("agent-b").read_text()
    wait_until(lambda: twins_told(lab), "the keeper says so")
    assert "motes invite" in twins_told(lab)[0]
    # It stays so: nothing is given back and forth.
    boots = {event["pid"] for event in lab.keeper.json("events") if event["what"] == "host.up" and event["host"] == "b"}
    assert len(boots) == 2


def test_a_copy_whose_clock_is_behind_is_refused_and_the_host_goes_on(lab: Machines, tmp_path: Path) -> None:
    machine = joined(lab)
    twin = copy_of(lab, machine)
    change_programs(twin, tmp_path / "behind", CLOCK_OFF.format(seconds=-3600))
    told = twin.run("up")
    assert told.returncode == 0 or "agent-b" in told.stderr, told
    call_many(lab, "meanwhile", 20)
    wait_until(lambda: told.returncode != 0 or has_ended_for_good(twin), "the copy has ended")
    assert "another agent runs as host 'b'" in twin.home.log("agent-b").read_text()
    call_many(lab, "after", 20)
    wait_until(lambda: sum(logged(lab).values()) >= 40, "what they wrote has arrived")
    assert set(logged(lab).values()) == {1}
    assert agent(machine)["pid"] and agent(machine)["restarts"] == 0
    assert twins_told(lab)


def test_a_host_that_is_started_again_is_no_twin_of_itself(lab: Machines) -> None:
    machine = joined(lab)
    for _ in range(2):
        machine.wait_until_back("agent-b", machine.kill("agent-b"))
        lab.wait_for("b", "up")
        call_many(lab, "again", 3)
    assert twins_told(lab) == []
