"""Machines between which a keeper moves: what a user types on each, and what may be killed meanwhile."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from motes.errors import MotesError
from motes.supervisor import control
from system.running import DEADLINE_S, Keeper

APP = """
    import os, time
    from motes import function

    @function(idempotent=True)
    def where() -> str:
        return os.environ["HOME"]

    @function(idempotent=True)
    def double(number: int) -> int:
        return 2 * number
"""


class Machine(Keeper):
    """One that may be the keeper."""

    prefix: tuple[str, ...] = ()
    """What comes before each command, to have it run elsewhere."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.waiting: subprocess.Popen[str] | None = None

    def command(self, *words: str) -> list[str]:
        return [*self.prefix, *super().command(*words)]

    def accept(self, *more: str, **environment: str) -> str:
        """Begin to wait to be the keeper; the line for the other."""
        words = ("keeper", "accept", "--listen", self.address, "--http", "127.0.0.1:0", "--json", *more)
        self.waiting = self.start(*words, **environment)
        assert self.waiting.stdout is not None and self.waiting.stderr is not None
        told = self.waiting.stdout.readline()
        assert told, self.waiting.stderr.read()
        return str(json.loads(told)["line"])

    def become(self) -> dict[str, Any]:
        """Until it is the keeper."""
        assert self.waiting is not None
        out, err = self.waiting.communicate(timeout=DEADLINE_S)
        assert self.waiting.returncode == 0, (out, err)
        self.waiting = None
        return dict(json.loads(out))

    def stop_waiting(self) -> int:
        """As by Ctrl-C; or it has been killed."""
        assert self.waiting is not None
        with contextlib.suppress(ProcessLookupError):
            self.waiting.send_signal(signal.SIGINT)
        self.waiting.communicate(timeout=DEADLINE_S)
        code, self.waiting = self.waiting.returncode, None
        return int(code)

    def begin_move(self, host: str, line: str, **environment: str) -> subprocess.Popen[str]:
        return self.start("keeper", "move", host, line, "--json", **environment)

    def move(self, host: str, line: str, **environment: str) -> subprocess.CompletedProcess[str]:
        moving = self.begin_move(host, line, **environment)
        try:
            out, err = moving.communicate(timeout=DEADLINE_S)
        finally:
            moving.kill()
        return subprocess.CompletedProcess(moving.args, moving.returncode, out, err)

    @property
    def is_keeper(self) -> bool:
        """By its own files, and by what runs."""
        with contextlib.suppress(MotesError):
            running = control.ask(self.home, "status", DEADLINE_S)["processes"]
            is_there = {each["name"] for each in running if each["state"] == "running"} >= {"nats-server", "controller"}
            return is_there and not self.home.keeper_file.exists()
        return False

    def is_up(self, host: str) -> bool:
        done = self.run("host", "ls", "--json")
        hosts = json.loads(done.stdout) if done.returncode == 0 else []
        return host in {each["name"] for each in hosts if each["state"] == "up"}

    def close(self) -> None:
        if self.waiting is not None:
            self.waiting.kill()
            self.waiting.communicate()
        self.down()


@contextlib.contextmanager
def machines(folder: Path, *names: str) -> Iterator[list[Machine]]:
    """The first is the keeper; the others have joined by their names."""
    made = [Machine(folder / name) for name in names]
    keeper, *others = made
    try:
        keeper.listen()
        for each in others:
            each.join(keeper, each.folder.name)
        yield made
    finally:
        for each in reversed(made):
            each.close()


def killed_at(folder: Path, point: str) -> dict[str, str]:
    """The environment of a program that is killed, once, when it is about to call `module:function`."""
    return {
        "PYTHONPATH": str(Path(__file__).parent / "killing"),
        "MOTES_TEST_KILL": point,
        "MOTES_TEST_KILLED": str(folder / "killed"),
    }


def stopped_at(folder: Path, point: str) -> dict[str, str]:
    """The same for one that stands still there, until it is sent SIGCONT."""
    return {**killed_at(folder, point), "MOTES_TEST_SIGNAL": "SIGSTOP"}


def has_secrets(machine: Machine) -> bool:
    """Whether any of the keys is there that only a keeper has."""
    names = ("operator", "system", "account", "controller")
    keys = [machine.home.key(name) for name in names]
    arrived = [path for path in machine.home.arriving.rglob("*.seed")] if machine.home.arriving.exists() else []
    return bool(arrived) or any(key.exists() for key in keys)
