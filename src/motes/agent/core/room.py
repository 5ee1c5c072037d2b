"""A host whose spaces are all in use: who gives one up, and who gets it.

A space that changes hands costs two processes, so it does not do so for a moment's need: who has been given another's
keeps it for KEPT_S, and who has a fair part already gets only what has been idle for as long.
"""

from __future__ import annotations

from motes.agent.core.effects import Effect
from motes.agent.core.instances import let_go
from motes.agent.core.pool import Instance, Pool
from motes.agent.core.state import HostState
from motes.model.instance import EndReason

KEPT_S = 0.5
"""Long against a start and a quick call, short against what a caller waits for."""


def make_room(state: HostState, needy: Pool | None, now: float) -> list[Effect]:
    """The longest idle instance ends, else another pool with more than its part gives one up.

    `needy` is None when a daemon needs the room, which waits for nobody's time. Floors are not touched.
    """
    if room_is_coming(state):
        return []
    takers = sum(1 for each in state.pools.values() if each.instances or each.queued) + len(state.daemons)
    fair = max(state.offer.spaces // max(takers, 1), 1)
    given_up = _idle(state, needy, fair, now) or _beyond_its_part(state, needy, fair, takers, now)
    if given_up is None:
        return []
    state.gave_room = True
    return let_go(state, given_up, EndReason.PRESSURE)


def _idle(state: HostState, needy: Pool | None, fair: int, now: float) -> Instance | None:
    """The one that was idle the longest."""
    # A pool that keeps callers apart may have idle ones itself, which are of no use to those who wait.
    idle = [each for pool in state.pools.values() for each in pool.spare() if needy is None or now >= each.kept_until]
    if needy is not None and len(needy.live()) >= fair:
        idle = [each for each in idle if each.address == needy.address or now - each.idle_since >= KEPT_S]
    return min(idle, key=lambda each: each.idle_since, default=None)


def _beyond_its_part(state: HostState, needy: Pool | None, fair: int, takers: int, now: float) -> Instance | None:
    """The newest of who has most, if that is more than a part; where not everybody can have one, they take turns."""
    has = 0 if needy is None else len(needy.live())
    having = _with_spare(state, needy)
    largest = max(having, key=lambda other: len(other.live()), default=None)
    if largest is None or has >= fair:
        return None
    if len(largest.live()) > fair:
        return next((each for each in reversed(largest.live()) if needy is None or now >= each.kept_until), None)
    if has or takers <= state.offer.spaces:
        return None
    first = min((each for pool in having for each in pool.live()), key=lambda each: each.started)
    return first if needy is None or now - first.started >= KEPT_S else None


def took_space(state: HostState, instance: Instance, now: float) -> None:
    """An instance has just got a space: another's is not for the next who asks at once."""
    if state.gave_room and state.is_full():
        state.gave_room, instance.kept_until = False, now + KEPT_S


def room_is_coming(state: HostState) -> bool:
    """Whether an instance is on its way out."""
    return any(each.leaving == EndReason.PRESSURE or each.ending for each in state.instances.values())


def room_may_come(state: HostState, needy: Pool) -> bool:
    """Whether the other pools hold more than what must always run."""
    return room_is_coming(state) or bool(_with_spare(state, needy))


def neediest_first(state: HostState) -> list[Pool]:
    """Pools that want instances, those with the fewest first: a freed space is not for who gave it up."""
    return sorted(
        (each for each in state.pools.values() if each.queued or each.lease.floor), key=lambda each: len(each.live())
    )


def _with_spare(state: HostState, needy: Pool | None) -> list[Pool]:
    return [each for each in state.pools.values() if each is not needy and len(each.live()) > each.lease.floor]
