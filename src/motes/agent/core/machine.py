"""The agent's core: leases and calls in, instances up and down.

What always holds:
- no call runs without a lease for its workload, and an epoch once seen is never taken back by a lower one;
- instances never outnumber a lease's ceiling, nor all together what the host lends;
- every accepted call is answered exactly once, to everybody who sent it;
- every instance that was started is reported to have ended, once, with a reason.

This is where events come in. What follows from them is decided in `leases`, `starting`, `instances`, `answers`,
`limits`, `releases`, `running_daemons` and `withdrawal`: functions of the HostState that return effects.
"""

from __future__ import annotations

from collections.abc import Mapping

from motes.agent.core import asking, deadlock
from motes.agent.core.answers import LIMITS, answer, refuse_waiting, refuse_where_starts_fail, still_fetching
from motes.agent.core.calls import accept, asked_after, give_up, take_more
from motes.agent.core.effects import Answer, Asker, Effect, Report, Tell
from motes.agent.core.instances import end, lose_calls, told_start, use_free, work_on
from motes.agent.core.leases import adopt, end_workload, forget_ended_leases, place
from motes.agent.core.limits import Usage as Usage
from motes.agent.core.limits import check_usage, end_idle, expire, relieve
from motes.agent.core.pool import Ask, Call, Work
from motes.agent.core.releases import close_unused, note_failure
from motes.agent.core.running_daemons import daemon_ended, switch_daemon, tick_daemon
from motes.agent.core.starting import after_call, serve, start_in_freed_space, start_some
from motes.agent.core.state import HostState, SpaceView
from motes.agent.core.withdrawal import come_back, end_others, free, get_under, laid_down, serve_others, withdraw
from motes.errors import MotesError, SpaceFailed
from motes.model.call import STATUS_ITEM, Outcome
from motes.model.host import Lease, Offer
from motes.model.instance import EndReason
from motes.model.receipt import Spent
from motes.model.release import Manifest
from motes.model.units import format_bytes

OUTPUT_LIMIT_BYTES = 2**20
"""What one call may write to stdout and stderr."""
CRASHES = {EndReason.CRASHED, EndReason.EXITED, EndReason.RETURNED, EndReason.PROTOCOL, EndReason.TIME_LIMIT, *LIMITS}


class Machine(HostState):
    """One host's agent as a state machine: each `on_...` takes an event and the time and returns effects."""

    # ------------------------------------------------------------------ leases and releases

    def on_lease(self, lease: Lease, now: float) -> list[Effect]:
        """A verified lease for this host. One with an epoch that is not higher than the last is powerless."""
        known = self.leases.get(lease.address)
        last_epoch = self.forgotten_epoch if known is None else known.epoch
        if lease.host != self.host or lease.epoch <= last_epoch or self.stopping:
            return []
        self.leases[lease.address] = lease
        if lease.ceiling > 0 and self.away:
            self.leases[lease.address] = laid_down(lease)
            forget_ended_leases(self)
            return [Report()]
        if lease.ceiling > 0:
            self.meter.note_lease(lease)
        else:
            forget_ended_leases(self)
            return [*end_workload(self, lease.address, EndReason.REMOVED, now), Report()]
        return [*adopt(self, lease, now), Report()]

    def on_release(self, release: str, manifest: Manifest, now: float, owner: bytes = b"") -> list[Effect]:
        """The release's bundle is on this host, checked; `owner` has signed it."""
        self.meter.owners[manifest.app] = owner
        space = self.spaces.setdefault(release, SpaceView())
        space.manifest, space.state, space.last_used = manifest, "absent", now
        space.missing_bytes = 0
        effects: list[Effect] = []
        for lease in list(self.leases.values()):
            if lease.release == release and lease.ceiling > 0:
                effects += place(self, lease, now)
        return effects

    def on_fetching(self, release: str, missing_bytes: int) -> list[Effect]:
        """So much of the release has still to come. Calls that would wait long for it are better off elsewhere."""
        space = self.spaces.get(release)
        if space is None or space.state != "fetching":
            return []
        space.missing_bytes = missing_bytes
        effects: list[Effect] = []
        for address, pool in self.pools.items():
            if pool.lease.release == release and (far_bytes := self.far_bytes(pool)):
                effects += refuse_waiting(self, pool, still_fetching(self, address, far_bytes))
        return effects

    def on_fetch_failed(self, release: str, error: MotesError, now: float) -> list[Effect]:
        """The release could not be had, or its hash or signature does not hold."""
        space = self.spaces.setdefault(release, SpaceView())
        space.state, space.missing_bytes = "unfetched", 0
        if release not in self.wanted_releases():
            return []  # It was given up; whoever gets a lease when it is wanted again fetches it again.
        return note_failure(self, release, space, error, now)

    def on_space_ready(self, release: str, now: float) -> list[Effect]:
        """The zygote has loaded the code: pools that wait for this release go over to it."""
        space = self.spaces[release]
        space.state, space.failures, space.error, space.last_used = "ready", 0, None, now
        effects: list[Effect] = []
        for pool in self.pools.values():
            if pool.lease.release == release:
                effects += serve(self, pool, release, now)
        return effects

    def on_space_failed(self, release: str, error: MotesError, now: float) -> list[Effect]:
        """The space could not be made, or the code could not be loaded in it."""
        space = self.spaces[release]
        space.state = "failed"
        return note_failure(self, release, space, error, now)

    def on_space_closed(self, release: str, detail: str, now: float) -> list[Effect]:
        """A space ended by itself; the ends of its instances were told before."""
        space = self.spaces.get(release)
        if space is None or space.state != "ready":
            return []
        space.state = "failed"
        return note_failure(self, release, space, SpaceFailed(f"the space of release {release} ended: {detail}"), now)

    # ------------------------------------------------------------------ calls

    def on_call(self, call: Call, now: float) -> list[Effect]:
        """A call arrived. One whose id is known joins the one under way."""
        return accept(self, call, now)

    def on_asked_after(self, call_id: bytes, beat: int) -> Outcome | None:
        """What to say of the call to who had heard this heartbeat when he sent it, 0 for none; None: wait for it."""
        return asked_after(self, call_id, beat)

    def on_cancel(self, call_id: bytes, now: float) -> list[Effect]:
        """Nobody waits for the call any more: it leaves the queue, or its instance ends."""
        return give_up(self, call_id, now)

    # ------------------------------------------------------------------ calls that instances make

    def on_ask(self, number: int, wanted: Ask, now: float) -> list[Effect]:
        """An instance calls another function."""
        instance = self.instances.get(number)
        return [] if instance is None or instance.ending else asking.ask(self, instance, wanted, now)

    def on_leave(self, number: int, ask: int, now: float) -> list[Effect]:
        """An instance waits no longer for a call that it made."""
        instance = self.instances.get(number)
        return [] if instance is None else asking.cancel(self, instance, ask, now)

    def on_taken(self, number: int, ask: int, count: int) -> list[Effect]:
        """An instance has taken items of a stream."""
        instance = self.instances.get(number)
        return [] if instance is None else asking.take_items(self, instance, ask, count)

    def on_told(self, asker: Asker, outcome: Outcome, now: float) -> list[Effect]:
        """The answer of this host to a call that one of its instances made."""
        return asking.told(self, asker, outcome, now)

    def on_unread(self, number: int, ask: int, now: float) -> list[Effect]:
        """An instance was not given the answer, for it has not read those before."""
        instance = self.instances.get(number)
        return [] if instance is None else asking.unread(self, instance, ask, now)

    def on_relayed(self, call_id: bytes, outcome: Outcome, now: float) -> list[Effect]:
        """The answer of another host."""
        return asking.relayed(self, call_id, outcome, now)

    def on_not_relayed(self, call_id: bytes, now: float) -> list[Effect]:
        """There is no gateway just now."""
        return asking.not_relayed(self, call_id, now)

    # ------------------------------------------------------------------ instances

    def on_started(self, number: int, pid: int, now: float) -> list[Effect]:
        instance = self.instances.get(number)
        if instance is None:
            return []
        instance.pid, instance.alive = pid, True
        told = told_start(self, instance)
        if instance.is_daemon:
            unit = self.daemons[instance.address]
            return [told, *switch_daemon(self, unit, now)] if unit.next == number else [told]
        self.pools[instance.address].note_started()
        for call in instance.calls_now.values():
            call.began = now
        return [told]

    def on_reply(self, number: int, tag: int, outcome: Outcome, work: Work, now: float) -> list[Effect]:
        """An instance answered a call. It may lie about its work, but not beyond the time that passed."""
        instance = self.instances.get(number)
        call = None if instance is None else instance.calls_now.pop(tag, None)
        if instance is None or call is None:
            return []
        pool = self.pools[instance.address]
        instance.output_bytes = 0
        pool.note_served(min(work.worked_s, now - call.began), instance.note_work(call, work))
        pool.last_call_at = now
        answered: list[Effect] = []
        if call.gone_at is None:
            self.tally(instance.address).note_took(now - call.arrived)
            answered.append(answer(self, call, outcome))
        if instance.asks:
            answered += asking.leave_all(self, instance, now, tag)
        if instance.ending:
            return answered  # It was quicker than its end, which is still to come.
        if instance.leaving is not None:
            return answered if instance.calls_now else [*answered, end(self, instance, instance.leaving)]
        if pool.function is not None and pool.function.reuse != "any":
            if pool.function.reuse == "call" or not call.caller:
                return [*answered, end(self, instance, EndReason.CALL_DONE)]
            return [*answered, *after_call(self, pool, instance, now)]
        return [*answered, *work_on(self, instance, pool, now)]

    def on_item(self, number: int, tag: int, body: bytes) -> list[Effect]:
        """An instance gives one item of a call's stream."""
        instance = self.instances.get(number)
        call = None if instance is None else instance.calls_now.get(tag)
        if instance is None or call is None or instance.ending:
            return []
        if call.window == 0:
            return [end(self, instance, EndReason.PROTOCOL, "it sends items that nobody takes")]
        call.window -= 1
        self.tally(instance.address).out_bytes += len(body)
        call.has_sent_items = True
        return [Answer(tuple(call.replies), Outcome(STATUS_ITEM, body))] if call.gone_at is None else []

    def on_more(self, call_id: bytes, count: int) -> list[Effect]:
        """The caller has taken items of a stream."""
        return take_more(self, call_id, count)

    def on_output(self, number: int, count: int) -> list[Effect]:
        """An instance wrote `count` bytes."""
        instance = self.instances.get(number)
        if instance is None or instance.is_daemon or instance.ending:
            return []
        instance.output_bytes += count
        if instance.output_bytes <= OUTPUT_LIMIT_BYTES:
            return []
        limit = format_bytes(OUTPUT_LIMIT_BYTES)
        return [
            end(self, instance, EndReason.OUTPUT_LIMIT, f"wrote more than {limit} to stdout and stderr in one call")
        ]

    def on_ended(self, number: int, reason: EndReason, detail: str, now: float) -> list[Effect]:
        """An instance is gone; a call it was working on ends with an error that says why."""
        instance = self.instances.pop(number, None)
        if instance is None:
            return []
        self.tally(instance.address).ended_cpu_s += instance.cpu_s
        self.meter.note_ended(instance, now)
        told = Tell("instance.end", reason, instance.address, instance.release, instance.pid, detail)
        if instance.is_daemon:
            return [told, *daemon_ended(self, self.daemons[instance.address], instance, reason, detail, now)]
        pool = self.pools[instance.address]
        instance.ending = True
        pool.note_room(instance)
        pool.drop(instance)
        effects: list[Effect] = [told, *asking.leave_all(self, instance, now)]
        if reason in CRASHES:
            pool.note_crash(now)
        effects += lose_calls(self, pool, instance, reason, detail, now)
        if reason == EndReason.SPACE_FAILED and not instance.alive:
            pool.note_failed_start(detail, now)
            effects += refuse_where_starts_fail(self, pool, now)
        if not pool.instances and pool.lease.ceiling == 0:
            del self.pools[pool.address]
            # Where there is a maximum, others wait for it.
            effects += [Report()] if self.away else []
        effects += [effect for unit in self.daemons.values() for effect in tick_daemon(self, unit, now)]
        return [*effects, *start_in_freed_space(self, pool, now), *close_unused(self, now)]

    # ------------------------------------------------------------------ time

    def on_usage(
        self, usages: Mapping[int, Usage], memory_bytes: int, now: float, shared: Mapping[str, int] | None = None
    ) -> list[Effect]:
        """What the instances use, what all spaces use together, and by app what is of no single instance."""
        self.memory_bytes = memory_bytes
        effects: list[Effect] = []
        for number, usage in usages.items():
            instance = self.instances.get(number)
            if instance is None or (instance.ending and not instance.is_daemon):
                continue  # A daemon that ends may go on for seconds, and is held to its limit in these as well.
            instance.cpu_s, instance.memory_bytes = usage.cpu_s, usage.memory_bytes
            effects += check_usage(self, instance, usage)
        self.meter.note_memory(self.instances.values(), shared or {}, now)
        return [*effects, *relieve(self, now)]

    def cut(self, cpu_s: Mapping[str, float], now: float) -> dict[str, Spent]:
        """By app, what was used since the last cut; `cpu_s` is CPU time since the agent's start."""
        return self.meter.cut(self.tallies, self.instances.values(), cpu_s, now)

    def tick(self, now: float) -> list[Effect]:
        """What only time brings: timeouts, idle ends, further starts. Often while calls wait, else each 250 ms."""
        effects: list[Effect] = []
        for pool in list(self.pools.values()):
            effects += expire(self, pool, now)
            effects += use_free(self, pool, now)
            effects += end_idle(self, pool, now)
            effects += start_some(self, pool, now)
            effects += deadlock.break_one(self, pool, now)
        effects += asking.tick(self, now)
        for unit in self.daemons.values():
            effects += tick_daemon(self, unit, now)
        return [*effects, *end_others(self, now), *get_under(self, now), *close_unused(self, now)]

    # ------------------------------------------------------------------ what the machine's owner decides

    def on_offer(self, offer: Offer, now: float) -> list[Effect]:
        """It lends more or less from now on, or to others; what runs beyond it ends."""
        before, self.offer = self.offer, offer
        others = serve_others(self, now) if offer.serve != before.serve else []
        return [Report(), *others, *get_under(self, now), *relieve(self, now)]

    def on_withdraw(self, why: str, now: float) -> list[Effect]:
        """The owner wants the machine: no new calls; what runs may finish until `on_free`."""
        return withdraw(self, why, now)

    def on_free(self, now: float) -> list[Effect]:
        """The grace is over: everything ends."""
        return free(self, now)

    def on_return(self) -> list[Effect]:
        """It lends again."""
        return come_back(self)

    def on_drain(self, now: float) -> list[Effect]:
        """The host stops: no new calls; what runs may finish (see `is_empty`)."""
        self.stopping = True
        effects: list[Effect] = [Report()]
        for address in list(self.leases):
            effects += end_workload(self, address, EndReason.HOST_STOPPED, now)
        return effects
