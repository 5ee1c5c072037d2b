"""A simulated host: the real Machine, with the habits of agent/service.py around it.

`temper` is `good`, or how the host misbehaves: `fails spaces`, `fails starts`, `boasts` (claims that it is idle).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from motes.agent.core.effects import (
    Answer,
    Close,
    Deliver,
    Effect,
    End,
    Fetch,
    Prepare,
    Report,
    Spawn,
    StartDaemon,
    Stop,
    Tell,
)
from motes.agent.core.machine import Machine
from motes.agent.core.pool import START_COST_S, Call
from motes.model.call import Heard, Outcome
from motes.model.host import BEAT_INTERVAL_S, REPORT_INTERVAL_S, Beat, HostReport, Lease, Load, Offer
from motes.model.instance import Event
from sim.guests import Guests

if TYPE_CHECKING:
    from sim.world import World

SOON_MAX_S = 0.02
FETCH_S = 0.01
FETCH_TIMEOUT_S = 1.0
PINGS_S = 10.0
"""Answers that are older have certainly come: no cut takes so long to be noticed."""
GRACE_S = 3.0
"""Of the calls that run on a host that stops, lends less or serves others."""
WITHDRAW_S = 1.0
"""The same where its owner is back: shorter than calls may take here, so that some are cut."""
FREE_S, UNDER_S = 0.1, 0.5
"""Within so long after it is over, everything is gone, or what is too much of it."""


class SimHost:
    def __init__(self, world: World, name: str, offer: Offer) -> None:
        self.world = world
        self.name = name
        self.offer = offer
        self.temper = "good"
        self.lives = False
        self.boots = 0
        self._pids = 0
        self._frozen = False
        self._late: list[Callable[[], object]] = []
        self._most, self._under_at = 0, float("-inf")

    @property
    def now(self) -> float:
        return self.world.clock.now

    @property
    def boot(self) -> str:
        return f"{self.name}#{self.boots:06}"

    # ------------------------------------------------------------------ life and death

    def start(self) -> None:
        if self.name in self.world.buried:
            return
        self.boots += 1
        self.lives, self._frozen, self._late = True, False, []
        self.machine: Machine = self.world.kinds.machine(self.name, self.offer)
        self.guests = Guests(self)
        self._reports = 0
        self._unsent: list[tuple[str, str, Outcome]] = []
        self._sent: list[tuple[float, str, str, Outcome]] = []
        self._beats, self._reported_at, self._soon, self._soon_s = 0, float("-inf"), False, START_COST_S
        self.world.network.up(self.name)
        self._connection = self.world.network.connections(self.name)
        self.world.checks.host_started(self)
        boot = self.boots
        self._beat()
        self._report()
        self.world.clock.every(BEAT_INTERVAL_S, lambda: self._periodic(boot))

    def kill(self) -> None:
        """The host ends at once, and everything on it."""
        self.lives = False
        self.boots += 1
        self.world.host_cut(self.name)

    def stop(self) -> None:
        """Its owner stops it in order: no new calls, then it leaves."""
        self.feed(self.machine.on_drain(self.now))
        self.at(GRACE_S, self._leave)

    def withdraw(self) -> None:
        """Its owner wants the machine: what runs has WITHDRAW_S."""
        self.take(self._withdraw)

    def _withdraw(self) -> None:
        self.world.checks.host_withdraws(self)
        self.feed(self.machine.on_withdraw("its owner is here", self.now))
        self.at(WITHDRAW_S, self._free)

    def _free(self) -> None:
        """Unless it lends again by now."""
        if self.machine.away:
            self.feed(self.machine.on_free(self.now))
            self.at(FREE_S, lambda: self.machine.away and self.world.checks.host_is_free(self))

    def come_back(self) -> None:
        """Its owner has gone."""
        self.take(lambda: self.machine.away and self.feed(self.machine.on_return()))

    def lend(self, spaces: int) -> None:
        """It lends more or less than before."""
        self.take(lambda: self._lend(spaces))

    def _lend(self, spaces: int) -> None:
        self._most, self._under_at = self.most_spaces(), self.now + GRACE_S + UNDER_S
        self.offer = msgspec.structs.replace(self.offer, spaces=spaces)
        self.feed(self.machine.on_offer(self.offer, self.now))

    def serve(self, *apps: str) -> None:
        """It serves these apps only; none: all."""
        self.take(lambda: self._serve(apps))

    def _serve(self, apps: tuple[str, ...]) -> None:
        self.offer = msgspec.structs.replace(self.offer, serve=apps)
        self.world.checks.host_serves(self)
        self.feed(self.machine.on_offer(self.offer, self.now))
        self.at(GRACE_S + UNDER_S, lambda: self.offer.serve == apps and self.world.checks.host_has_no_others(self))

    def most_spaces(self) -> int:
        """What may be in use: shortly after it lends less, still what it lent before."""
        return max(self.offer.spaces, self._most) if self.now < self._under_at else self.offer.spaces

    def _leave(self) -> None:
        self.world.network.send(self.name, "keeper", lambda: self.world.keeper.on_left(self.name))
        self.lives = False
        self.boots += 1
        self.world.clock.after(0.2, lambda: self.lives or self.world.host_cut(self.name))

    def freeze(self, seconds: float) -> None:
        """Handle nothing for a while, then everything that came meanwhile, with a state that is old by then."""
        if self.lives and not self._frozen:
            self._frozen, boot = True, self.boots
            self.world.clock.after(seconds, lambda: self._thaw(boot))

    def _thaw(self, boot: int) -> None:
        if self.boots == boot:
            self._frozen = False
            self._under_at = max(self._under_at, self.now + UNDER_S)
            late, self._late = self._late, []
            for action in late:
                if self.boots == boot:
                    action()

    def take(self, action: Callable[[], object]) -> None:
        """Something reaches the agent: now, or when it is no longer frozen, or never when it has ended."""
        if self._frozen:
            self._late.append(action)
        elif self.lives:
            action()

    def at(self, delay_s: float, action: Callable[[], object]) -> None:
        """Something happens on this host in a while, unless it has ended by then."""
        boot = self.boots
        self.world.clock.after(delay_s, lambda: self.take(action) if self.boots == boot else None)

    def next_pid(self) -> int:
        self._pids += 1
        return self._pids

    # ------------------------------------------------------------------ messages

    def on_call(self, call_id: bytes, address: str, body: bytes, budget_s: float, reply: str) -> None:
        caller = self.world.callers[reply.partition("/")[0]].identity(call_id)
        call = Call(call_id, address, body, self.now, self.now + budget_s, [reply], caller=caller)
        self.feed(self.machine.on_call(call, self.now))

    def on_lease(self, lease: Lease) -> None:
        if lease.boot not in ("", self.boot):
            return  # As in agent/membership.py; here nobody else has this host's name.
        self.world.checks.lease_arrives(self, lease)
        self.feed(self.machine.on_lease(lease, self.now))
        self.world.checks.lease_arrived(self, lease)

    def on_cancel(self, call_id: bytes) -> None:
        self.feed(self.machine.on_cancel(call_id, self.now))

    # ------------------------------------------------------------------ effects

    def feed(self, effects: Sequence[Effect]) -> None:
        for effect in effects:
            self.world.checks.host_does(self, effect)
            self._do(effect)
        self.world.checks.host_is(self)
        if not self._soon and self.machine.has_waiting():
            self._soon = True
            self.at(self._soon_s, self._tick_soon)

    def _do(self, effect: Any) -> None:
        guests = self.guests
        match effect:
            case Answer():
                self._answer(effect)
            case Deliver():
                guests.deliver(effect)
            case Stop():
                guests.stop(effect)
            case Spawn():
                guests.spawn(effect)
            case End():
                guests.kill(effect)
            case Fetch():
                self.at(FETCH_S, lambda: self._fetched(effect.release))
            case Prepare():
                guests.prepare(effect)
            case Close():
                guests.close(effect)
            case StartDaemon():
                guests.start_daemon(effect)
            case Tell():
                self._tell(effect)
            case Report():
                self._report()

    def _answer(self, effect: Answer) -> None:
        for reply in effect.replies:
            assert isinstance(reply, str)
            self._answer_one(*reply.split("/"), effect.outcome)

    def _answer_one(self, caller: str, token: str, outcome: Outcome) -> None:
        party = self.world.callers[caller]
        if not self._unsent and self.world.network.is_up(self.name):
            self.world.network.send(self.name, caller, lambda: party.on_reply(token, outcome), frail=True)
            self._sent.append((self.now, caller, token, outcome))
        else:
            self._unsent.append((caller, token, outcome))

    def on_asked_after(self, call_id: bytes, heard: Heard, reply: str) -> None:
        """As in agent/hearing.py."""
        outcome = self.machine.on_asked_after(call_id, heard.number if heard.boot == self.boot else 0)
        if outcome is not None:
            self._answer_one(*reply.split("/"), outcome)

    def _send_again(self) -> None:
        """As agent/sending.py does: what the server may not have got of the old connection goes over the new one."""
        if not self.world.network.is_up(self.name):
            return
        connection, last = self.world.network.connections(self.name), self._connection
        self._connection = connection
        self._sent = [sent for sent in self._sent if sent[0] >= self.now - PINGS_S]
        again = [] if connection == last else [(caller, token, outcome) for _, caller, token, outcome in self._sent]
        unsent, self._unsent = [*again, *self._unsent], []
        for answer in unsent:
            self._answer_one(*answer)

    def _tell(self, effect: Tell) -> None:
        app, _, workload = effect.address.partition(".")
        reason = str(effect.reason)
        event = Event(
            self.now, effect.what, reason, self.name, app, workload, effect.release, effect.pid, effect.detail
        )
        self.world.network.send(self.name, "keeper", lambda: self.world.keeper.on_event(event))

    def _fetched(self, release: str) -> None:
        found = self.world.keeper.fetch(self.name, release)
        if isinstance(found, Exception):
            failure = found
            self.at(FETCH_TIMEOUT_S, lambda: self.feed(self.machine.on_fetch_failed(release, failure, self.now)))
        else:
            self.feed(self.machine.on_release(release, found, self.now))

    # ------------------------------------------------------------------ time

    def _tick_soon(self) -> None:
        self._soon = False
        for number, usage in self.guests.measure()[0].items():
            instance = self.machine.instances.get(number)
            if instance is not None and instance.calls_now:
                instance.cpu_s = usage.cpu_s
        self.feed(self.machine.tick(self.now))
        self._soon_s = min(self._soon_s * 1.5, SOON_MAX_S) if self.machine.has_waiting() else START_COST_S

    def _periodic(self, boot: int) -> bool:
        if self.boots != boot or not self.lives:
            return False
        if not self._frozen:
            self._beat_once()
        return True

    def _beat_once(self) -> None:
        usages, memory_bytes = self.guests.measure()
        self.feed(self.machine.on_usage(usages, memory_bytes, self.now))
        self.feed(self.machine.tick(self.now))
        self._send_again()
        self._beat()
        if self.now - self._reported_at >= REPORT_INTERVAL_S:
            self._report()

    def _beat(self) -> None:
        self._beats += 1
        self.machine.answered.on_beat(self._beats, self.now)
        load = self.machine.load()
        if self.temper == "boasts":
            load = {address: Load(-1_000, 0, 1_000) for address in load}
        beat = Beat(self.name, self.boot, self._beats, load, self.world.network.connections(self.name))
        for party in (*self.world.callers.values(), self.world.keeper):
            self._send_beat(party, beat)

    def _send_beat(self, party: Any, beat: Beat) -> None:
        self.world.network.send(self.name, party.name, lambda: party.on_beat(beat), lossy=True, twice=True)

    def _report(self) -> None:
        self._reported_at = self.now
        self._reports += 1
        machine = self.machine
        report = HostReport(
            host=self.name,
            boot=self.boot,
            pid=self.boots,
            offer=machine.offer,
            python="3.11",
            draining=machine.draining,
            away=machine.away,
            spaces_used=machine.spaces_used(),
            memory_bytes=machine.memory_bytes,
            held=machine.held(self.now),
            number=self._reports,
            running=machine.running(),
        )
        self.world.network.send(self.name, "keeper", lambda: self.world.keeper.on_report(report), lossy=True)
