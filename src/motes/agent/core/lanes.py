"""Who shares instances: all calls of a function, or with `reuse="caller"` one caller's.

What always holds: an instance gets calls of its own lane only, and leaves a caller's lane only by its end.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import TYPE_CHECKING

from motes.model.caller import Caller

if TYPE_CHECKING:
    from motes.agent.core.pool import Call, Instance

Key = Caller | bytes | None
"""None: everybody, or nobody yet; a caller; or the id of a call that is nobody's, and so has a lane of its own."""


class Lane:
    """Calls that wait, first come, first served, and the instances for them."""

    __slots__ = ("free", "instances", "key", "queue")

    def __init__(self, key: Key) -> None:
        self.key = key
        self.queue: deque[Call] = deque()
        self.instances: dict[int, Instance] = {}
        self.free: list[Instance] = []
        """Those that can take a call; a stack: the one used last is used next, so that the surplus falls idle."""

    def is_stuck(self) -> bool:
        """Whether no instance of it can ever take its next call without the help of others."""
        return all(each.ending or each.leaving is not None or each.waits_for_calls for each in self.instances.values())


class Waiting:
    """What waits in all pools of a host: `bytes` is what the bodies of these calls hold together."""

    def __init__(self) -> None:
        self.bytes = 0


class Lanes:
    """All lanes of one pool. As long as nothing is by caller there is the common one only."""

    def __init__(self, waiting_on_host: Waiting | None = None) -> None:
        self.waiting_on_host = waiting_on_host or Waiting()
        self.by_caller = False
        self.common = Lane(None)
        """Everybody's; by caller, of the instances that are nobody's yet."""
        self.waiting: dict[Key, Lane] = {}
        """Lanes in which calls wait; whose turn is next stands first."""
        self.queued = 0
        self.queue_bytes = 0
        self.lanes: dict[Key, Lane] = {None: self.common}

    # ------------------------------------------------------------------ calls

    def key_of(self, call: Call) -> Key:
        return (call.caller or call.id) if self.by_caller else None

    def lane_of(self, call: Call) -> Lane:
        """Where the call belongs."""
        key = self.key_of(call)
        found = self.lanes.get(key)
        if found is None:
            found = self.lanes[key] = Lane(key)
        return found

    def push(self, call: Call, *, first: bool = False) -> None:
        lane = self.lane_of(call)
        (lane.queue.appendleft if first else lane.queue.append)(call)
        self.waiting[lane.key] = lane
        self.queued += 1
        self.queue_bytes += len(call.body)
        self.waiting_on_host.bytes += len(call.body)

    def pop(self, lane: Lane) -> Call:
        call = lane.queue.popleft()
        self._has_left(lane, call)
        return call

    def remove(self, call: Call) -> bool:
        """Take a waiting call out of its queue; False when it is not waiting."""
        lane = self.waiting.get(self.key_of(call))
        if lane is None or call not in lane.queue:
            return False
        lane.queue.remove(call)
        self._has_left(lane, call)
        return True

    def waiting_calls(self) -> list[Call]:
        """All of them; of one lane the oldest first."""
        return [call for lane in self.waiting.values() for call in lane.queue]

    def _has_left(self, lane: Lane, call: Call) -> None:
        self.queued -= 1
        self.queue_bytes -= len(call.body)
        self.waiting_on_host.bytes -= len(call.body)
        if not lane.queue:
            del self.waiting[lane.key]
            self._drop_if_unused(lane)

    def separate(self, by_caller: bool) -> None:
        """Keep callers apart from now on, or no longer: what waits changes lanes, instances do not."""
        if by_caller == self.by_caller:
            return
        waiting = sorted(self.waiting_calls(), key=lambda call: call.arrived)
        for call in waiting:
            self.remove(call)
        self.by_caller = by_caller
        for call in waiting:
            self.push(call)

    # ------------------------------------------------------------------ instances

    def enter(self, instance: Instance, lane: Lane) -> None:
        """A new instance is for the calls of this lane."""
        instance.lane = lane
        lane.instances[instance.number] = instance

    def forget(self, instance: Instance) -> None:
        """It has ended."""
        instance.lane.instances.pop(instance.number, None)
        self._drop_if_unused(instance.lane)

    def free(self) -> list[Instance]:
        """All that can take a call, each of its own lane."""
        return [each for lane in self.lanes.values() for each in lane.free]

    def adopt(self, lane: Lane) -> Instance | None:
        """An instance that is nobody's yet becomes this lane's, when there is one."""
        if lane is self.common or not self.common.free:
            return None
        instance = self.common.free.pop()
        del self.common.instances[instance.number]
        self.enter(instance, lane)
        lane.free.append(instance)
        return instance

    def stuck(self) -> Iterator[Lane]:
        """Lanes in which calls wait that only a new instance can help."""
        return (lane for lane in self.waiting.values() if lane.is_stuck())

    def put_last(self, lane: Lane) -> None:
        """The turn of its caller is over: who waits already comes before."""
        if lane.key in self.waiting:
            self.waiting[lane.key] = self.waiting.pop(lane.key)

    def _drop_if_unused(self, lane: Lane) -> None:
        if lane is not self.common and not lane.queue and not lane.instances:
            self.lanes.pop(lane.key, None)
