"""How many: the ceiling and the floor of each host that shall hold a lease for a workload.

A ceiling is at once the most that scale and offer allow, so that a burst never waits for the controller. Only a
workload with a maximum has its ceilings divided, by what each host wants; what one gives up another gets only after the
first has confirmed it, so that all together never exceed the maximum.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from motes.controller.core.floors import daemon_host, floors
from motes.controller.core.placement import is_good, machine, machines
from motes.controller.core.state import State
from motes.model.release import Daemon, Function, Workload

FIRST_HOSTS = 4
"""Hosts that an unbounded function gets at first; doubled while they are saturated."""
SPREAD = 2
"""A function that may have two instances or more gets at least two hosts, where there are, so that one may be lost;
with spread="pack" as few as hold it."""


class Share(NamedTuple):
    """What one host shall hold."""

    ceiling: int
    floor: int


def shares(
    state: State, address: str, workload: Workload, hosts: Sequence[str], active: bool, now: float
) -> dict[str, Share]:
    """By host, for hosts in the order of their rank; empty when nothing shall run."""
    packs = workload.spread == "pack"
    if isinstance(workload, Daemon):
        host = daemon_host(state, address, hosts, packs, now)
        return {} if host is None else {host: Share(1, 1)}
    if not active and workload.scale.min == 0:
        return {}
    most = workload.scale.max
    chosen = (_chosen if most is None else _chosen_of_bounded)(state, address, workload, hosts, now)
    kept = floors(state, address, workload.scale.min, chosen, packs, now, most is not None)
    if most is None:
        return {host: Share(max(_spaces(state, host), 1), kept[host]) for host in chosen}
    ceilings = _bounded_ceilings(state, address, most, chosen, kept)
    return {host: Share(ceilings[host], min(kept[host], ceilings[host])) for host in chosen if ceilings[host] > 0}


def _chosen(state: State, address: str, function: Function, hosts: Sequence[str], now: float) -> list[str]:
    """The hosts of a function without a maximum: a lease there is a permission only, so one more costs nothing."""
    packs = function.spread == "pack"
    holders = state.holders(address)
    needed = len(holders) * 2 if holders and all(_is_saturated(state, host, address) for host in holders) else 0
    least = _fewest(state, function.scale.min, hosts) if packs else max(FIRST_HOSTS, function.scale.min)
    chosen = list(hosts[: max(least, len(holders), needed)])
    return chosen if packs or machines(state, chosen) > 1 else chosen + _elsewhere(state, address, hosts, chosen, now)


def _chosen_of_bounded(state: State, address: str, function: Function, hosts: Sequence[str], now: float) -> list[str]:
    """The hosts among which a maximum is divided: few, and no doubtful new ones, for each change divides it anew."""
    least, most = function.scale.min, function.scale.max or 1
    known = [host for host in hosts if state.standing(host, address) or state.steadiness.holds(host, now)] or hosts
    capacity = max((_spaces(state, host) for host in known), default=1)
    holding = -(-most // max(capacity, 1))
    if function.spread == "pack":
        return list(known[: max(holding, 1)])
    chosen = list(known[: max(min(SPREAD, most), min(least, most), holding)])
    if len(chosen) < 2 or machines(state, chosen) > 1:
        return chosen
    elsewhere = _elsewhere(state, address, known, chosen, now)
    is_held = any(state.standing(host, address) for host in chosen)
    if elsewhere and (not is_held or state.moves.apart(address, now)):
        return chosen[:-1] + elsewhere
    return chosen


def _elsewhere(state: State, address: str, hosts: Sequence[str], chosen: Sequence[str], now: float) -> list[str]:
    """The best good host of a machine that none of the chosen is of, or none."""
    taken = {machine(state, host) for host in chosen}
    found = (host for host in hosts if machine(state, host) not in taken and is_good(state, host, address, now))
    return [host for host in (next(found, None),) if host is not None]


def _fewest(state: State, count: int, hosts: Sequence[str]) -> int:
    """How many of the hosts, in their order, hold so many instances."""
    held = 0
    for number, host in enumerate(hosts, 1):
        held += _spaces(state, host)
        if held >= count:
            return number
    return len(hosts)


def _is_saturated(state: State, host: str, address: str) -> bool:
    held = state.held(host, address)
    return held is not None and held.ceiling > 0 and held.wanted >= held.ceiling


def _spaces(state: State, host: str) -> int:
    return state.hosts[host].report.offer.spaces


def _divide(count: int, hosts: Sequence[str]) -> dict[str, int]:
    """`count` in equal parts, the first hosts one more."""
    each, more = divmod(count, max(len(hosts), 1))
    return {host: each + (index < more) for index, host in enumerate(hosts)}


def _bounded_ceilings(
    state: State, address: str, most: int, hosts: Sequence[str], floors: dict[str, int]
) -> dict[str, int]:
    """Ceilings that sum to at most `most`: equal at first, later one at a time to who wants more from who does not."""
    given = {host: lease.ceiling for host in hosts if (lease := state.lease(host, address)) is not None}
    free = most - sum(given.values())
    if len(given) < len(hosts) or free < 0:
        given = {host: min(part, _spaces(state, host)) for host, part in _divide(most, hosts).items()}
        free = most - sum(given.values())
    wished = _hand_out(state, address, given, free) if free else _shift_one(state, address, given, floors)
    return _without_exceeding(state, address, most, wished)


def _hand_out(state: State, address: str, given: dict[str, int], free: int) -> dict[str, int]:
    """What is free goes to hosts that want more, then to those with the least, as far as they have spaces."""
    raised = dict(given)
    for host, wanted in _wanted(state, address, given).items():
        more = max(min(free, wanted - raised[host], _spaces(state, host) - raised[host]), 0)
        raised[host], free = raised[host] + more, free - more
    for host in sorted(given, key=lambda host: given[host]):
        more = max(min(free, _spaces(state, host) - raised[host]), 0)
        raised[host], free = raised[host] + more, free - more
    return raised


def _shift_one(state: State, address: str, given: dict[str, int], floors: dict[str, int]) -> dict[str, int]:
    """Take one from a host with spare; `_hand_out` gives it away once that host has confirmed it."""
    wanted = _wanted(state, address, given)
    short = any(want > given[host] and given[host] < _spaces(state, host) for host, want in wanted.items())
    spare = [host for host, want in wanted.items() if max(want, floors[host], 1) < given[host]]
    if not short or not spare:
        return given
    giver = max(spare, key=lambda host: given[host])
    return given | {giver: given[giver] - 1}


def _wanted(state: State, address: str, hosts: Iterable[str]) -> dict[str, int]:
    """How many instances each host that has told wants, or has."""
    helds = {host: held for host in hosts if (held := state.held(host, address)) is not None}
    return {host: max(held.wanted, held.instances) for host, held in helds.items()}


def _without_exceeding(state: State, address: str, most: int, wished: dict[str, int]) -> dict[str, int]:
    """Lower at once; raise only by what no host, also none outside `wished`, may still be using."""
    in_use = {host: _may_use(state, host, address) for host in state.hosts}
    free = most - sum(in_use.values())
    granted: dict[str, int] = {}
    for host, ceiling in wished.items():
        more = min(max(ceiling - in_use.get(host, 0), 0), max(free, 0))
        free -= more
        granted[host] = min(ceiling, in_use.get(host, 0) + more)
    return granted


def _may_use(state: State, host: str, address: str) -> int:
    """The most instances that a host which is not lost may run now: by what it last told, and what is on its way."""
    if state.hosts[host].lost:
        return 0
    lease, held = state.lease(host, address), state.held(host, address)
    reported = 0 if held is None else max(held.ceiling, held.instances)
    # What it says is believed as far as it can be true: else one host could say that nothing is left for the others.
    reported = min(reported, state.most_given.get((host, address), 0))
    on_its_way = state.unconfirmed.get(host, {}).get(address, 0)
    return max(lease.ceiling if lease is not None else 0, reported, on_its_way)
