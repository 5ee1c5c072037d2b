"""How many: the ceiling and the floor of each host that shall hold a lease for a workload. A core.

A ceiling is at once the most that scale and offer allow, so that a burst never waits for the controller. Only a
workload with a maximum has its ceilings divided, by what each host wants; what one gives up another gets only after the
first has confirmed it, so that all together never exceed the maximum.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from motes.controller.state import State
from motes.model.release import Daemon, Scale, Workload

FIRST_HOSTS = 4
"""Hosts that an unbounded function gets at first; doubled while they are saturated."""
SPREAD = 2
"""A function that may have two instances or more gets at least two hosts, where there are, so that one may be lost."""


class Share(NamedTuple):
    """What one host shall hold."""

    ceiling: int
    floor: int


def shares(state: State, address: str, workload: Workload, hosts: Sequence[str], active: bool) -> dict[str, Share]:
    """By host, for hosts in the order of their rank; empty when nothing shall run."""
    if isinstance(workload, Daemon):
        return {host: Share(1, 1) for host in hosts[:1]}
    if not active and workload.scale.min == 0:
        return {}
    chosen = hosts[: _how_many_hosts(state, address, workload.scale, hosts)]
    floors = _divide(workload.scale.min, chosen)
    if workload.scale.max is None:
        return {host: Share(max(_spaces(state, host), 1), floors[host]) for host in chosen}
    ceilings = _bounded_ceilings(state, address, workload.scale.max, chosen, floors)
    return {host: Share(ceilings[host], min(floors[host], ceilings[host])) for host in chosen if ceilings[host] > 0}


def _how_many_hosts(state: State, address: str, scale: Scale, hosts: Sequence[str]) -> int:
    if scale.max is not None:
        capacity = max((_spaces(state, host) for host in hosts), default=1)
        return max(min(SPREAD, scale.max), min(scale.min, scale.max), -(-scale.max // max(capacity, 1)))
    holders = state.holders(address)
    needed = len(holders) * 2 if holders and all(_is_saturated(state, host, address) for host in holders) else 0
    return max(FIRST_HOSTS, len(holders), needed, scale.min)


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
