"""Where: the hosts that a workload should run on, best first.

Ranked: hosts where it does not fail and that live; of those the ones that hold the lease already, so that nothing moves
because loads swing; then others, steady ones first, of machines that the workload is not on, with few instances still
to start, and with the smallest share of their offer in use (with spread="pack" the largest that leaves room); then by
a hash of workload and host, so that equal hosts get different workloads.
"""

from __future__ import annotations

import functools
import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from motes.controller.core.feasible import feasible
from motes.controller.core.ground import STARTS_AT_ONCE, Ground, fullness, use
from motes.controller.core.state import Host, State
from motes.model.release import Packages, Workload

ROOM = 0.8
"""A host that is fuller is crowded, and no place to pack more into."""
ROOMY = 0.4
"""One that is less full has room for what leaves a crowd."""
LASTING_S = 300.0
"""For so long the one must have been crowded and the other roomy."""


def ranked_hosts(
    state: State, address: str, workload: Workload, packages: Packages, now: float, ground: Ground | None = None
) -> list[str]:
    """Feasible hosts, best first; hosts where it fails come last, for they may recover."""
    ground = ground or Ground(state)
    packs = workload.spread == "pack"
    hosts = sorted(
        feasible(state, address.partition(".")[0], workload, packages),
        key=lambda name: _rank(state, name, address, packs, now, ground),
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
    """The first of the others that has long had room, for what is on a host that has long been crowded."""
    if not _lasts(state.hosts[host].crowded_since, now):
        return None
    good = (each for each in others if _lasts(state.hosts[each].roomy_since, now))
    return next((each for each in good if is_good(state, each, address, now)), None)


def note_fullness(host: Host, now: float) -> None:
    """It has reported: since when it is crowded, or has room."""
    full = fullness(host)
    host.crowded_since = (now if host.crowded_since is None else host.crowded_since) if full > ROOM else None
    host.roomy_since = (now if host.roomy_since is None else host.roomy_since) if full < ROOMY else None


def _lasts(since: float | None, now: float) -> bool:
    return since is not None and now - since >= LASTING_S


def _apart(state: State, hosts: list[str], address: str, now: float) -> list[str]:
    """Those that hold no lease, with the first of each machine before the second ones, as far as all else is equal."""
    if machines(state, hosts) == len(hosts):
        return hosts
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
    used = round(use(host), 1) + ground.leases[name] / 1000
    return (
        fails(state, name, address),
        not host.lives,
        lease is None,
        lease is None and not state.steadiness.holds(name, now),
        *((fullness(host) >= ROOM, -used) if packs else (ground.starting[name] // STARTS_AT_ONCE, used)),
        _tie(address, name),
    )


@functools.lru_cache(maxsize=65_536)
def _tie(address: str, host: str) -> bytes:
    return hashlib.blake2b(f"{address}@{host}".encode(), digest_size=8).digest()
