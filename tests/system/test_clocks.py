"""A machine whose clock is off by an hour lends like any other, and what it tells has the keeper's time."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from system.machines import KINDS, Machines, machines
from system.programs import CLOCK_OFF, change_programs
from system.running import wait_until

APP = """
    from motes import function

    @function
    def say(word: str) -> str:
        print(word, flush=True)
        return word
"""
NEAR_S = 300.0


@pytest.fixture(params=KINDS)
def lab(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Machines]:
    with machines(request.param, tmp_path) as made:
        yield made


@pytest.mark.parametrize("seconds", [3600, -3600])
def test_a_machine_whose_clock_is_off_joins_serves_and_tells_the_keepers_time(
    lab: Machines, tmp_path: Path, seconds: int
) -> None:
    machine = lab.machine()
    change_programs(machine, tmp_path / "clock", CLOCK_OFF.format(seconds=seconds))
    machine.motes("join", lab.invite(machine), "--name", "b")
    lab.wait_for("b", "up")
    lab.keeper.motes("host", "stop", "--name", "local")
    lab.keeper.deploy("work", APP)
    began = time.time()
    assert lab.keeper.json("call", "work.say", "hello") == "hello"
    wait_until(lambda: lab.keeper.json("logs", "work"), "what it wrote has arrived")
    (line,) = lab.keeper.json("logs", "work")
    assert abs(line["at"] - began) < NEAR_S
    starts = [event for event in lab.keeper.json("events") if event["what"] == "instance.start"]
    assert starts and all(abs(event["at"] - began) < NEAR_S for event in starts)
    (instance,) = lab.keeper.instances()
    assert abs(instance["started_at"] - began) < NEAR_S
    # Started again, once with the clock set right meanwhile: whichever start has the smaller number, the last is it.
    for code in ("", CLOCK_OFF.format(seconds=seconds), CLOCK_OFF.format(seconds=-seconds)):
        change_programs(machine, tmp_path / "clock", code)
        machine.wait_until_back("agent-b", machine.kill("agent-b"))
        wait_until(lambda: lab.keeper.run("call", "work.say", "again", "--timeout", "5").returncode == 0, "it serves")
    assert not [event for event in lab.keeper.json("events") if event["what"] == "host.twin"]
