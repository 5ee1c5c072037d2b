"""Where: the hosts that a workload should run on, best first. A core: pure functions of the state.

A host is feasible when it takes work, its offer holds one instance of the workload, and it has a Python that the
release runs with, the platform that its packages are for, and namespaces if it is a daemon.
Ranked: hosts that hold the lease already, then those with the smallest share of their offer given away, then by a hash
of workload and host, so that equal hosts get different workloads.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from motes.controller.state import Host, State
from motes.errors import MotesError, NoRoom, Unavailable
from motes.model.release import Daemon, Packages, Workload
from motes.model.units import format_bytes
from motes.model.walls import Walls

FIT = "add one that fits: `motes host start --python ...`; deploy again to have an app's packages for it"


def ranked_hosts(state: State, address: str, workload: Workload, packages: Packages) -> list[str]:
    """Feasible hosts, best first; hosts where it fails come last, for they may recover."""
    fitting = [
        name
        for name, host in state.hosts.items()
        if host.takes_work and _holds(host, workload) and runs(host, packages) and _has_walls_for(host, workload)
    ]
    return sorted(fitting, key=lambda name: _rank(state, name, address))


def fails(state: State, host: str, address: str) -> bool:
    """Whether the host has said of late that this workload cannot start there."""
    return (host, address) in state.failures


def why_nowhere(state: State, address: str, workload: Workload, packages: Packages) -> MotesError:
    """The error for a workload that no host can take: Unavailable when that may pass, else NoRoom."""
    able = [host for host in state.hosts.values() if host.takes_work]
    if not able:
        return Unavailable(f"{address}: no host is up (see `motes host ls`, start one with `motes host start`)")
    able_to_run = [host for host in able if runs(host, packages)]
    if not able_to_run:
        return NoRoom(f"{address} {needs(packages)}; {who_is_there(able)}")
    able_to_run = [host for host in able_to_run if _has_walls_for(host, workload)]
    if not able_to_run:
        return NoRoom(f"{address} is a daemon, and no host makes the namespaces that one needs (`motes doctor` there)")
    largest = max(host.report.offer.memory_bytes for host in able_to_run)
    return NoRoom(
        f"{address} needs {format_bytes(workload.memory_bytes)}; no host offers more than {format_bytes(largest)} "
        "(lower `memory`, or add a host: `motes host start`)"
    )


def runs(host: Host, packages: Packages) -> bool:
    """Whether the host has a Python and a platform for these packages."""
    return packages.fits(host.report.python, host.report.platform)


def _has_walls_for(host: Host, workload: Workload) -> bool:
    try:
        return not isinstance(workload, Daemon) or Walls(host.report.walls).hold_daemons
    except ValueError:
        return False


def needs(packages: Packages) -> str:
    """What a host must have, in words."""
    python = [f"Python {packages.python}"] if packages.python else []
    layers = [f"packages that it has for {', '.join(sorted(packages.layers))} only"] if packages.layers else []
    return f"needs {' and '.join(python + layers)}"


def who_is_there(hosts: Iterable[Host]) -> str:
    """What the hosts have, in words."""
    there = sorted({f"Python {host.report.python} on {host.report.platform or 'another system'}" for host in hosts})
    return f"the hosts have {', '.join(there[:4])} ({FIT})"


def _holds(host: Host, workload: Workload) -> bool:
    offer = host.report.offer
    return offer.spaces >= 1 and offer.memory_bytes >= workload.memory_bytes


def _rank(state: State, name: str, address: str) -> tuple[bool, bool, bool, float, bytes]:
    host = state.hosts[name]
    offer = host.report.offer
    given = sum(1 for lease in state.leases.get(name, {}).values() if lease.ceiling > 0)
    used = host.report.spaces_used / offer.spaces + host.report.memory_bytes / offer.memory_bytes
    tie = hashlib.blake2b(f"{address}@{name}".encode(), digest_size=8).digest()
    return (
        fails(state, name, address),
        not host.lives,
        state.lease(name, address) is None,
        round(used, 1) + given / 1000,
        tie,
    )
