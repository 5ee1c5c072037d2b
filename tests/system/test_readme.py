"""The README's examples, run as they stand in the file; only the port is that of this test's cluster."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from system.running import DEADLINE_S, MOTES, RunningCluster, wait_until

README = (Path(__file__).parents[2] / "README.md").read_text()
FIRST_MINUTES = README.partition("## The first minutes")[2].partition("\n## ")[0]
NOT_HERE = ("pip install", "make ")
"""What fetches from a package registry, or runs these tests."""


class Step(NamedTuple):
    """A line that a user types, and what the README says that it prints."""

    typed: str
    shown: str


def steps() -> list[Step]:
    """Every line after a `$`, without its remark, one for each command of a line."""
    found = []
    for typed, shown in re.findall(r"^    \$ (.*)\n((?:    [^$\n].*\n)*)", FIRST_MINUTES, re.MULTILINE):
        *first, last = re.sub(r"\s{2,}#.*", "", typed).split(" ; ")
        expected = "".join(line.removeprefix("    ") for line in shown.splitlines(keepends=True))
        found += [*(Step(each, "") for each in first), Step(last, expected)]
    return [step for step in found if not step.typed.startswith(NOT_HERE)]


def python_examples() -> list[str]:
    return re.findall(r"```python\n(.*?)```", FIRST_MINUTES, re.DOTALL)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """What the README takes for granted: its own first example, a site, a script and some data."""
    declared = python_examples()[0]
    name = re.match(r"# (\w+\.py)\n", declared)
    assert name is not None
    (tmp_path / name[1]).write_text(declared)
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "index.html").write_text("a page\n")
    (tmp_path / "job.py").write_text("print(input().upper())\n")
    (tmp_path / "data").write_text("some data\n")
    return tmp_path


@pytest.fixture
def cluster(folder: Path) -> Iterator[RunningCluster]:
    with RunningCluster(folder / "home") as cluster:
        cluster.environment |= {"PATH": f"{Path(MOTES).parent}:{os.environ['PATH']}", "TMPDIR": str(folder)}
        yield cluster


def shell(cluster: RunningCluster, folder: Path, typed: str) -> str:
    """What a shell prints for the line; it must succeed."""
    done = subprocess.run(
        ["bash", "-c", typed], cwd=folder, env=cluster.environment, capture_output=True, text=True, timeout=DEADLINE_S
    )
    assert done.returncode == 0, (typed, done)
    return done.stdout


@contextlib.contextmanager
def in_the_foreground(cluster: RunningCluster, folder: Path, typed: str) -> Iterator[Path]:
    """A command that goes on until Ctrl-C; gives the file with what it prints."""
    printed = folder / "printed"
    with printed.open("w") as file:
        process = subprocess.Popen(
            typed.split(), executable=MOTES, cwd=folder, env=cluster.environment, stdout=file, stderr=file
        )
    try:
        yield printed
        process.send_signal(signal.SIGINT)
        assert process.wait(DEADLINE_S) == 0, printed.read_text()
    finally:
        process.kill()
        process.wait()


def test_the_first_minutes_go_as_the_readme_says(cluster: RunningCluster, folder: Path) -> None:
    typed = [step.typed for step in steps()]
    assert {"motes dev hello.py", "motes up", "motes deploy hello.py", "motes run job.py < data"} <= set(typed)
    port = ""
    with contextlib.ExitStack() as until_up:
        for step in steps():
            line = step.typed.replace(":8080", f":{port}") if port else step.typed
            if step.typed.startswith("motes dev"):
                printed = until_up.enter_context(in_the_foreground(cluster, folder, line))
                wait_until(lambda printed=printed: "curl " in printed.read_text(), step.typed)  # type: ignore[misc]
                port = port_in(printed.read_text())
            elif step.typed == "motes up":
                until_up.close()
                port = port_in(shell(cluster, folder, "motes up --http 127.0.0.1:0"))
            elif step.typed.endswith(" -f"):
                with in_the_foreground(cluster, folder, line) as printed:
                    wait_until(lambda printed=printed: printed.read_text())  # type: ignore[misc]
            else:
                told = shell(cluster, folder, line)
                assert step.shown.strip() in told, step


def port_in(text: str) -> str:
    found = re.search(r"http://127\.0\.0\.1:(\d+)", text)
    assert found is not None, text
    return found[1]


def test_a_declared_function_goes_as_the_readme_says(cluster: RunningCluster, folder: Path) -> None:
    cluster.up()
    shell(cluster, folder, "motes deploy hello.py")
    *lines, last = python_examples()[1].strip().splitlines()
    calls = [line for line in [*lines, last] if line.partition("#")[0].strip() and not line.startswith("from ")]
    imports = [line for line in lines if line.startswith("from ")]
    program = ["import json", *imports, *(f"print(json.dumps({call.partition('#')[0].strip()}))" for call in calls)]
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(program)],
        cwd=folder,
        env=cluster.environment,
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
    )
    assert [json.loads(line) for line in done.stdout.splitlines()] == [
        "hello, Ada",
        "hello, Ada",
        ["hello, Ada", "hello, Grace"],
    ], done
