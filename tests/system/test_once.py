"""A machine is cut off at random: what may run only once never runs twice, and nothing is lost unsaid."""

from __future__ import annotations

import json
import random
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from system.machines import KINDS, Machines, machines
from system.programs import WITNESS, change_programs
from system.running import DEADLINE_S, MOTES, wait_until
from system.single_runs import app, runs

CALLS = """
import asyncio, json, random, sys
from motes import connect
from motes.errors import MotesError

async def main():
    outcomes = {}

    async def call(cluster, name):
        try:
            outcomes[name] = await cluster.call("work.once", name, timeout_s=45)
        except MotesError as error:
            outcomes[name] = error.code

    async with connect() as cluster:
        tasks = []
        for number in range(int(sys.argv[1])):
            tasks.append(asyncio.create_task(call(cluster, f"call{number}")))
            await asyncio.sleep(0.07)
        await asyncio.gather(*tasks)
    print(json.dumps(outcomes))

asyncio.run(main())
"""
CALLS_MADE = 300
SERVE = """
import http.server
http.server.HTTPServer(("127.0.0.1", 8000), http.server.SimpleHTTPRequestHandler).serve_forever()
"""


@pytest.fixture(params=KINDS)
def lab(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Machines]:
    with machines(request.param, tmp_path) as made:
        far = made.join("far")
        for name, machine in (("keeper", made.keeper), ("far", far)):
            change_programs(
                machine, tmp_path / f"{name}-programs", WITNESS.format(path=str(tmp_path / f"{name}-wrote"))
            )
            machine.down()
            machine.motes("up", "--http", "127.0.0.1:0")
        made.wait_for("far", "up")
        made.keeper.deploy("work", app(pause_s=0.2))
        yield made


def test_nothing_runs_twice_that_may_run_only_once_whenever_a_machine_is_cut_off(lab: Machines, tmp_path: Path) -> None:
    (far,) = lab.machines
    folder = tmp_path / "page"
    folder.mkdir()
    (folder / "serve.py").write_text(SERVE)
    lab.keeper.motes("deploy", str(folder), "--cmd", "python serve.py", "--port", "8000")
    seed = random.randrange(10**6)
    print(f"seed {seed}")
    chance = random.Random(seed)
    python = str(Path(MOTES).with_name("python"))
    caller = subprocess.Popen(
        lab.keeper.inside(python, "-c", CALLS, str(CALLS_MADE)),
        env=lab.keeper.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    while caller.poll() is None and len(lab.keeper.instances("once")) == 0:
        time.sleep(0.1)
    for _ in range(5):
        time.sleep(chance.uniform(0.5, 2.0))
        lab.line(far).cut(chance.choice((None, "keeper", "machine")))
        time.sleep(chance.choice((0.3, 1.5, 4.0)))
        lab.mend(far)
    out, err = caller.communicate(timeout=DEADLINE_S)
    outcomes: dict[str, str] = json.loads(out or "{}")
    assert len(outcomes) == CALLS_MADE, err
    lab.wait_for("far", "up")
    answered = {name for name, outcome in outcomes.items() if outcome == name}
    unknown = {name: outcome for name, outcome in outcomes.items() if outcome != name}
    assert set(unknown.values()) <= {"host_lost"}, unknown
    # Calls before, in and after each cut were answered: few are not.
    assert len(answered) > CALLS_MADE // 2
    written = runs("\n".join(file.read_text() for file in tmp_path.glob("*-wrote")))
    assert {name: count for name, count in written.items() if count != 1} == {}
    assert answered <= written.keys()
    for workload in ("single", "main"):
        wait_until(lambda workload=workload: len(lab.keeper.living(workload)) == 1, f"one {workload} is left")
