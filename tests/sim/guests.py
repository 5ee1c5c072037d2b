"""The process spaces of one simulated host: they do what the machine's effects ask, each thing in its time.

What a call's instance does is written in the call's body, a `Work`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from motes.agent.core.effects import Close, Deliver, End, Prepare, Spawn, StartDaemon, Stop
from motes.agent.core.machine import Usage
from motes.agent.core.pool import Work as WorkDone
from motes.errors import FunctionError, LoadFailed, SpaceFailed
from motes.model.call import STATUS_OK, Outcome, failed
from motes.model.instance import EndReason

if TYPE_CHECKING:
    from sim.hosts import SimHost

PREPARE_S = 0.02
FORK_S = 0.001
KILL_S = 0.0005
DAEMON_START_S = 0.1
IDLE_BYTES = 2**19
BROKEN = "broken"
"""A release whose name contains this cannot be loaded."""


class Work(msgspec.Struct):
    """What a call does to its instance: `do` is reply, raise, exit, crash, hang, shout, grow or threads."""

    call: int
    do: str = "reply"
    seconds: float = 0.01
    cpu: float = 0.0
    """The share of a processor that it keeps busy."""


class Guest(msgspec.Struct):
    """One simulated process."""

    number: int
    address: str
    release: str
    pid: int = 0
    is_daemon: bool = False
    alive: bool = False
    work: dict[int, Work] = {}
    """What it works on, by tag."""
    began: float = 0.0
    cpu_s: float = 0.0


class Guests:
    """Spaces by release, processes by number."""

    def __init__(self, host: SimHost) -> None:
        self._host = host
        self.spaces: dict[str, str] = {}
        """`opening` with a number, or `open`."""
        self._openings = 0
        self.all: dict[int, Guest] = {}

    # ------------------------------------------------------------------ effects

    def prepare(self, effect: Prepare) -> None:
        assert effect.release not in self.spaces, f"space {effect.release} is prepared twice"
        self._openings += 1
        opening = self.spaces[effect.release] = f"opening {self._openings}"
        fails = self._host.temper == "fails spaces" or BROKEN in effect.release
        self._host.at(0.001 if fails else PREPARE_S, lambda: self._opened(effect.release, opening, fails))

    def close(self, effect: Close) -> None:
        inside = [guest for guest in self.all.values() if guest.release == effect.release and not guest.is_daemon]
        assert not inside, f"space {effect.release} is closed over {inside}"
        self.spaces.pop(effect.release, None)

    def spawn(self, effect: Spawn) -> None:
        instance = self._host.machine.instances[effect.number]
        self.all[effect.number] = Guest(effect.number, instance.address, effect.release)
        if self._host.temper == "fails starts" or self.spaces.get(effect.release) != "open":
            self._host.at(FORK_S, lambda: self.end(effect.number, EndReason.SPACE_FAILED, "it cannot fork"))
        else:
            self._host.at(FORK_S, lambda: self._started(effect.number))

    def deliver(self, effect: Deliver) -> None:
        guest = self.all.get(effect.number)
        if guest is not None:
            work = guest.work[effect.tag] = msgspec.json.decode(effect.body, type=Work)
            if guest.alive:
                self._begin(guest, effect.tag, work)

    def stop(self, effect: Stop) -> None:
        """A call is cancelled; one that hangs does not mind."""
        guest = self.all.get(effect.number)
        work = guest.work.get(effect.tag) if guest is not None else None
        if guest is not None and work is not None and work.do != "hang":
            self._host.at(KILL_S, lambda: self._reply(guest, effect.tag, work))

    def start_daemon(self, effect: StartDaemon) -> None:
        instance = self._host.machine.instances[effect.number]
        self.all[effect.number] = Guest(effect.number, instance.address, effect.release, is_daemon=True)
        if self._host.temper == "fails starts" or BROKEN in effect.release:
            reason = EndReason.NOT_LISTENING
            self._host.at(DAEMON_START_S, lambda: self.end(effect.number, reason, "it never listened"))
        else:
            self._host.at(DAEMON_START_S, lambda: self._started(effect.number))

    def kill(self, effect: End) -> None:
        """The process ends a moment later; an answer that it has sent before still comes through."""
        self._host.at(KILL_S, lambda: self.end(effect.number, effect.reason, effect.detail))

    # ------------------------------------------------------------------ what happens then

    def end(self, number: int, reason: EndReason, detail: str = "") -> None:
        if self.all.pop(number, None) is not None:
            machine = self._host.machine
            self._host.feed(machine.on_ended(number, reason, detail, self._host.now))

    def lose_space(self, release: str) -> None:
        """The whole space ends by itself. What is to start in it before that is known does not."""
        if self.spaces.get(release) == "open":
            del self.spaces[release]
            for number in [guest.number for guest in self.all.values() if guest.release == release]:
                self.end(number, EndReason.SPACE_FAILED, "its space has ended")
            self._host.feed(self._host.machine.on_space_closed(release, "killed", self._host.now))

    def measure(self) -> tuple[dict[int, Usage], int]:
        usages = {guest.number: self._usage(guest) for guest in self.all.values() if guest.alive}
        return usages, sum(usage.memory_bytes for usage in usages.values())

    def _opened(self, release: str, opening: str, fails: bool) -> None:
        if self.spaces.get(release) != opening:
            return  # It was closed meanwhile.
        if not fails:
            self.spaces[release] = "open"
            self._host.feed(self._host.machine.on_space_ready(release, self._host.now))
            return
        del self.spaces[release]
        error = LoadFailed("no such module") if BROKEN in release else SpaceFailed("no user namespaces")
        self._host.feed(self._host.machine.on_space_failed(release, error, self._host.now))

    def _started(self, number: int) -> None:
        guest = self.all.get(number)
        if guest is None:
            return
        guest.alive, guest.pid = True, self._host.next_pid()
        self._host.feed(self._host.machine.on_started(number, guest.pid, self._host.now))
        for tag, work in list(guest.work.items()):
            if number in self.all:
                self._begin(guest, tag, work)

    def _begin(self, guest: Guest, tag: int, work: Work) -> None:
        host = self._host
        guest.began = host.now
        host.world.ledger.ran(work.call, host.name)
        if work.do == "shout":
            host.at(work.seconds / 2, lambda: host.feed(host.machine.on_output(guest.number, 2**21)))
        elif work.do in ("exit", "crash"):
            reason = EndReason.EXITED if work.do == "exit" else EndReason.CRASHED
            host.at(work.seconds, lambda: self.end(guest.number, reason))
        if work.do in ("reply", "raise", "shout"):
            host.at(work.seconds, lambda: self._reply(guest, tag, work))

    def _reply(self, guest: Guest, tag: int, work: Work) -> None:
        if guest.number not in self.all or guest.work.pop(tag, None) is None:
            return
        guest.cpu_s += work.cpu * work.seconds
        outcome = failed(FunctionError("ValueError")) if work.do == "raise" else Outcome(STATUS_OK, b"%d" % work.call)
        done = WorkDone(work.seconds, guest.cpu_s, 0.0)
        self._host.feed(self._host.machine.on_reply(guest.number, tag, outcome, done, self._host.now))

    def _usage(self, guest: Guest) -> Usage:
        cpu_s, memory_bytes, threads = guest.cpu_s, IDLE_BYTES, 1
        for work in guest.work.values():
            cpu_s += work.cpu * (self._host.now - guest.began)
            memory_bytes = 2**30 if work.do == "grow" else memory_bytes
            threads = 1_000 if work.do == "threads" else threads
        return Usage(cpu_s, memory_bytes, threads)
