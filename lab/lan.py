"""A keeper's namespace and those of machines, each with a cable to the keeper and no way to one another's.

As at most homes, a firewall lets out what a machine begins, and nothing in.
"""

from __future__ import annotations

import os

from lab import namespaces
from lab.cable import Cable
from lab.namespaces import ip

KEEPER_ADDRESS = "10.77.0.1"


class Lan:
    """`keeper` is the name of its namespace; machines are numbered from 1."""

    def __init__(self, only_outgoing: bool = True) -> None:
        """Without `only_outgoing` there is no firewall before the machines."""
        self._only_outgoing = only_outgoing
        self._prefix = f"motes{os.getpid()}"
        self.keeper = namespaces.make(f"{self._prefix}k")
        self.machines: list[str] = []
        self.cables: dict[str, Cable] = {}
        """By the machine's namespace."""
        ip("-n", self.keeper, "link", "add", "bridge", "type", "bridge")
        ip("-n", self.keeper, "addr", "add", f"{KEEPER_ADDRESS}/24", "dev", "bridge")
        ip("-n", self.keeper, "link", "set", "bridge", "up")

    def machine(self) -> str:
        """One more namespace, whose machine reaches the keeper."""
        number = len(self.machines) + 1
        made = namespaces.make(f"{self._prefix}{number}")
        self.machines.append(made)
        self.cables[made] = Cable((self.keeper, f"wire{number}"), (made, "wire"))
        self.cables[made].only_outgoing = self._only_outgoing
        ip("-n", self.keeper, "link", "set", f"wire{number}", "master", "bridge")
        # Machines see the keeper only: each port speaks to the bridge and not to the other ports.
        ip("-n", self.keeper, "link", "set", f"wire{number}", "type", "bridge_slave", "isolated", "on")
        ip("-n", made, "addr", "add", f"10.77.0.{number + 1}/24", "dev", "wire")
        return made

    def close(self) -> None:
        for cable in self.cables.values():
            cable.close()
        for name in (*self.machines, self.keeper):
            namespaces.delete(name)
