"""A cluster of two hosts, one of which has another Python: who runs what, and calls from the one to the other."""

from __future__ import annotations

import asyncio
import platform
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.system.test_packages import header, only_index
from tests.wheels import make_wheel

from motes import connect
from system.other_python import ROOT, Version, environment_of, find_other, pins
from system.running import RunningCluster, wait_until

OWN: Version = sys.version_info[:2]
PYDANTIC = ("pydantic", "pydantic-core", "annotated-types", "typing-extensions", "typing-inspection")
VERSION = """
    import sys, time
    from motes import function

    @function
    def version() -> list[int]:
        return list(sys.version_info[:2])
"""


@pytest.fixture(scope="module")
def other() -> tuple[Version, Path]:
    """The other Python."""
    found = find_other()
    if found is None:
        pytest.skip("no other Python of 3.11 or later on this machine")
    return found


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory, other: tuple[Version, Path]) -> Iterator[RunningCluster]:
    """A cluster whose host `local` has this Python, and host `other` the other one."""
    with RunningCluster(tmp_path_factory.mktemp("mixed") / "home") as cluster:
        interpreter = environment_of(*other)
        cluster.up()
        cluster.motes("host", "start", "--name", "other", "--python", str(interpreter))
        yield cluster


@pytest.fixture(scope="module")
def index(other: tuple[Version, Path]) -> Path:
    """Wheels of pydantic for both Pythons, of which the compiled part is another file for each; kept between runs."""
    folder = Path(sys.prefix) / f"wheelhouse-{other[0][0]}.{other[0][1]}"
    wanted = pins(ROOT / "requirements" / "wheels.txt", PYDANTIC)
    if not (folder / "ready").exists() or (folder / "ready").read_text() != wanted:
        folder.mkdir(exist_ok=True)
        (folder / "pins.txt").write_text(wanted)
        options = "--quiet --disable-pip-version-check --no-deps --require-hashes --only-binary :all:"
        for major, minor in (OWN, other[0]):
            command = [
                sys.executable,
                "-m",
                "pip",
                "download",
                *options.split(),
                "--python-version",
                f"{major}.{minor}",
            ]
            subprocess.run([*command, "-d", str(folder), "-r", str(folder / "pins.txt")], check=True, timeout=600)
        (folder / "ready").write_text(wanted)
    return folder


def write(folder: Path, name: str, source: str, *requirements: str, python: str = "") -> str:
    file = folder / f"{name}.py"
    file.write_text(header(*requirements, python=python) + textwrap.dedent(source))
    return str(file)


def newer_and_older(other: Version) -> tuple[str, str]:
    """What only the newer, and what only the older of the two Pythons is, as `requires-python` says it."""
    edge = ".".join(map(str, max(OWN, other)))
    return f">={edge}", f"<{edge}"


def test_a_host_says_which_python_it_has_also_after_the_cluster_was_started_again(
    mixed: RunningCluster, other: tuple[Version, Path]
) -> None:
    def pythons() -> dict[str, list[str]]:
        return {each["name"]: each["python"].split(".")[:2] for each in mixed.json("host", "ls")}

    expected = {"local": list(map(str, OWN)), "other": list(map(str, other[0]))}
    assert pythons() == expected
    mixed.motes("down")
    mixed.up()
    assert pythons() == expected


def test_an_app_runs_only_where_its_python_is(
    mixed: RunningCluster, other: tuple[Version, Path], tmp_path: Path
) -> None:
    versions = sorted((OWN, other[0]), reverse=True)
    for name, python, version in zip(("newer", "older"), newer_and_older(other[0]), versions, strict=True):
        mixed.motes("deploy", write(tmp_path, name, VERSION, python=python))
        assert [mixed.json("call", f"{name}.version") for _ in range(4)] == [list(version)] * 4
        hosts = {each["host"] for each in mixed.json("ps") if each["app"] == name}
        assert hosts == {"local" if version == OWN else "other"}


def test_packages_come_for_both_and_each_host_uses_its_own(
    mixed: RunningCluster, other: tuple[Version, Path], tmp_path: Path, index: Path
) -> None:
    source = """
        import sys, time
        import pydantic_core
        from motes import function
        from pydantic import BaseModel

        class Point(BaseModel):
            x: int

        @function(idempotent=True)
        def compiled(pause_s: float) -> tuple[int, str, int]:
            time.sleep(pause_s)
            return sys.version_info[1], pydantic_core._pydantic_core.__file__, Point(x="3").x
    """
    with only_index(mixed, index):
        mixed.motes("deploy", write(tmp_path, "packed", source, "pydantic"))

    def answers() -> set[tuple[int, str, int]]:
        return {tuple(each) for each in calls_at_once(mixed, "packed.compiled", [0.3] * 30)}

    wait_until(lambda: {each[0] for each in answers()} == {OWN[1], other[0][1]}, "both hosts answer")
    for minor, file, x in answers():
        assert f"cpython-3{minor}-" in file and file.startswith("/wheels/") and x == 3
    for host in ("local", "other"):
        assert len([each for each in (mixed.home.host(host) / "layers").iterdir() if len(each.name) == 64]) == 1, host


def another_hours() -> str:
    hour = time.localtime().tm_hour
    return f"hours={(hour + 4) % 24}-{(hour + 8) % 24}"


@pytest.mark.parametrize("how", ["away", "drained"])
def test_a_host_that_lends_nothing_at_the_deploy_has_the_packages_when_it_lends_again(
    mixed: RunningCluster, other: tuple[Version, Path], tmp_path: Path, how: str
) -> None:
    make_wheel(tmp_path / "wheels", "purely")
    leave, back = {
        "away": (("lend", "--host", "other", another_hours()), ("lend", "--host", "other", "hours=default")),
        "drained": (("host", "drain", "other", "--wait"), ("host", "drain", "other", "--off")),
    }[how]
    mixed.motes(*leave)
    try:
        wait_until(lambda: mixed.hosts()["other"] == how)
        with only_index(mixed, tmp_path / "wheels"):
            source = f"import purely\n{textwrap.dedent(VERSION)}"
            done = mixed.run("deploy", write(tmp_path, how, source, "purely"))
            assert (done.returncode, done.stderr) == (0, ""), done
    finally:
        mixed.motes(*back)
    mixed.motes("host", "drain", "local", "--wait")
    try:
        wait_until(lambda: mixed.run("call", f"{how}.version").returncode == 0, "other serves it")
        assert mixed.json("call", f"{how}.version") == list(other[0])
    finally:
        mixed.motes("host", "drain", "local", "--off")


def test_a_kind_of_host_that_can_have_no_packages_is_named_also_where_nobody_looks_on(
    mixed: RunningCluster, other: tuple[Version, Path], tmp_path: Path
) -> None:
    own, others = (f"cp{major}{minor}" for major, minor in (OWN, other[0]))
    make_wheel(tmp_path / "wheels", "compiled", tag=f"{own}-{own}-manylinux_2_28_{platform.machine()}")
    with only_index(mixed, tmp_path / "wheels"):
        done = mixed.run(
            "deploy", write(tmp_path, "partly", f"import compiled\n{textwrap.dedent(VERSION)}", "compiled")
        )
    assert done.returncode == 0
    assert f"the app will not run on hosts of {others}-" in done.stderr and "compiled" in done.stderr, done


def test_where_no_host_is_up_an_app_with_packages_is_refused_in_one_line(mixed: RunningCluster, tmp_path: Path) -> None:
    make_wheel(tmp_path / "wheels", "purely")
    app = write(tmp_path, "nowhere", f"import purely\n{textwrap.dedent(VERSION)}", "purely")
    mixed.motes("lend", "--host", "other", another_hours())
    mixed.motes("host", "drain", "local", "--wait")
    try:
        wait_until(lambda: mixed.hosts() == {"local": "drained", "other": "away"})
        with only_index(mixed, tmp_path / "wheels"):
            assert "no host is up to load the app" in mixed.refusal(8, "deploy", app)
            mixed.motes("pause")
            assert "no host is up to load the app" in mixed.refusal(8, "deploy", app)
    finally:
        mixed.motes("resume")
        mixed.motes("lend", "--host", "other", "hours=default")
        mixed.motes("host", "drain", "local", "--off")
    wait_until(lambda: set(mixed.hosts().values()) == {"up"})


def calls_at_once(cluster: RunningCluster, address: str, arguments: list[Any]) -> list[Any]:
    async def call() -> list[Any]:
        async with connect(cluster.folder) as opened:
            return await asyncio.gather(*(opened.call(address, each) for each in arguments))

    return asyncio.run(call())


def test_functions_call_across_versions_both_ways(
    mixed: RunningCluster, other: tuple[Version, Path], tmp_path: Path
) -> None:
    source = """
        import sys
        from dataclasses import dataclass
        from motes import function, remote

        @dataclass
        class Seen:
            by: list[int]
            data: bytes

        @function
        def look(data: bytes) -> Seen:
            return Seen(list(sys.version_info[:2]), data * 2)

        @function(calls=["{peer}.look"])
        def ask(text: str) -> tuple[list[int], Seen]:
            return list(sys.version_info[:2]), Seen(**remote("{peer}.look").remote(text.encode()))
    """
    versions = dict(zip(("east", "west"), sorted((OWN, other[0]), reverse=True), strict=True))
    for name, peer, python in zip(("east", "west"), ("west", "east"), newer_and_older(other[0]), strict=True):
        mixed.motes("deploy", write(tmp_path, name, source.format(peer=peer), python=python))
    for name, peer in (("east", "west"), ("west", "east")):
        own, seen = mixed.json("call", f"{name}.ask", "Ada")
        assert (own, seen["by"]) == (list(versions[name]), list(versions[peer]))


def test_an_app_that_no_host_can_run_is_refused_and_told_what_there_is(
    mixed: RunningCluster, other: tuple[Version, Path], tmp_path: Path
) -> None:
    for requirements in ((), ("pydantic",)):
        told = mixed.run("deploy", write(tmp_path, "future", VERSION, *requirements, python=">=3.99"))
        assert told.returncode in (6, 7) and told.stdout == ""
        for words in ("Python >=3.99", *(f"Python {major}.{minor}." for major, minor in (OWN, other[0]))):
            assert words in told.stderr, told.stderr
        assert "motes host start --python" in told.stderr
    assert "future" not in {each["app"] for each in mixed.json("apps")}


def test_when_the_only_host_that_fits_has_gone_a_call_says_so_and_goes_on_when_it_is_back(
    mixed: RunningCluster, other: tuple[Version, Path], tmp_path: Path
) -> None:
    exact = ".".join(map(str, other[0]))
    mixed.motes("deploy", write(tmp_path, "only", VERSION, python=f"=={exact}.*"))
    mixed.motes("host", "stop", "--name", "other")
    told = mixed.run("call", "only.version")
    assert told.returncode == 7 and f"needs Python =={exact}.*; the hosts have Python" in told.stderr, told.stderr
    mixed.motes("host", "start", "--name", "other", "--python", str(environment_of(*other)))
    assert mixed.json("call", "only.version") == list(other[0])


def test_an_interpreter_that_cannot_be_a_hosts_is_refused_before_it_is_one(
    mixed: RunningCluster, other: tuple[Version, Path], tmp_path: Path
) -> None:
    old, mute = tmp_path / "old-python", tmp_path / "mute"
    old.write_text("#!/bin/sh\necho '{\"python\": [3, 10, 2]}'\n")
    mute.write_text("#!/bin/sh\necho no such version >&2\nexit 1\n")
    for each in (old, mute):
        each.chmod(0o755)
    for python, words in (
        (str(tmp_path / "nowhere"), "there is no such program"),
        (str(tmp_path), "there is no such program"),
        (str(old), "is Python 3.10.2; a host needs 3.11 or later"),
        (str(mute), "is no Python that answers: no such version"),
        (str(other[1]), f"install it there: {other[1]} -m pip install motes=="),
    ):
        assert words in mixed.refusal(3, "host", "start", "--name", "third", "--python", python)
    assert "third" not in mixed.home.offers()
    assert "motes host stop --name other" in mixed.refusal(
        3, "host", "start", "--name", "other", "--python", sys.executable
    )


def test_a_host_whose_python_has_gone_can_be_left_out(tmp_path: Path) -> None:
    with RunningCluster(tmp_path / "home") as cluster:
        cluster.up()
        offers = cluster.home.offers()
        cluster.home.write_json(cluster.home.hosts_file, {**offers, "gone": {**offers["local"], "python": "/nowhere"}})
        cluster.motes("down")
        assert "motes host stop --name gone" in cluster.refusal(8, "up", "--http", "127.0.0.1:0")
        cluster.motes("host", "stop", "--name", "gone")
        cluster.up()
