"""Machines of their own: network namespaces with one wire between each and the keeper's, which a test may cut."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from system.running import DEADLINE_S, MOTES, RunningCluster

KEEPER_ADDRESS = "10.77.0.1"
needs_namespaces = pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("ip") is None, reason="network namespaces need root and iproute2"
)


def ip(*words: str) -> None:
    done = subprocess.run(["ip", *words], capture_output=True, text=True, timeout=DEADLINE_S)
    assert done.returncode == 0, (words, done.stderr)


class Machine(RunningCluster):
    """A home whose commands, and all that they start, run in a network namespace."""

    def __init__(self, folder: Path, namespace: str) -> None:
        super().__init__(folder)
        self.namespace = namespace

    def run(self, *words: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["ip", "netns", "exec", self.namespace, MOTES, *words],
            env=self.environment,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=DEADLINE_S,
        )


class Network:
    """The keeper's machine, and others on wires to it. They share a bridge in the keeper's namespace."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._count = 0
        self._name = f"motes{os.getpid()}"
        self.keeper = Machine(folder / "keeper", self._namespace("k"))
        ip("-n", self.keeper.namespace, "link", "add", "bridge", "type", "bridge")
        ip("-n", self.keeper.namespace, "addr", "add", f"{KEEPER_ADDRESS}/24", "dev", "bridge")
        ip("-n", self.keeper.namespace, "link", "set", "bridge", "up")
        self.machines: list[Machine] = []

    def _namespace(self, end: str) -> str:
        name = f"{self._name}{end}"
        ip("netns", "add", name)
        ip("-n", name, "link", "set", "lo", "up")
        return name

    def machine(self) -> Machine:
        """One more, which reaches the keeper and nobody else."""
        self._count += 1
        found = Machine(self._folder / f"machine{self._count}", self._namespace(str(self._count)))
        self.machines.append(found)
        wire = self._wire(found)
        ip(
            "-n",
            self.keeper.namespace,
            "link",
            "add",
            wire,
            "type",
            "veth",
            "peer",
            "name",
            "wire",
            "netns",
            found.namespace,
        )
        ip("-n", self.keeper.namespace, "link", "set", wire, "master", "bridge", "up")
        ip("-n", found.namespace, "addr", "add", f"10.77.0.{self._count + 1}/24", "dev", "wire")
        ip("-n", found.namespace, "link", "set", "wire", "up")
        return found

    def _wire(self, machine: Machine) -> str:
        return f"wire{self.machines.index(machine) + 1}"

    def cut(self, machine: Machine) -> None:
        """Nothing passes any more, and nobody is told."""
        ip("-n", self.keeper.namespace, "link", "set", self._wire(machine), "down")

    def mend(self, machine: Machine) -> None:
        """Everything passes again."""
        ip("-n", self.keeper.namespace, "link", "set", self._wire(machine), "up")

    def close(self) -> None:
        for each in (*self.machines, self.keeper):
            each.down()
            ip("netns", "delete", each.namespace)


@contextlib.contextmanager
def network(folder: Path) -> Iterator[Network]:
    """A keeper that listens, and whatever the test adds."""
    made = Network(folder)
    try:
        made.keeper.motes("up", "--http", "127.0.0.1:0", "--listen", "0.0.0.0")
        yield made
    finally:
        made.close()
