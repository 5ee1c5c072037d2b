"""Where: the hosts that a workload should run on, best first. A core: pure functions of the state.

Ranked: hosts where it does not fail and that live; of those the ones that hold the lease already, with the largest
floor first, so that nothing moves because loads swing; then others, steady ones first, of machines that the workload
is not on, with few instances still to start, and with the smallest share of their offer in use (with spread="pack" the
largest that leaves room); then by a hash of workload and host, so that equal hosts get different workloads.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from motes.controller.feasible import feasible
from motes.controller.ground import STARTS_AT_ONCE, Ground, fullness, use
from motes.controller.state import State
from motes.model.release import Packages, Workload

ROOM = 0.8
"""A host that is fuller is no place to pack more into."""
CLEAR_GAIN = 0.4
"""How much less full another host must be for work to move there for a better fit."""
CROWDED_S = 60.0
"""For so long a host must have been fuller than ROOM."""


def ranked_hosts(
    state: State, address: str, workload: Workload, packages: Packages, now: float, ground: Ground | None = None
) -> list[str]:
    """Feasible hosts, best first; hosts where it fails come last, for they may recover."""
    ground = ground or Ground(state)
    packs = workload.spread == "pack"
    hosts = sorted(
        feasible(state, workload, packages), key=lambda name: _rank(state, name, address, packs, now, ground)
    )
    return hosts if packs else _apart(state, hosts, address, now)


def fails(state: State, host: str, address: str) -> bool:
    """Whether the host has said of late that this workload cannot start there."""
    return (host, address) in state.failures


def machine(state: State, host: str) -> str:
    """What goes away together with the host: its machine, or itself alone where it names none."""
    return state.hosts[host].report.offer.machine or f"/{host}"


def machines(state: State, hosts: Iterable[str]) -> int:
    """How many different ones the hosts are of."""
    return len({machine(state, host) for host in hosts})


def is_good(state: State, host: str, address: str, now: float) -> bool:
    """Whether it may be given what must always run without being a last resort."""
    return state.hosts[host].lives and not fails(state, host, address) and state.steadiness.holds(host, now)


def roomier(state: State, host: str, others: Sequence[str], address: str, now: float) -> str | None:
    """The first of the others that would clearly do better than a host that has long been crowded."""
    since = state.hosts[host].crowded_since
    if since is None or now - since < CROWDED_S:
        return None
    most = fullness(state.hosts[host]) - CLEAR_GAIN
    return next(
        (each for each in others if is_good(state, each, address, now) and fullness(state.hosts[each]) <= most), None
    )


def _apart(state: State, hosts: Sequence[str], address: str, now: float) -> list[str]:
    """Those that hold no lease, with the first of each machine before the second ones, as far as all else is equal."""
    on_machine: Counter[str] = Counter()
    order: dict[str, tuple[bool, bool, bool, bool, int]] = {}
    for host in hosts:
        is_new = state.standing(host, address) is None
        where = machine(state, host)
        standing = (fails(state, host, address), not state.hosts[host].lives)
        is_doubtful = is_new and not state.steadiness.holds(host, now)
        order[host] = (*standing, is_new, is_doubtful, on_machine[where] if is_new else 0)
        on_machine[where] += 1
    return sorted(hosts, key=order.__getitem__)


def _rank(state: State, name: str, address: str, packs: bool, now: float, ground: Ground) -> tuple[Any, ...]:
    host, lease = state.hosts[name], state.standing(name, address)
    given = ground.leases[name] / 1000
    used = round(use(host), 1) + given
    tie = hashlib.blake2b(f"{address}@{name}".encode(), digest_size=8).digest()
    return (
        fails(state, name, address),
        not host.lives,
        lease is None,
        -lease.floor if lease is not None else 0,
        lease is None and not state.steadiness.holds(name, now),
        *((fullness(host) >= ROOM, -used) if packs else (ground.starting[name] // STARTS_AT_ONCE, used)),
        tie,
    )
