"""Machines are cut off for longer than their answers are kept: work moves, and nothing that may run once runs twice."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

import pytest

from lab.harm import End
from system.machines import KINDS, Machines, machines
from system.running import DEADLINE_S, wait_until

CUT_S = float(os.environ.get("MOTES_LONG_CUT_S", "75"))
"""Longer than agents keep answers (agent/sending.py). With 600 it is the cut of ten minutes."""
APP = """
    import time
    from motes import function

    @function(idle="20 min", timeout="20 min")
    def once(name: str, seconds: float) -> str:
        print("began", name, flush=True)
        time.sleep(seconds)
        return name

    @function(scale=(1, 1))
    def single() -> int:
        return 1
"""


def runs(lab: Machines, app: str) -> list[str]:
    """The calls that began, as the function itself wrote."""
    return [line["text"].split()[1] for line in lab.keeper.json("logs", app) if line["text"].startswith("began ")]


def begin(lab: Machines, app: str, seconds: float) -> subprocess.Popen[str]:
    call = lab.keeper.start("call", f"{app}.once", "name=early", f"seconds={seconds}", "--timeout", "1000")
    wait_until(lambda: runs(lab, app) == ["early"], f"{app} runs")
    return call


def hosts_of(lab: Machines, app: str) -> list[str]:
    found = [each for each in lab.keeper.instances("single") if each["app"] == app]
    return [each["host"] for each in found if each["state"] in ("idle", "busy", "starting")]


@pytest.mark.timeout(CUT_S + 300)
@pytest.mark.parametrize("kind", KINDS)
def test_what_ran_on_machines_that_are_cut_off_for_long_ends_in_an_error_and_moves(kind: str, tmp_path: Path) -> None:
    with machines(kind, tmp_path) as lab:
        ways: dict[str, End | None] = {"a": None, "b": "keeper", "c": "machine"}
        cut = {name: lab.join(name) for name in ways}
        lab.keeper.motes("host", "stop", "--name", "local")
        for name in ways:
            lab.keeper.motes("host", "name", name, name)
            lab.keeper.deploy(f"work-{name}", APP.replace('idle="20 min"', f'idle="20 min", place="named:{name}"'))
        calls = {name: begin(lab, f"work-{name}", CUT_S / 3) for name in ways}
        lab.keeper.motes("host", "start", "--name", "local")
        began_at = time.monotonic()
        for name, towards in ways.items():
            lab.line(cut[name]).cut(towards)
        for call in calls.values():
            out, err = call.communicate(timeout=DEADLINE_S)
            assert (out, call.returncode) == ("", 7) and "whether it ran is unknown" in err
        for name in ways:
            wait_until(lambda name=name: hosts_of(lab, f"work-{name}") == ["local"], f"the work of {name} has moved")
        time.sleep(max(0.0, began_at + CUT_S - time.monotonic()))
        for name in ways:
            lab.mend(cut[name])
        for name in ways:
            lab.wait_for(name, "up")
            wait_until(lambda name=name: len(hosts_of(lab, f"work-{name}")) == 1, f"one single of {name} is left")
            again = lab.keeper.motes("call", f"work-{name}.once", "name=late", "seconds=0", "--timeout", "50")
            assert again == '"late"\n'
            wait_until(lambda name=name: "late" in runs(lab, f"work-{name}"), "what it wrote has arrived")
            assert runs(lab, f"work-{name}") == ["early", "late"]
