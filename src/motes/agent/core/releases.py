"""The spaces of releases: fetched again, failed, closed and forgotten."""

from __future__ import annotations

from motes.agent.core.answers import refuse_waiting, space_refusal
from motes.agent.core.effects import Close, Effect, Fetch, Report, Tell
from motes.agent.core.pool import MAX_DOUBLINGS
from motes.agent.core.state import HostState, SpaceView
from motes.errors import MotesError
from motes.model.instance import EndReason

ZYGOTE_IDLE_S = 600.0
"""A space that nobody called for this long ends; its app sleeps on disk."""
SPACE_BACKOFF_S = 0.5
SPACE_BACKOFF_MAX_S = 30.0


def note_failure(state: HostState, release: str, space: SpaceView, error: MotesError, now: float) -> list[Effect]:
    """A release that cannot run here: its waiting calls are told, unless an older release serves them."""
    space.failures += 1
    space.error = error
    space.retry_at = now + min(SPACE_BACKOFF_S * 2 ** min(space.failures - 1, MAX_DOUBLINGS), SPACE_BACKOFF_MAX_S)
    told = Tell("start.failed", EndReason.SPACE_FAILED, _whose(state, release), release, 0, error.message)
    effects: list[Effect] = [told, Report()]
    for pool in state.pools.values():
        if pool.lease.release == release:
            pool.failing = error.message
            if pool.serving in ("", release):
                effects += refuse_waiting(state, pool, space_refusal(state, error))
    for unit in state.daemons.values():
        if unit.lease.release == release:
            unit.failing = error.message
    return effects


def _whose(state: HostState, release: str) -> str:
    """The workload that a release is of here; when it is several, their app."""
    addresses = [address for address, pool in state.pools.items() if pool.lease.release == release]
    addresses += [address for address, unit in state.daemons.items() if unit.lease.release == release]
    return addresses[0] if len(addresses) == 1 else addresses[0].partition(".")[0] if addresses else ""


def refetch(state: HostState, release: str, space: SpaceView, now: float) -> list[Effect]:
    if space.state != "unfetched" or now < space.retry_at:
        return []
    space.state = "fetching"
    return [Fetch(release)]


def close_unused(state: HostState, now: float, pressure: bool = False) -> list[Effect]:
    """End spaces without instances that no pool serves, or that nobody used for long."""
    serving = {pool.serving for pool in state.pools.values()} | {pool.lease.release for pool in state.pools.values()}
    running = {instance.release for instance in state.instances.values()}
    closed: list[Effect] = []
    for release, space in list(state.spaces.items()):
        if release in running or space.state != "ready":
            continue
        asleep = now - space.last_used >= (1.0 if pressure else ZYGOTE_IDLE_S) and not _has_floor(state, release)
        if release not in serving or (asleep and not _is_waited_for(state, release)):
            space.state = "absent"
            closed.append(Close(release))
    _forget_unused(state, serving | running)
    return closed


def _forget_unused(state: HostState, used: set[str]) -> None:
    """Releases that no lease names any more."""
    used = used | state.wanted_releases()
    for release in [each for each, space in state.spaces.items() if space.is_at_rest and each not in used]:
        del state.spaces[release]


def _has_floor(state: HostState, release: str) -> bool:
    return any(pool.lease.floor and release in (pool.serving, pool.lease.release) for pool in state.pools.values())


def _is_waited_for(state: HostState, release: str) -> bool:
    return any(pool.queued and release in (pool.serving, pool.lease.release) for pool in state.pools.values())
