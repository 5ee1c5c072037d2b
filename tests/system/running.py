"""A real cluster in a folder of its own, started and stopped as a user does it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Self

from motes.grants import jwt, keys, roles
from motes.home import Home
from motes.supervisor import control, founding
from ports import free_port

MOTES = str(Path(sys.executable).with_name("motes"))
DEADLINE_S = 60.0


class RunningCluster:
    """The cluster whose home is `folder`; as a context it is not started, but stopped at the end."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.home = Home(folder)
        self.environment = {**os.environ, "MOTES_HOME": str(folder)}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.down()

    def command(self, *words: str) -> list[str]:
        """A `motes` command there."""
        return [MOTES, *words]

    def run(
        self, *words: str, stdin: str | None = None, timeout_s: float = DEADLINE_S
    ) -> subprocess.CompletedProcess[str]:
        """A `motes` command, whatever its exit code."""
        command = self.command(*words)
        return subprocess.run(
            command, env=self.environment, input=stdin, capture_output=True, text=True, timeout=timeout_s
        )

    def start(self, *words: str, **environment: str) -> subprocess.Popen[str]:
        """A `motes` command that goes on beside."""
        environment = {**self.environment, **environment}
        command = self.command(*words)
        return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def motes(self, *words: str, stdin: str | None = None) -> str:
        """What a `motes` command prints; it must succeed."""
        done = self.run(*words, stdin=stdin)
        assert done.returncode == 0, f"motes {' '.join(words)}: exit {done.returncode}\n{done.stdout}{done.stderr}"
        return done.stdout

    def json(self, *words: str) -> Any:
        return json.loads(self.motes(*words, "--json"))

    def refusal(self, code: int, *words: str, stdin: str | None = None) -> str:
        """The one line that a `motes` command says when it fails; it may be preceded by what the app itself said."""
        done = self.run(*words, stdin=stdin)
        assert (done.returncode, done.stdout) == (code, ""), (words, done)
        lines = done.stderr.splitlines()
        assert [line for line in lines if line.startswith("motes: ")] == lines[-1:], done.stderr
        assert "site-packages" not in done.stderr, done.stderr
        return lines[-1]

    def up(self) -> dict[str, Any]:
        facts = self.json("up", "--http", "127.0.0.1:0")
        assert isinstance(facts, dict)
        return facts

    def down(self) -> None:
        self.run("down")

    def deploy(self, name: str, source: str) -> None:
        """Deploy `source` as the app `name`."""
        file = self.folder.parent / f"{name}.py"
        file.write_text(textwrap.dedent(source))
        self.motes("deploy", str(file))

    def make_keys(self, *wanted: roles.Role) -> None:
        """For users of whom nobody knows here, as the account's key lets it."""
        account = keys.load_or_create(self.home.key("account"))
        for role in wanted:
            self.home.save_credentials(jwt.credentials(account, role))

    def pid(self, process: str) -> int:
        """The process of that name in the supervisor's list, for example `agent-local`."""
        for each in control.ask(self.home, "status", DEADLINE_S)["processes"]:
            if each["name"] == process and each["pid"]:
                return int(each["pid"])
        raise LookupError(process)

    def kill(self, process: str, number: signal.Signals = signal.SIGKILL) -> int:
        """Send a signal to a process of the cluster; returns its pid."""
        pid = self.pid(process)
        os.kill(pid, number)
        return pid

    def wait_until_back(self, process: str, before: int) -> None:
        """Until the process that had the pid `before` has been started again."""

        def is_back() -> bool:
            with contextlib.suppress(LookupError):
                return self.pid(process) != before
            return False

        wait_until(is_back, f"{process} is back")

    @contextlib.contextmanager
    def foreign_host(self, name: str, environment: dict[str, str]) -> Iterator[None]:
        """A host `name` whose agent has another environment than the cluster."""
        founding.admit_host(self.home, name)
        offers = self.home.offers()
        self.home.write_json(self.home.hosts_file, {**offers, name: founding.default_offer()})
        command = [sys.executable, "-m", "motes.agent", "--home", str(self.folder), "--name", name]
        agent = subprocess.Popen(command, env={**self.environment, **environment})
        try:
            wait_until(lambda: name in {each["name"] for each in self.json("host", "ls")}, f"host {name} is up")
            yield
        finally:
            agent.terminate()
            agent.wait(DEADLINE_S)
            self.home.write_json(self.home.hosts_file, offers)

    def hosts(self) -> dict[str, str]:
        """Their states."""
        return {host["name"]: host["state"] for host in self.json("host", "ls")}

    def invite(self, *words: str) -> str:
        return str(self.json("invite", *words)["invite"])

    def join(self, keeper: RunningCluster, name: str, *more: str) -> None:
        """Be the host `name` of that cluster."""
        self.motes("join", keeper.invite(), "--name", name, *more)
        wait_until(lambda: keeper.hosts().get(name) == "up", f"{name} is up")

    def instances(self, workload: str | None = None) -> list[dict[str, Any]]:
        return [each for each in self.json("ps") if workload in (None, each["workload"])]

    def living(self, workload: str) -> list[str]:
        """The hosts of the workload's instances that have not ended."""
        return [each["host"] for each in self.instances(workload) if each["state"] in ("idle", "busy", "starting")]


class Keeper(RunningCluster):
    """One that other machines may join."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.port = free_port()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def listen(self) -> None:
        self.motes("up", "--http", "127.0.0.1:0", "--listen", self.address)


class Away(RunningCluster):
    """A machine that has nothing but what it is given: no home, no settings."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        folder.mkdir()
        ours = ("MOTES_", "XDG_")
        self.environment = {name: text for name, text in os.environ.items() if not name.startswith(ours)}
        self.environment["HOME"] = str(folder)
        self.settings = folder / ".config" / "motes"

    def context(self, name: str) -> Path:
        return self.settings / "contexts" / name


def wait_until(true: Callable[[], object], what: str = "") -> None:
    """Until it is so; fails after DEADLINE_S."""
    deadline = time.monotonic() + DEADLINE_S
    while not true():
        assert time.monotonic() < deadline, f"never: {what or true}"
        time.sleep(0.02)


def family(pid: int) -> list[int]:
    """A process and every one below it, parents first."""
    found = [pid]
    for parent in found:
        with contextlib.suppress(OSError):
            for task in Path(f"/proc/{parent}/task").iterdir():
                found += map(int, (task / "children").read_text().split())
    return found


def is_alive(pid: int) -> bool:
    """Whether the process runs; one that has ended and was not waited for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
