"""What must always run: which host a daemon is on, and how many instances of a function each of its hosts keeps. Part
of the core.

It stays where it is. It leaves a host that can run it no more, or fails to, at once; a silent one when a token lets it
(see `moves`), else when that is lost; and for a better fit one at a time, with a token, where the gain is clear.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from motes.controller.placement import fails, is_good, machine, machines, roomier
from motes.controller.state import State


def daemon_host(state: State, address: str, hosts: Sequence[str], packs: bool, now: float) -> str | None:
    """The one of the hosts, in the order of their rank, that shall run it."""
    holder = next((host for host in hosts if state.standing(host, address) is not None), None)
    if holder is None or holder == hosts[0]:
        first = hosts[0] if hosts else None
        better = None if packs or holder is None else roomier(state, holder, hosts[1:], address, now)
        return better if better is not None and state.moves.better_fit(address, now) else first
    if fails(state, holder, address) or state.moves.early(address, now):
        return hosts[0]
    return holder


def floors(state: State, address: str, count: int, hosts: Sequence[str], packs: bool, now: float) -> dict[str, int]:
    """By host, in the order of their rank; they sum to `count`."""
    kept = {host: lease.floor if (lease := state.standing(host, address)) is not None else 0 for host in hosts}
    _leave_bad_ones(state, address, kept, now)
    missing = count - sum(kept.values())
    takers = _takers(state, address, hosts, now)
    if missing < 0:
        for _ in range(-missing):
            kept[_fullest(state, kept, packs)] -= 1
    elif missing:
        _add(state, kept, takers, missing, packs)
    elif not packs:
        _move_one(state, address, kept, hosts, now)
    return kept


def _leave_bad_ones(state: State, address: str, kept: dict[str, int], now: float) -> None:
    """What others shall keep instead of hosts that fail or are silent, if there are others."""
    good = [host for host in kept if not fails(state, host, address)]
    living = [host for host in good if state.hosts[host].lives]
    for host in [host for host, floor in kept.items() if floor]:
        is_bad = fails(state, host, address) and good
        if is_bad or (not state.hosts[host].lives and living and state.moves.early(address, now)):
            kept[host] = 0


def _takers(state: State, address: str, hosts: Sequence[str], now: float) -> Sequence[str]:
    """Who may be given more: the good ones, and in their absence whoever is there."""
    sound = [host for host in hosts if not fails(state, host, address)]
    living = [host for host in sound if state.hosts[host].lives]
    steady = [host for host in living if state.standing(host, address) or state.steadiness.holds(host, now)]
    return steady or living or sound or hosts


def _add(state: State, kept: dict[str, int], takers: Sequence[str], missing: int, packs: bool) -> None:
    if not takers:
        return
    for _ in range(missing):
        if packs:
            roomy = (host for host in takers if kept[host] < state.hosts[host].report.offer.spaces)
            kept[next(roomy, takers[0])] += 1
        else:
            kept[min(takers, key=_burden(state, kept))] += 1


def _fullest(state: State, kept: dict[str, int], packs: bool) -> str:
    """Who gives one up first: the last of a pack, else who has most."""
    burden = _burden(state, kept)
    having = [host for host in reversed(kept) if kept[host]]
    return having[0] if packs else max(having, key=burden)


def _move_one(state: State, address: str, kept: dict[str, int], hosts: Sequence[str], now: float) -> None:
    """Where machines are uneven by two or more, or a host has long been crowded, one moves."""
    having = [host for host in hosts if kept[host]]
    good = [host for host in hosts if is_good(state, host, address, now)]
    if not having or not good:
        return
    burden = _burden(state, kept)
    giver, taker = max(having, key=burden), min(good, key=burden)
    # One of a single machine goes to a second one; beyond that a difference of one is none.
    is_uneven = burden(giver)[0] - burden(taker)[0] >= 2
    if not is_uneven:
        found = ((host, roomier(state, host, good, address, now)) for host in having)
        giver, taker = next(((host, other) for host, other in found if other is not None), (giver, giver))
    # Out of a crowd, but not at the price of having all of it on one machine.
    after = [host for host in having if host != giver or kept[host] > 1] + [taker]
    if giver != taker and machines(state, after) >= machines(state, having) and state.moves.better_fit(address, now):
        kept[giver] -= 1
        kept[taker] += 1


def _burden(state: State, kept: dict[str, int]) -> Callable[[str], tuple[int, int]]:
    """How many a host's machine keeps, and it itself."""

    def burden(host: str) -> tuple[int, int]:
        where = machine(state, host)
        return sum(count for each, count in kept.items() if machine(state, each) == where), kept[host]

    return burden
