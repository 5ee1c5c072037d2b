"""A whole cluster on a machine that lacks a wall: what runs there, what is said of it, and what instances can do."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.space import masks

from system.people import People, with_people
from system.running import RunningCluster, wait_until

APP = """
import os, signal, time
from motes import function

@function(scale=(2, None))
def meet(name: str) -> dict:
    open("secret", "w").write(name)
    time.sleep(3)
    def attempt(work):
        try:
            return repr(work())
        except OSError as error:
            return "refused"
    found = {}
    beside = os.path.dirname(os.getcwd())
    for folder in ("/tmp", *(f"{beside}/{n}" for n in range(1, 30)), *(f"/tmp/{n}" for n in range(1, 30))):
        path = f"{folder}/secret"
        found[path] = attempt(lambda: open(path).read())
    others = [pid for pid in range(1, 40) if pid != os.getpid()]
    return {
        "pid": os.getpid(),
        "secrets": sorted(set(found.values()) - {"refused"}),
        "killed": [pid for pid in others if attempt(lambda: os.kill(pid, signal.SIGKILL)) != "refused"],
        "seen": [pid for pid in others if attempt(lambda: open(f"/proc/{pid}/status").read()) != "refused"],
    }
"""


class LackingCluster(RunningCluster):
    """One whose every process lacks something of the kernel."""

    lacks = "nothing"

    def command(self, *words: str) -> list[str]:
        return masks.command(self.lacks, *super().command(*words))


@pytest.fixture
def lacking(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[LackingCluster]:
    with LackingCluster(tmp_path / "home") as cluster:
        cluster.lacks = request.param
        cluster.up()
        yield cluster


SAID = {"nothing": "both", "Landlock": "namespaces only (no Landlock", "namespaces": "Landlock only (no namespaces"}


@pytest.mark.parametrize("lacking", ["nothing", "Landlock", "namespaces"], indirect=True)
def test_instances_that_meet_cannot_touch_each_other(lacking: LackingCluster) -> None:
    lacking.deploy("walls", APP)
    log = lacking.home.log("agent-local").read_text()
    assert f"the walls of process spaces here: {SAID[lacking.lacks]}" in log
    wait_until(lambda: [each["state"] for each in lacking.instances("meet")] == ["idle"] * 2, "both wait")
    told: list[Any] = []

    async def meet(people: People) -> None:
        owner = await people.program("local")
        told.extend(await asyncio.gather(*(owner.call("walls.meet", name) for name in ("Ada", "Bob"))))

    with_people(lacking, meet)
    assert told[0]["pid"] != told[1]["pid"], "one instance served both"
    assert [each["secrets"] for each in told] == [["'Ada'"], ["'Bob'"]]
    assert [(each["killed"], each["seen"]) for each in told] == [([], [])] * 2


@pytest.mark.parametrize("lacking", ["namespaces"], indirect=True)
def test_without_namespaces_there_are_functions_and_scripts_and_daemons_are_refused(lacking: LackingCluster) -> None:
    file = lacking.folder.parent / "walls.py"
    file.write_text("import sys\nprint(sys.stdin.read(), __file__.rpartition('/')[2], sys.argv[1:])\n")
    done = lacking.run("run", str(file), "one", stdin="read")
    assert (done.returncode, done.stdout) == (0, "read walls.py ['one']\n"), done
    done = lacking.run("run", "--processes", "4", str(file))
    assert done.returncode == 7 and "no namespaces" in done.stderr and "`motes doctor`" in done.stderr, done
    done = lacking.run("deploy", str(file), "--cmd", "python walls.py")
    assert done.returncode == 7 and "no daemons" in done.stderr, done
    (host,) = json.loads(lacking.run("host", "ls", "--json").stdout)
    assert host["walls"] == "Landlock only"
    file.write_text("from motes import function\n@function\ndef fail(n: int) -> int: return 1 // n\n")
    assert lacking.run("deploy", str(file)).returncode == 0
    assert lacking.run("call", "walls.fail", "1").stdout == "1\n"
    done = lacking.run("call", "walls.fail", "0")
    assert 'File "walls.py", line 3, in fail' in done.stderr and "motes-space" not in done.stderr, done


@pytest.mark.parametrize("lacking", ["space"], indirect=True)
def test_where_no_space_can_be_made_the_refusal_says_why_and_what_to_do(lacking: LackingCluster) -> None:
    file = lacking.folder.parent / "walls.py"
    file.write_text("from motes import function\n@function\ndef fine() -> int: return 1\n")
    done = lacking.run("deploy", str(file))
    assert done.returncode == 7, done
    assert (
        "no bubblewrap works here" in done.stderr
        and "there is no Landlock" in done.stderr
        and "`motes doctor`" in done.stderr
    )
    done = lacking.run("run", str(file))
    assert done.returncode == 7 and "`motes doctor`" in done.stderr, done


def test_the_doctor_says_which_walls_stand_and_what_mends_the_other(tmp_path: Path) -> None:
    cluster = LackingCluster(tmp_path / "home")
    seen = {}
    for cluster.lacks in ("Landlock", "namespaces", "both", "space"):
        done = cluster.run("doctor", "--json")
        seen[cluster.lacks] = (done.returncode, {each["name"]: each for each in json.loads(done.stdout)["checks"]})
    code, checks = seen["Landlock"]
    assert code == 0 and checks["walls"]["detail"].startswith("namespaces only; for your own code only. Weaker: ")
    assert "CONFIG_SECURITY_LANDLOCK" in checks["Landlock"]["mend"] and checks["function"]["works"]
    code, checks = seen["namespaces"]
    assert code == 0 and checks["walls"]["detail"].startswith("Landlock only; for your own code only. Weaker: ")
    assert checks["user namespaces"]["mend"] and not checks["user namespaces"]["works"]
    assert checks["no network"]["works"] and checks["process space"]["works"] and checks["function"]["works"]
    code, checks = seen["space"]
    assert code == 1 and checks["user namespaces"]["mend"] and "walls" not in checks
    code, checks = seen["both"]
    assert code == 1 and not checks["function"]["works"] and "no Landlock, and no" in checks["function"]["detail"]
