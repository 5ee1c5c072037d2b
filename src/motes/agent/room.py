"""A host whose spaces are all in use: who gives one up, and who gets it. Part of the agent's core."""

from __future__ import annotations

from motes.agent.effects import Effect
from motes.agent.instances import let_go
from motes.agent.pool import Pool
from motes.agent.state import HostState
from motes.model.instance import EndReason


def make_room(state: HostState, needy: Pool | None) -> list[Effect]:
    """The longest idle instance ends, else another pool with more than its part gives one up.

    `needy` is None when a daemon needs the room. Floors are not touched.
    """
    if room_is_coming(state):
        return []
    # A pool that keeps callers apart may have idle ones itself, which are of no use to those who wait.
    idle = [each for pool in state.pools.values() for each in pool.spare()]
    if idle:
        return let_go(state, min(idle, key=lambda each: each.idle_since), EndReason.PRESSURE)
    largest = max(_with_spare(state, needy), key=lambda other: len(other.live()), default=None)
    takers = sum(1 for each in state.pools.values() if each.instances or each.queued) + len(state.daemons)
    fair = max(state.offer.spaces // max(takers, 1), 1)
    has = 0 if needy is None else len(needy.live())
    if largest is None or len(largest.live()) <= fair or has >= fair:
        return []
    return let_go(state, largest.live()[-1], EndReason.PRESSURE)


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
