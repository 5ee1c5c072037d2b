"""Machines of their own: each has a home, and a line to the keeper which a test may harm.

As root they are network namespaces with cables (`network`); elsewhere homes on this machine that reach the keeper
through a cutting proxy (`proxied`). Both kinds are used alike.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab import namespaces
from lab.harm import Line
from lab.lan import KEEPER_ADDRESS as KEEPER_ADDRESS
from lab.lan import Lan
from lab.proxy import Proxy
from motes.model import invite as invites
from motes.supervisor import control
from ports import free_port
from system.running import DEADLINE_S, MOTES, RunningCluster, family, wait_until

needs_namespaces = pytest.mark.skipif(namespaces.why_not() != "", reason=namespaces.why_not())
KINDS = [pytest.param("namespaces", marks=needs_namespaces), "proxies"]


class Machine(RunningCluster):
    """A home whose commands, and all that they start, run in a network namespace, if it has one."""

    def __init__(self, folder: Path, namespace: str = "") -> None:
        super().__init__(folder)
        self.namespace = namespace
        self._frozen: list[int] = []

    def command(self, *words: str) -> list[str]:
        return self.inside(MOTES, *words)

    def inside(self, *words: str) -> list[str]:
        """A command of any kind there."""
        return [*(["ip", "netns", "exec", self.namespace] if self.namespace else []), *words]

    def freeze(self) -> None:
        """Everything that runs there stands still, until `thaw`."""
        self._frozen = self.processes()
        for pid in self._frozen:
            os.kill(pid, signal.SIGSTOP)

    def thaw(self) -> None:
        for pid in reversed(self._frozen):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
        self._frozen = []

    def vanish(self) -> None:
        """Everything that runs there ends at once, as when the plug is pulled."""
        for pid in self.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def processes(self) -> list[int]:
        """Of all that runs there, parents first."""
        return family(int(control.ask(self.home, "status", DEADLINE_S)["pid"]))


class Machines:
    """A keeper that listens, and machines that have joined it."""

    keeper: Machine
    machines: list[Machine]

    def machine(self) -> Machine:
        """One more, which reaches the keeper and nobody else."""
        raise NotImplementedError

    def line(self, machine: Machine) -> Line:
        """What is between it and the keeper."""
        raise NotImplementedError

    def invite(self, machine: Machine) -> str:
        """One with which that machine finds the keeper."""
        return self.keeper.invite()

    def join(self, name: str) -> Machine:
        """One more machine, as the host `name`."""
        machine = self.machine()
        machine.motes("join", self.invite(machine), "--name", name)
        wait_until(lambda: self.state(name) == "up", f"{name} is up")
        return machine

    def state(self, name: str) -> str:
        """Of a host, as the keeper sees it."""
        return self.keeper.hosts().get(name, "gone")

    def wait_for(self, name: str, *states: str) -> None:
        wait_until(lambda: self.state(name) in states, f"{name} is {' or '.join(states)}")

    def cut(self, machine: Machine) -> None:
        """Nothing passes any more, and nobody is told."""
        self.line(machine).cut()

    def mend(self, machine: Machine) -> None:
        """Everything passes again."""
        self.line(machine).mend()

    def close(self) -> None:
        for each in self.machines:
            self.line(each).mend()
        for each in (*self.machines, self.keeper):
            each.down()


class Network(Machines):
    """Machines in network namespaces. They share a bridge in the keeper's."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lan = Lan()
        self.keeper = Machine(folder / "keeper", self._lan.keeper)
        self.machines = []

    def machine(self) -> Machine:
        found = Machine(self._folder / f"machine{len(self.machines) + 1}", self._lan.machine())
        self.machines.append(found)
        return found

    def line(self, machine: Machine) -> Line:
        return self._lan.cables[machine.namespace]

    def close(self) -> None:
        super().close()
        self._lan.close()


class Proxied(Machines):
    """Homes on this machine, each with a proxy to the keeper's port."""

    def __init__(self, folder: Path, port: int) -> None:
        self._folder = folder
        self._port = port
        self.keeper = Machine(folder / "keeper")
        self.machines = []
        self._proxies: dict[Path, Proxy] = {}

    def machine(self) -> Machine:
        found = Machine(self._folder / f"machine{len(self.machines) + 1}")
        self.machines.append(found)
        self._proxies[found.folder] = Proxy(self._port)
        return found

    def line(self, machine: Machine) -> Proxy:
        return self._proxies[machine.folder]

    def invite(self, machine: Machine) -> str:
        addresses = (f"127.0.0.1:{self._proxies[machine.folder].port}",)
        return invites.parse(super().invite(machine))._replace(addresses=addresses).line()

    def close(self) -> None:
        super().close()
        for proxy in self._proxies.values():
            proxy.close()


@contextlib.contextmanager
def network(folder: Path) -> Iterator[Network]:
    """A keeper in a network namespace that listens, and whatever the test adds."""
    made = Network(folder)
    try:
        made.keeper.motes("up", "--http", "127.0.0.1:0", "--listen", "0.0.0.0")
        yield made
    finally:
        made.close()


@contextlib.contextmanager
def proxied(folder: Path) -> Iterator[Proxied]:
    """A keeper on this machine, and whatever the test adds behind proxies."""
    port = free_port()
    made = Proxied(folder, port)
    try:
        made.keeper.motes("up", "--http", "127.0.0.1:0", "--listen", f"127.0.0.1:{port}")
        yield made
    finally:
        made.close()


@contextlib.contextmanager
def machines(kind: str, folder: Path) -> Iterator[Machines]:
    """Of one of KINDS."""
    with (network if kind == "namespaces" else proxied)(folder) as made:
        yield made
