"""One function on one host: the calls that wait and the instances that serve them.

How many instances: one more when a waiting call would wait longer than a start costs, judged by recent service times
and by the age of the calls now running; never merely because a call waits. Instances that use a whole processor each
are not multiplied beyond the processors.
"""

from __future__ import annotations

import math

import msgspec

from motes.agent.core.effects import Reply
from motes.agent.core.lanes import Lane, Lanes, Waiting
from motes.model.call import FROM_OUTSIDE, WINDOW_ITEMS, Context
from motes.model.caller import NOBODY, Caller
from motes.model.host import LONGEST_FAILING, Held, Lease, Load
from motes.model.instance import EndReason, InstanceState
from motes.model.release import Function

START_COST_S = 0.002
"""About what a new instance costs; a wait shorter than this is no reason for one."""
QUEUE_LIMIT = 1_000
"""Calls of one function that may wait on one host."""
QUEUE_LIMIT_BYTES = 64 * 2**20
QUEUE_SHARE_BYTES = 2**20
"""So much of one function may always wait."""
MOST_WAITING_BYTES = 256 * 2**20
"""Of all functions of a host together: what waits is in its agent's memory, and counts as used of what it lends."""
KNOWN_CALLS = 50
"""What was learned of service times weighs as much as so many calls that run now."""
PER_CPU = 2
"""Instances for each lent processor when every one keeps a processor busy: one works while another's reply travels."""
CRASHES_FREE = 2
"""So many ends in a row without a reply between them bring no backoff: one bad call must not hold up the next."""
BACKOFF_S = 0.1
BACKOFF_MAX_S = 10.0
MAX_DOUBLINGS = 16
TURN_S = 0.02
"""Where callers are kept apart and no more instances may start, one goes on with its own caller's calls for so long
while another's wait: a change of callers costs a start."""
_SMOOTHING = 0.2
_NOWHERE = Lane(None)


class Call(msgspec.Struct):
    """A call that this host accepted. `replies` are where its outcome goes: several when a caller sent it again."""

    id: bytes
    address: str
    body: bytes
    arrived: float
    deadline: float
    replies: list[Reply]
    began: float = 0.0
    cpu_before_s: float = 0.0
    """Its instance's `cpu_s` when it began."""
    waited_before_s: float = 0.0
    """Its instance's `waited_s` then."""
    ran_before: bool = False
    """Whether its process ended under it, and it was given another."""
    gone_at: float | None = None
    """When it was answered, though its instance still works on it: it was told to stop."""
    window: int = WINDOW_ITEMS
    """How many items of its stream the instance may send before the caller takes more."""
    has_sent_items: bool = False
    context: Context = FROM_OUTSIDE
    caller: Caller = NOBODY


class Ask(msgspec.Struct):
    """A call that an instance makes while it works on the one with `tag`; `number` is its own name for it."""

    number: int
    tag: int
    id: bytes
    name: str
    """As the function declares it."""
    body: bytes
    address: str = ""
    deadline: float = 0.0
    context: Context = FROM_OUTSIDE
    caller: Caller = NOBODY
    relayed_at: float | None = None
    """When it was to leave this host first; None: it is called here."""
    again_at: float | None = None
    """When it is sent again: it did not leave."""
    sent_at: float = 0.0
    """When it last left this host."""


class Work(msgspec.Struct):
    """What a call took: `worked_s` by the instance's own word, the others by the kernel since the instance's start."""

    worked_s: float
    cpu_s: float
    waited_s: float | None
    """How long it was ready to run and no processor was free; None when nobody looked."""


class Instance(msgspec.Struct):
    """One instance. `calls_now` is what it works on, by tag; `leaving`, when set, is why it ends after that."""

    number: int
    address: str
    release: str
    started: float
    is_daemon: bool = False
    pid: int = 0
    alive: bool = False
    concurrency: int = 1
    """How many calls it works on at a time."""
    calls_now: dict[int, Call] = {}
    may_call: tuple[str, ...] = ()
    """Addresses of functions."""
    asks: dict[int, Ask] = {}
    """The calls that it waits for, by its own numbers."""
    asked_bytes: int = 0
    tag: int = 0
    """Of the last call; each has its own."""
    lane: Lane = _NOWHERE
    """Whose calls it gets; a daemon has none."""
    is_free: bool = False
    """Whether it is among its lane's free ones."""
    idle_since: float = 0.0
    kept_until: float = 0.0
    """Until then it is not ended for another's sake (motes.agent.core.room)."""
    ends_by: float = math.inf
    """Then it ends, whatever it does, if its app is still not served here."""
    calls: int = 0
    cpu_s: float = 0.0
    waited_s: float = 0.0
    """How long it was ready to run and no processor was free, since its start, as last measured."""
    waited_is_known: bool = True
    """Whether `waited_s` is of the last call's end."""
    memory_bytes: int = 0
    output_bytes: int = 0
    """Written during the current call."""
    leaving: EndReason | None = None
    ending: bool = False
    """Told to end; only its end is still to come."""

    @property
    def app(self) -> str:
        return self.address.partition(".")[0]

    @property
    def has_room(self) -> bool:
        return len(self.calls_now) < self.concurrency and not self.ending and self.leaving is None

    @property
    def waits_for_calls(self) -> bool:
        """Whether every call that it works on waits for another; one with room for anybody's next does not."""
        if not self.calls_now or (self.has_room and self.lane.key is None):
            return False
        waiting = {ask.tag for ask in self.asks.values()}
        return all(tag in waiting for tag in self.calls_now)

    def oldest(self) -> Call | None:
        """The call that it has worked on for the longest."""
        return next(iter(self.calls_now.values()), None)

    def demand_s(self, call: Call) -> float:
        """Processor time that it used, or would have used, since the call began, as last measured.

        On a crowded machine its CPU time alone looks idle.
        """
        waited_s = self.waited_s - call.waited_before_s if self.waited_is_known else 0.0
        return self.cpu_s - call.cpu_before_s + waited_s

    def begin(self, call: Call) -> int:
        """Work on a call from now on: returns its tag."""
        self.tag += 1
        self.calls_now[self.tag] = call
        call.cpu_before_s, call.waited_before_s = self.cpu_s, self.waited_s
        return self.tag

    def note_work(self, call: Call, work: Work) -> float:
        """The call was answered: returns the `demand_s` of it."""
        self.calls += 1
        self.cpu_s = work.cpu_s
        if work.waited_s is None:
            # What it waited now must not be taken for a later call's.
            self.waited_is_known = False
            return self.demand_s(call)
        self.waited_s = work.waited_s
        demand_s = self.demand_s(call)
        self.waited_is_known = True
        return demand_s

    @property
    def state(self) -> InstanceState:
        if self.ending or self.leaving is not None:
            return InstanceState.DRAINING
        if self.calls_now:
            return InstanceState.BUSY if self.alive else InstanceState.STARTING
        return InstanceState.IDLE if self.alive else InstanceState.STARTING


class Pool(Lanes):
    """A leased function: its calls, its instances, and what was learned of both."""

    def __init__(self, lease: Lease, now: float, waiting_on_host: Waiting | None = None) -> None:
        super().__init__(waiting_on_host)
        self.lease = lease
        self.function: Function | None = None
        """What `serving` says of this function; None until its release is there."""
        self.serving = ""
        """The release whose instances take calls; the lease's, once that is ready here."""
        self.instances: dict[int, Instance] = {}
        self.service_s = 0.0
        self.cpu_share = 0.0
        """The part of their time in which busy instances want a processor, 0 to 1; 0 until measured."""
        self.calls_ended = 0
        self._look_again_at = 0.0
        self._turn_again_at = 0.0
        self.last_call_at = now
        self.crashes = 0
        self.failed_starts = 0
        """In a row."""
        self.not_before = 0.0
        self.failing = ""

    @property
    def address(self) -> str:
        return self.lease.address

    def is_full(self, more_bytes: int) -> bool:
        own_bytes, all_bytes = self.queue_bytes + more_bytes, self.waiting_on_host.bytes + more_bytes
        is_too_much = own_bytes > QUEUE_SHARE_BYTES and all_bytes > MOST_WAITING_BYTES
        return self.queued >= QUEUE_LIMIT or own_bytes > QUEUE_LIMIT_BYTES or is_too_much

    # ------------------------------------------------------------------ instances

    def add(self, instance: Instance, lane: Lane) -> None:
        self.instances[instance.number] = instance
        self.enter(instance, lane)

    def drop(self, instance: Instance) -> None:
        """It has ended."""
        self.instances.pop(instance.number, None)
        self.forget(instance)

    @property
    def idle(self) -> list[Instance]:
        """Those that work on nothing."""
        return [each for each in self.free() if not each.calls_now]

    def note_room(self, instance: Instance) -> None:
        """Enter an instance among the free ones, or take it out, after what it works on has changed."""
        if instance.has_room == instance.is_free:
            return
        if instance.is_free:
            instance.lane.free.remove(instance)
        else:
            instance.lane.free.append(instance)
        instance.is_free = not instance.is_free

    def live(self) -> list[Instance]:
        """Instances that take or will take further calls."""
        return [each for each in self.instances.values() if not each.ending and each.leaving is None]

    def useful(self) -> int:
        """How many of those serve, or can serve whoever comes: all but a caller's that are idle."""
        return sum(1 for each in self.live() if each.calls_now or each.lane.key is None)

    def spare(self) -> list[Instance]:
        """Idle ones that nobody may miss: a caller's, and what is beyond the floor."""
        is_beyond = self.useful() > self.lease.floor
        return [each for each in self.idle if is_beyond or each.lane.key is not None]

    # ------------------------------------------------------------------ how many

    def is_time_to_look(self, lane: Lane, now: float) -> bool:
        """Whether one more waiting call is worth asking `wanted`; else the next tick does, which comes soon.

        Asking costs as much as all else that a call takes here. So once calls are known it is asked when the queue
        has doubled: a burst is seen as it comes, and a steady load is left to the ticks.
        """
        if not self.by_caller:
            return self.calls_ended < KNOWN_CALLS or not self.instances or self.queued & (self.queued - 1) == 0
        # A caller's first call is worth a start. Where none can start, many callers must not make each call dear.
        waiting = len(lane.queue) if lane.instances else len(self.waiting)
        if waiting & (waiting - 1) and now < self._look_again_at:
            return False
        self._look_again_at = now + START_COST_S
        return True

    def wanted(self, now: float, cpus: float) -> int:
        """How many instances the calls that run and wait now are worth."""
        busy = [each for each in self.instances.values() if each.calls_now and not each.ending]
        if not self.queued:
            return len(busy)
        more = sum(self._more(lane, now) for lane in self.waiting.values())
        # Those that wait for calls of their own leave the processors to others.
        waiting = sum(1 for each in busy if each.asks)
        return min(max(len(busy) + more, 1), max(self._for_cpus(busy, now, cpus), 1) + waiting)

    def next_to_grow(self, now: float) -> Lane:
        """Whom a new instance is for: who cannot go on without, else who gains most, else nobody yet."""
        if not self.by_caller:
            return self.common
        needy = next(self.stuck(), None)
        return needy or max(self.waiting.values(), key=lambda lane: self._more(lane, now), default=self.common)

    def is_turn_over(self, now: float) -> bool:
        """Whether a caller's instance must make place: others have waited for long, and nothing else can help them."""
        if not self.waiting or now < max(self._turn_again_at, self.not_before):
            return False
        self._turn_again_at = now + START_COST_S
        others = sum(1 for lane in self.stuck() if now - lane.queue[0].arrived >= TURN_S)
        return others > sum(1 for each in self.instances.values() if each.ending or each.leaving is not None)

    def _more(self, lane: Lane, now: float) -> int:
        """Instances that the calls waiting in a lane are worth, beside those that it has."""
        busy = [each for each in lane.instances.values() if each.calls_now and not each.ending]
        # The calls of an instance that is still being forked have no age: they do not run yet.
        ages = [now - call.began for each in busy if each.alive for call in each.calls_now.values()]
        free_soon = sum(len(each.calls_now) for each in busy) - sum(1 for age in ages if age >= START_COST_S)
        calls = min(max(self._for_waiting(lane, ages) - free_soon, 0), len(lane.queue))
        more = math.ceil(calls / self.function.concurrency) if self.function is not None else calls
        return more or int(lane.key is not None and lane.is_stuck())

    def _for_waiting(self, lane: Lane, ages: list[float]) -> int:
        """Instances with which the last call in the queue waits about START_COST_S."""
        return math.ceil(self._expected_s(ages) * len(lane.queue) / START_COST_S)

    def _expected_s(self, ages: list[float]) -> float:
        """How long the next calls will take: as the last ones did, unless those that run now say otherwise.

        A single call that is late says little against many that were quick: the machine may have been busy elsewhere.
        """
        known = min(self.calls_ended, KNOWN_CALLS)
        if not known and not ages:
            return 0.0
        return (self.service_s * known + sum(max(age, self.service_s) for age in ages)) / (known + len(ages))

    def _for_cpus(self, busy: list[Instance], now: float, cpus: float) -> int:
        """What the processors carry, at the share of a processor that one instance uses."""
        share = self.cpu_share
        if self.calls_ended == 0:
            # Nothing is known but what the first calls do now; as long as that cannot have been measured, the worst.
            oldest = [(each, call) for each in busy if each.alive and (call := each.oldest()) is not None]
            ages = [now - call.began for _, call in oldest]
            demand_s = sum(each.demand_s(call) for each, call in oldest)
            share = min(demand_s / sum(ages), 1.0) if max(ages, default=0.0) >= 2 * START_COST_S else 1.0
        return math.ceil(PER_CPU * cpus / share) if share > 0.01 else 10**9

    # ------------------------------------------------------------------ what was learned

    def note_served(self, service_s: float, demand_s: float) -> None:
        """A call was answered: remember how long the work took, and how much of that it wanted a processor.

        `service_s` must be without the time on the way to and from the instance: that grows with the number of
        instances when the agent is what holds them up, and more of them would seem to be needed, without end.
        """
        first = self.calls_ended == 0
        self.calls_ended += 1
        self.crashes = 0
        self.service_s += (service_s - self.service_s) * (1.0 if first else _SMOOTHING)
        if service_s > 0:
            share = min(demand_s / service_s, 1.0)
            self.cpu_share += (share - self.cpu_share) * (1.0 if first else _SMOOTHING)

    def note_crash(self, now: float) -> None:
        """An instance ended by itself or over a limit: after a few in a row the next start waits, longer each time."""
        self.crashes += 1
        if self.crashes > CRASHES_FREE:
            doublings = min(self.crashes - CRASHES_FREE - 1, MAX_DOUBLINGS)
            self.not_before = now + min(BACKOFF_S * 2**doublings, BACKOFF_MAX_S)

    def note_failed_start(self, why: str, now: float) -> None:
        """A start failed before the process was there: that is the host's fault, not the function's."""
        self.failed_starts += 1
        self.note_crash(now)
        if self.failed_starts > CRASHES_FREE:
            self.failing = f"starts fail: {why}"

    def note_started(self) -> None:
        if self.failed_starts > CRASHES_FREE:
            self.failing = ""
        self.failed_starts = 0

    def cannot_start(self, now: float) -> str | None:
        """Why no call is served here soon, when every start of late has failed and no instance is left; else None."""
        if self.failed_starts <= CRASHES_FREE or now >= self.not_before:
            return None
        return None if any(each.alive for each in self.live()) else self.failing

    # ------------------------------------------------------------------ for others

    def load(self) -> Load:
        busy = sum(len(each.calls_now) for each in self.instances.values())
        room = sum(each.concurrency - len(each.calls_now) for each in self.free())
        return Load(self.queued, busy, room)

    def held(self, now: float, cpus: float) -> Held:
        is_busy = any(each.calls_now for each in self.instances.values())
        return Held(
            epoch=self.lease.epoch,
            release=self.serving,
            ceiling=self.lease.ceiling,
            instances=len(self.instances),
            wanted=self.wanted(now, cpus),
            calls=self.calls_ended,
            idle_s=0.0 if self.queued or is_busy else max(now - self.last_call_at, 0.0),
            failing=self.failing[:LONGEST_FAILING],
            proof=self.lease.proof,
            floor=self.lease.floor,
        )
