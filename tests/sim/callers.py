"""A simulated caller: the real Router, with the habits of router/dispatcher.py, and the ledger of all calls."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import msgspec

from motes.errors import EngineError, MotesError, NotFound
from motes.model.call import STATUS_OK, STATUS_TRY_ELSEWHERE, Outcome, inbox_token, read_inbox_token
from motes.model.caller import NOBODY, Caller
from motes.model.host import Beat
from motes.model.routes import Routes
from motes.router.core import GRACE_S, Router
from motes.router.effects import Activate, AskAfter, CancelAt, Effect, Send, Settle
from sim.guests import Work

if TYPE_CHECKING:
    from sim.world import World

TICK_S = 0.1


@dataclass
class Entry:
    """One call, from its caller's first word to the outcome."""

    number: int
    address: str
    idempotent: bool
    began: float
    timeout_s: float
    ran_on: list[str] = field(default_factory=list)
    outcome: Outcome | None = None
    took_s: float = float("inf")
    cancelled: bool = False

    @property
    def succeeded(self) -> bool:
        return self.outcome is not None and self.outcome.status == STATUS_OK

    @property
    def error(self) -> MotesError | None:
        return None if self.outcome is None or self.succeeded else self.outcome.error()


class Ledger:
    """Every call that was made, and what became of it."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.entries: dict[int, Entry] = {}

    def ran(self, number: int, host: str) -> None:
        """An instance begins to work on the call."""
        entry = self.entries[number]
        entry.ran_on.append(host)
        self._world.checks.that(
            entry.idempotent or len(entry.ran_on) == 1, f"call {number} of {entry.address} ran on {entry.ran_on}"
        )

    def settled(self, number: int, outcome: Outcome) -> None:
        entry, checks = self.entries[number], self._world.checks
        checks.that(entry.outcome is None, f"call {number} settles twice")
        checks.that(not entry.cancelled, f"call {number} settles after its caller gave up")
        late_s = self._world.clock.now - entry.began - entry.timeout_s
        checks.that(late_s <= GRACE_S + 2 * TICK_S, f"call {number} settles {late_s:.2f} s after its time")
        if outcome.status == STATUS_TRY_ELSEWHERE:
            refused = isinstance(outcome.error(), NotFound)
            checks.that(not refused, f"call {number} is told that one host holds no lease: {outcome.error()}")
        entry.outcome, entry.took_s = outcome, self._world.clock.now - entry.began

    def open(self) -> list[Entry]:
        return [entry for entry in self.entries.values() if entry.outcome is None and not entry.cancelled]


class SimCaller:
    def __init__(self, world: World, name: str) -> None:
        self._world = world
        self.name = name
        self.router: Router = world.kinds.router(world.chance.randrange)
        self._ticking = False
        self._number = 0
        world.network.up(name)

    @property
    def now(self) -> float:
        return self._world.clock.now

    # ------------------------------------------------------------------ what a program does

    def call(self, app: str, workload: str, timeout_s: float, *, idempotent: bool, **work: object) -> Entry:
        ledger = self._world.ledger
        number = len(ledger.entries)
        entry = ledger.entries[number] = Entry(number, f"{app}.{workload}", idempotent, self.now, timeout_s)
        body = msgspec.json.encode(msgspec.convert({"call": number, **work}, Work))
        self._carry_out(self.router.call(_call_id(number), app, workload, body, timeout_s, self.now))
        if not self._ticking:
            self._ticking = True
            self._world.clock.every(TICK_S, self._tick)
        return entry

    def identity(self, call_id: bytes) -> Caller:
        """Whom the agents take its calls for: every seventh is nobody's."""
        return (self.name, "") if call_id[-1] % 7 else NOBODY

    def cancel(self, entry: Entry) -> None:
        if entry.outcome is None:
            entry.cancelled = True
            self._carry_out(self.router.cancel(_call_id(entry.number)))

    def cancel_if_mine(self, entry: Entry) -> None:
        if _call_id(entry.number) in self.router.calls:
            self.cancel(entry)

    def cut(self) -> None:
        """Its connection breaks."""
        self._world.network.down(self.name)
        self.disconnected()

    def join(self) -> None:
        """Its connection is back, when the server is there."""
        self._world.network.up(self.name)
        if self._world.network.is_up(self.name):
            self.reconnected()

    def disconnected(self) -> None:
        self._carry_out(self.router.on_disconnected(self.now))

    def reconnected(self) -> None:
        self._carry_out(self.router.on_connected(self.now))

    # ------------------------------------------------------------------ messages

    def on_reply(self, token: str, outcome: Outcome) -> None:
        call_id, number, _ = read_inbox_token(token)
        self._carry_out(self.router.on_reply(call_id, number, outcome, self.now))

    def on_beat(self, beat: Beat) -> None:
        self._carry_out(self.router.on_beat(beat, self.now))

    def on_host_gone(self, host: str) -> None:
        self._carry_out(self.router.on_host_gone(host, self.now))

    def on_routes(self, routes: Routes) -> None:
        self._carry_out(self.router.on_routes(routes, self.now))

    def _tick(self) -> bool:
        self._carry_out(self.router.tick(self.now))
        self._ticking = bool(self.router.calls)
        return self._ticking

    # ------------------------------------------------------------------ effects

    def _carry_out(self, effects: Sequence[Effect]) -> None:
        for effect in effects:
            if isinstance(effect, Send):
                self._send(effect)
            elif isinstance(effect, Settle):
                self._world.ledger.settled(int.from_bytes(effect.call_id), effect.outcome)
            elif isinstance(effect, Activate):
                self._activate(effect)
            elif isinstance(effect, AskAfter):
                self._ask_after(effect)
            else:
                self._cancel_at(effect)

    def _send(self, effect: Send) -> None:
        host = self._world.hosts[effect.host]
        address, reply = f"{effect.app}.{effect.workload}", f"{self.name}/{inbox_token(effect.call_id, effect.number)}"
        self._world.network.send(
            self.name,
            effect.host,
            lambda: host.take(lambda: host.on_call(effect.call_id, address, effect.body, effect.budget_s, reply)),
            nobody=lambda: self._carry_out(self.router.on_nobody_there(effect.call_id, effect.number, self.now)),
        )

    def _ask_after(self, effect: AskAfter) -> None:
        host = self._world.hosts[effect.host]
        reply = f"{self.name}/{inbox_token(effect.call_id, effect.number, asks=True)}"
        self._world.network.send(
            self.name,
            effect.host,
            lambda: host.take(lambda: host.on_asked_after(effect.call_id, effect.heard, reply)),
        )

    def _cancel_at(self, effect: CancelAt) -> None:
        host = self._world.hosts[effect.host]
        self._world.network.send(self.name, effect.host, lambda: host.take(lambda: host.on_cancel(effect.call_id)))

    def _activate(self, effect: Activate) -> None:
        keeper, network = self._world.keeper, self._world.network

        def ask() -> None:
            answer = keeper.activate(effect.app, effect.workload)
            network.send("keeper", self.name, lambda: self._activated(effect, answer))

        network.send(self.name, "keeper", ask)

    def _activated(self, effect: Activate, answer: Routes | MotesError) -> None:
        if isinstance(answer, Routes):
            self.on_routes(answer)
        elif not isinstance(answer, EngineError):
            self._carry_out(self.router.on_refused(effect.app, effect.workload, answer))


def _call_id(number: int) -> bytes:
    return number.to_bytes(16)
