"""What must always run: which host a daemon is on, and how many instances of a function each of its hosts keeps.

It stays where it is. It leaves a host that can run it no more, or fails to, at once; a silent one when a token lets it
(see `moves`), else when that is lost; and for a better fit one at a time, with a token, where the gain is clear.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from motes.controller.core.placement import fails, is_good, machine, machines, roomier
from motes.controller.core.state import State


def daemon_host(state: State, address: str, hosts: Sequence[str], packs: bool, now: float) -> str | None:
    """The one of the hosts, in the order of their rank, that shall run it."""
    holders = [host for host in hosts if state.standing(host, address) is not None]
    # Two hold it only while it moves from one that is drained; where that is called off, it stays where it serves.
    if len(holders) > 1 and (serving := [host for host in holders if _serves(state, host, address)]):
        return serving[0]
    holder = next(iter(holders), None)
    if holder is None or holder == hosts[0]:
        first = hosts[0] if hosts else None
        better = None if packs or holder is None else roomier(state, holder, hosts[1:], address, now)
        return better if better is not None and state.moves.roomier(address, now) else first
    if fails(state, holder, address) or state.moves.early(address, now):
        return hosts[0]
    return holder


def _serves(state: State, host: str, address: str) -> bool:
    held = state.held(host, address)
    return state.hosts[host].lives and held is not None and held.instances > 0


def floors(
    state: State, address: str, count: int, hosts: Sequence[str], packs: bool, now: float, is_bounded: bool = False
) -> dict[str, int]:
    """By host, in the order of their rank; they sum to `count`."""
    kept = Kept(state, address, hosts, is_bounded)
    _leave_bad_ones(state, address, kept, now)
    missing = count - sum(kept.on.values())
    if missing < 0:
        for _ in range(-missing):
            kept.change(_fullest(kept, packs), -1)
    elif missing:
        _add(kept, _takers(state, address, hosts, now), missing, packs)
    elif count and not packs:
        _move_one(state, address, kept, now)
    return kept.on


class Kept:
    """How many each host keeps, and each machine."""

    def __init__(self, state: State, address: str, hosts: Sequence[str], is_bounded: bool) -> None:
        leases = {host: state.standing(host, address) for host in hosts}
        self._most = {host: max(state.hosts[host].report.offer.spaces, 1) for host in hosts}
        self.on = {host: 0 if lease is None else min(lease.floor, self._most[host]) for host, lease in leases.items()}
        self._given = (
            {host: lease.ceiling for host, lease in leases.items() if lease is not None} if is_bounded else None
        )
        self._machine = {host: machine(state, host) for host in hosts}
        self._on_machine: Counter[str] = Counter()
        for host, floor in self.on.items():
            self._on_machine[self._machine[host]] += floor

    def has_room(self, host: str) -> bool:
        """Whether the host holds one more, as far as what it has been given tells."""
        given = self._most[host] if self._given is None else self._given.get(host, self._most[host])
        return self.on[host] < min(given, self._most[host])

    def may_begin(self, host: str) -> bool:
        """Whether it may run one more at once, so that what moves there is not missing meanwhile."""
        return self.has_room(host) and (self._given is None or host in self._given)

    def change(self, host: str, by: int) -> None:
        self.on[host] += by
        self._on_machine[self._machine[host]] += by

    def burden(self, host: str) -> tuple[int, int]:
        """How many the host's machine keeps, and it itself."""
        return self._on_machine[self._machine[host]], self.on[host]

    def having(self) -> list[str]:
        return [host for host, floor in self.on.items() if floor]


def _leave_bad_ones(state: State, address: str, kept: Kept, now: float) -> None:
    """What others shall keep instead of hosts that fail or are silent, if there are others."""
    bad = [host for host in kept.having() if fails(state, host, address) or not state.hosts[host].lives]
    if not bad:
        return
    good = [host for host in kept.on if not fails(state, host, address)]
    living = [host for host in good if state.hosts[host].lives]
    for host in bad:
        may_leave = good if fails(state, host, address) else living and state.moves.early(address, now)
        if may_leave:
            kept.change(host, -kept.on[host])


def _takers(state: State, address: str, hosts: Sequence[str], now: float) -> list[Sequence[str]]:
    """Who may be given more: the good ones, and where they have no room or are none, ever less good ones."""
    sound = [host for host in hosts if not fails(state, host, address)]
    living = [host for host in sound if state.hosts[host].lives]
    steady = [host for host in living if state.standing(host, address) or state.steadiness.holds(host, now)]
    return [each for each in (steady, living, sound, hosts) if each]


def _add(kept: Kept, takers: Sequence[Sequence[str]], missing: int, packs: bool) -> None:
    for _ in range(missing if takers else 0):
        roomy = ([host for host in group if kept.has_room(host)] for group in takers)
        able = next((group for group in roomy if group), takers[0])
        kept.change(able[0] if packs else min(able, key=kept.burden), 1)


def _fullest(kept: Kept, packs: bool) -> str:
    """Who gives one up first: the last of a pack, else who has most."""
    having = kept.having()[::-1]
    return having[0] if packs else max(having, key=kept.burden)


def _move_one(state: State, address: str, kept: Kept, now: float) -> None:
    """Where machines are uneven by two or more, or a host has long been crowded, one moves."""
    having = kept.having()
    giver, taker = max(having, key=kept.burden), min(kept.on, key=kept.burden)
    # One of a single machine goes to a second one; beyond that a difference of one is none.
    is_uneven = kept.burden(giver)[0] - kept.burden(taker)[0] >= 2
    if not is_uneven and not any(state.hosts[host].crowded_since is not None for host in having):
        return
    good = [host for host in kept.on if kept.may_begin(host) and is_good(state, host, address, now)]
    taker = min(good, key=kept.burden, default=giver)
    if kept.burden(giver)[0] - kept.burden(taker)[0] >= 2:
        may_move = state.moves.apart(address, now)
    else:
        found = ((host, roomier(state, host, good, address, now)) for host in having)
        giver, taker = next(((host, other) for host, other in found if other is not None), (giver, giver))
        # Out of a crowd, but not at the price of having all of it on one machine.
        after = [host for host in having if host != giver or kept.on[host] > 1] + [taker]
        is_gain = giver != taker and machines(state, after) >= machines(state, having)
        may_move = is_gain and state.moves.roomier(address, now)
    if may_move:
        kept.change(giver, -1)
        kept.change(taker, 1)
