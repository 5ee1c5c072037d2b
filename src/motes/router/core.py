"""Which host gets a call, and what happens when no answer comes. A core: no I/O, no clock, no randomness of its own.

What always holds:
- a call settles exactly once;
- it is sent only to a host that the app's current routes name;
- a call that may have begun is sent again only when its function is idempotent;
- that it has not begun is heard once of each sending, and of no other: hosts say it again, and late;
- what a host says of its load can only make it less likely to be chosen.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeGuard

from motes.errors import BadInput, HostLost, MotesError, NotFound, Overloaded, SpaceFailed, TimedOut, Unavailable
from motes.model.call import (
    FROM_OUTSIDE,
    NEVER_ARRIVED,
    STATUS_HELD,
    STATUS_ITEM,
    STATUS_LOST,
    STATUS_OK,
    STATUS_TRY_ELSEWHERE,
    Context,
    Outcome,
    failed,
    held_bytes,
)
from motes.model.host import SILENCE_S, Beat
from motes.model.release import PAYLOAD_LIMIT_BYTES
from motes.model.routes import Route, Routes
from motes.model.units import format_bytes, format_seconds
from motes.router.effects import Activate, AskAfter, Call, CancelAt, Effect, Hand, MakeRoom, MoreAt, Send, Settle
from motes.router.hosts import Hosts

OWN_CONNECTION = "this program's own connection to the cluster"
MAX_CALLS = 20_000
"""Calls that one router has under way; beyond it `call` answers Overloaded."""
WAIT_S = 30.0
"""How long a call may wait for a host and in queues, on top of its function's timeout, when the caller sets none."""
ACTIVATE_AGAIN_S = 0.5
GRACE_S = 1.0
"""An agent answers at the end of a call's budget; only when that answer stays out for this long the router does."""
HOST_LOST_S = 15.0
"""A call that may not be sent again is given up when its host has been silent for this long: it may be cut off and
come back, with the answer. Sooner when it has left, or is heard to have started anew."""
FORGET_S = 600.0
"""After this a silent host is known no more, as to the controller: at each tick all known ones are looked at."""
NUMBERS_APART = 2**48
"""Within so many, nobody guesses the number of a call's next sending."""
MOST_MISSED = 8
"""So often a call that is said not to have arrived is sent again at once; then its host waits as without a lease."""
MOST_BYTES = 2**53
"""What a host may say that it has still to fetch; a number beyond is none."""
MAX_SPACE_FAILURES = 3
"""A call that so many hosts could not make a space for is given up."""


class Router:
    """Events in, effects out; `random(n)` gives a number from 0 to n-1."""

    def __init__(self, random: Callable[[int], int]) -> None:
        self._random = random
        self.hosts = Hosts(random)
        self.calls: dict[bytes, Call] = {}
        self.waiting: dict[str, dict[bytes, None]] = {}
        """Calls without a host, by app, in their order."""
        self._connected = True
        self._routes: dict[str, Routes] = {}
        self._asked: dict[tuple[str, str], float] = {}

    def route(self, app: str, workload: str) -> Route | None:
        routes = self._routes.get(app)
        return None if routes is None else routes.workloads.get(workload)

    def routes(self, app: str) -> Routes | None:
        return self._routes.get(app)

    # ------------------------------------------------------------------ calls

    def call(
        self,
        call_id: bytes,
        app: str,
        workload: str,
        body: bytes,
        timeout_s: float | None,
        now: float,
        context: Context = FROM_OUTSIDE,
    ) -> list[Effect]:
        """Begin a call; `timeout_s` None takes the function's own timeout plus WAIT_S."""
        if len(self.calls) >= MAX_CALLS:
            return [Settle(call_id, failed(_overloaded(f"this client has {MAX_CALLS} calls under way")))]
        if timeout_s is None:
            route = self.route(app, workload)
            timeout_s = WAIT_S + (route.timeout_s if route else WAIT_S)
        call = self.calls[call_id] = Call(call_id, app, workload, body, now, now + timeout_s, context=context)
        return self._send(call, now)

    def cancel(self, call_id: bytes) -> list[Effect]:
        """The caller gave up: nothing is settled, hosts are told."""
        call = self.calls.get(call_id)
        if call is None:
            return []
        self._forget(call)
        return [CancelAt(host, call_id) for host in call.hosts]

    def on_reply(self, call_id: bytes, number: int, outcome: Outcome, now: float) -> list[Effect]:
        """An agent answered what was sent to it as `number`. For a result it does not matter which one."""
        call = self.calls.get(call_id)
        if call is None:
            return []
        if outcome.status == STATUS_ITEM:
            return [Hand(call_id, outcome.body)]
        if outcome.status == STATUS_HELD:
            if number not in call.sent:
                return []  # Only who has the call now is asked for its result.
            size = min(held_bytes(outcome), PAYLOAD_LIMIT_BYTES)
            return [MakeRoom(call_id, number, size, call.sent[number].host)]
        if outcome.status == STATUS_TRY_ELSEWHERE:
            return self._on_refusal(call, number, outcome, now) if number in call.sent else []
        if outcome.status == STATUS_LOST:
            return self._on_answer_lost(call, number, outcome, now) if number in call.sent else []
        if outcome.status == STATUS_OK and len(call.sent) == 1:
            (sent,) = call.sent.values()
            self.hosts.succeeded(call.address, sent.host)
        return self._settle(call, outcome)

    def more(self, call_id: bytes, count: int) -> list[Effect]:
        """The caller has taken items of a stream, and will take more."""
        call = self.calls.get(call_id)
        return [] if call is None else [MoreAt(host, call_id, count) for host in call.hosts]

    def on_nobody_there(self, call_id: bytes, number: int, now: float) -> list[Effect]:
        """NATS had no subscriber for the host's subject: this sending of the call has not begun."""
        call = self.calls.get(call_id)
        if call is None or number not in call.sent:
            return []
        self.hosts.gone(self._leave(call, number))
        return self._send(call, now)

    def on_unsent(self, call_id: bytes, number: int) -> list[Effect]:
        """The call did not leave this program: it waits, and is sent later."""
        call = self.calls.get(call_id)
        if call is not None and number in call.sent:
            self._leave(call, number)
            if not call.sent:
                self.waiting.setdefault(call.app, {})[call.id] = None
        return []

    # ------------------------------------------------------------------ hosts and routes

    def on_routes(self, routes: Routes, now: float) -> list[Effect]:
        """New routes of an app; older ones are ignored."""
        known = self._routes.get(routes.app)
        if known is not None and known.epoch > routes.epoch:
            return []
        if not routes.workloads:
            self._routes.pop(routes.app, None)
            self.hosts.forget_app(routes.app)
            return self._retry_waiting(routes.app, now)
        self._routes[routes.app] = routes
        for name, route in routes.workloads.items():
            before = known.workloads[name].hosts if known is not None and name in known.workloads else ()
            for host in route.hosts:
                self.hosts.listed(host, now)
                if before and host not in before:
                    self.hosts.is_new(f"{routes.app}.{name}", host, now)
        self.hosts.changed()
        return self._retry_waiting(routes.app, now)

    def on_refused(self, app: str, workload: str, error: MotesError) -> list[Effect]:
        """The controller refused to activate: every waiting call of the workload ends with `error`."""
        self._asked.pop((app, workload), None)
        calls = [self.calls[call_id] for call_id in self.waiting.get(app, ())]
        mine = [call for call in calls if call.workload == workload]
        return [effect for call in mine for effect in self._settle(call, failed(error))]

    def on_beat(self, beat: Beat, now: float) -> list[Effect]:
        """A host lives, and says how busy it is. One that has started anew has lost the calls that it had."""
        if self.hosts.is_late(beat):
            return []
        is_new_start, is_back = self.hosts.is_new_start(beat), self.hosts.has_new_connection(beat)
        revived = self.hosts.heard(beat, now)
        effects: list[Effect] = []
        if is_new_start:
            effects = self._on_lost(beat.host, now, give_up=True)
        elif is_back:
            # Answers that were lost are on their way again, and were sent before this.
            effects = [
                AskAfter(beat.host, call.id, number, sent.heard)
                for call in self.calls.values()
                if len(call.sent) == 1
                for number, sent in call.sent.items()
                if sent.host == beat.host
            ]
        return [*effects, *self._retry_all(now)] if revived else effects

    def _retry_all(self, now: float) -> list[Effect]:
        return [effect for app in list(self.waiting) for effect in self._retry_waiting(app, now)]

    def on_host_gone(self, host: str, now: float, for_good: bool = False) -> list[Effect]:
        """The host's connection broke. What may run twice is sent elsewhere, the rest waits for the host to return."""
        self.hosts.gone(host)
        return self._on_lost(host, now, give_up=for_good, move=True)

    def on_disconnected(self, now: float) -> list[Effect]:
        """This router's own connection broke: what was sent may or may not have begun, and answers are lost.

        Calls that were not sent yet, or may be sent again, wait for `on_connected`.
        """
        self._connected = False
        return [
            effect
            for call in list(self.calls.values())
            for number in list(call.sent)
            for effect in self._resend_or_give_up(call, number, now, give_up=True, whose=OWN_CONNECTION)
        ]

    def on_connected(self, now: float) -> list[Effect]:
        """The connection is back: hosts are given a second to be heard again."""
        self._connected = True
        self.hosts.heard_nobody_until(now)
        return [effect for app in list(self.waiting) for effect in self._retry_waiting(app, now)]

    def tick(self, now: float) -> list[Effect]:
        """What only time brings; call it every 100 ms or so while `calls` is not empty."""
        effects: list[Effect] = []
        for host, silent_s in self.hosts.silent(now, SILENCE_S) if self._connected else ():
            effects += self._on_lost(host, now, give_up=silent_s >= HOST_LOST_S)
            if silent_s >= FORGET_S:
                self.hosts.forget(host)
        for call in list(self.calls.values()):
            if now >= call.deadline and (not call.sent or now >= call.deadline + GRACE_S):
                effects += self._on_overdue(call, now)
        for app in list(self.waiting):
            effects += self._retry_waiting(app, now)
        return effects

    # ------------------------------------------------------------------ how

    def _send(self, call: Call, now: float) -> list[Effect]:
        route = self.route(call.app, call.workload)
        if route is not None and route.kind != "function":
            message = f"it is a {route.kind}, not a function: it is reached over HTTP, at its own address"
            return self._settle(call, failed(BadInput(message)))
        host = None
        if route is not None and self._connected:
            host = self.hosts.choose(call.address, route.hosts, call.passed, now)
        if host is None:
            return self._wait_or_refuse(call, now)
        # A host that had a call before knows its inboxes up to then, and must not refuse it in another's place.
        call.number += 1 + (self._random(NUMBERS_APART) if call.number else 0)
        call.sent[call.number] = self.hosts.sent(call.address, host)
        budget_s = max(call.deadline - now, 0.001)
        return [Send(host, call.id, call.number, call.app, call.workload, call.body, budget_s, call.context)]

    def _wait_or_refuse(self, call: Call, now: float) -> list[Effect]:
        if call.last is not None and (call.passed or call.space_failures >= MAX_SPACE_FAILURES):
            return self._settle(call, call.last)
        self.waiting.setdefault(call.app, {})[call.id] = None
        return self._activate(call, now) if self._connected else []

    def _activate(self, call: Call, now: float) -> list[Effect]:
        key = (call.app, call.workload)
        if now < self._asked.get(key, float("-inf")) + ACTIVATE_AGAIN_S:
            return []
        self._asked[key] = now
        return [Activate(*key)]

    def _retry_waiting(self, app: str, now: float) -> list[Effect]:
        waiting = self.waiting.pop(app, {})
        return [effect for call_id in waiting for effect in self._send(self.calls[call_id], now)]

    def _on_refusal(self, call: Call, number: int, outcome: Outcome, now: float) -> list[Effect]:
        error = outcome.error()
        host = self._leave(call, number)
        if isinstance(error, HostLost) and error.detail.get(NEVER_ARRIVED) and call.missed < MOST_MISSED:
            call.missed += 1  # Whoever there is may have it, that host as well.
        elif isinstance(error, NotFound | HostLost):
            # What it had taken, and may be run again, waits like what it never took.
            self.hosts.holds_no_lease(call.address, host, now)
        elif isinstance(error, SpaceFailed) and _is_count(missing_bytes := error.detail.get("fetching_bytes")):
            self.hosts.fetches(call.address, host, missing_bytes)
        elif isinstance(error, SpaceFailed):
            self.hosts.failed(call.address, host, now)
            call.space_failures += 1
            call.last = outcome
        else:
            call.passed.append(host)
            call.last = outcome
        # A later sending that is under way is waited for.
        return [] if any(later > number for later in call.sent) else self._send(call, now)

    def _on_answer_lost(self, call: Call, number: int, outcome: Outcome, now: float) -> list[Effect]:
        """The host cannot say how the call ended, and never will. One that says so always is not asked all the time."""
        if self._may_run_twice(call):
            self.hosts.holds_no_lease(call.address, self._leave(call, number), now)
            return [] if call.sent else self._send(call, now)
        return self._settle(call, failed(_unknown(call, call.sent[number].host, outcome.error().message)))

    def _on_lost(self, host: str, now: float, give_up: bool, move: bool = False) -> list[Effect]:
        """`move`: what may be sent again leaves the host now, also when nothing else is given up yet."""
        lost = [
            (call, number) for call in self.calls.values() for number, sent in call.sent.items() if sent.host == host
        ]
        return [
            effect
            for call, number in lost
            for effect in self._resend_or_give_up(call, number, now, give_up or (move and self._may_run_twice(call)))
        ]

    def _may_run_twice(self, call: Call) -> bool:
        route = self.route(call.app, call.workload)
        return route is not None and route.idempotent

    def _resend_or_give_up(self, call: Call, number: int, now: float, give_up: bool, whose: str = "") -> list[Effect]:
        if call.id not in self.calls:
            return []
        host = call.sent[number].host
        route = self.route(call.app, call.workload)
        if route is not None and route.idempotent:
            if not give_up and (len(call.sent) > 1 or not self.hosts.another(call.address, route.hosts, host, now)):
                return []
            if give_up:
                self._leave(call, number)
            return [] if call.sent and give_up else self._send(call, now)
        if not give_up:
            return []
        connection = whose or f"the connection to host {host!r}"
        why = f"{connection} broke after the call was sent, so whether it ran is unknown"
        return self._settle(call, failed(_unknown(call, host, why)))

    def _on_overdue(self, call: Call, now: float) -> list[Effect]:
        waited_s = call.deadline - call.began
        if call.sent:
            for host in call.hosts:
                self.hosts.failed(call.address, host, now)
            error: MotesError = TimedOut(
                f"{call.address}: no answer within {format_seconds(waited_s)}", timeout_s=waited_s
            )
        elif call.last is not None:
            return self._settle(call, call.last)
        elif fetching := self._fetching(call):
            message = f"{call.address}: not begun within {format_seconds(waited_s)}: {fetching}; try again later"
            error = TimedOut(message, timeout_s=waited_s)
        else:
            error = Unavailable(
                f"{call.address}: no host could take the call within {format_seconds(waited_s)} "
                "(see `motes host ls` and `motes events`)",
                retry_after_s=1,
            )
        return self._settle(call, failed(error))

    def _fetching(self, call: Call) -> str:
        """In words, which hosts have still to fetch what the call needs; empty for none."""
        route = self.route(call.app, call.workload)
        missing = self.hosts.fetching(call.address, route.hosts if route is not None else ())
        words = (
            f"host {host!r} is still fetching what it needs ({format_bytes(missing[host])} to come)" for host in missing
        )
        return ", ".join(words)

    def _settle(self, call: Call, outcome: Outcome) -> list[Effect]:
        self._forget(call)
        others: list[Effect] = [CancelAt(host, call.id) for host in call.hosts] if len(call.sent) > 1 else []
        return [Settle(call.id, outcome), *others]

    def _forget(self, call: Call) -> None:
        del self.calls[call.id]
        for sent in call.sent.values():
            self.hosts.ended(call.address, sent.host)
        self.waiting.get(call.app, {}).pop(call.id, None)

    def _leave(self, call: Call, number: int) -> str:
        """This sending is over; returns to which host it was."""
        host = call.sent.pop(number).host
        self.hosts.ended(call.address, host)
        return host


def _unknown(call: Call, host: str, why: str) -> HostLost:
    message = f"{call.address}: {why} (declare the function idempotent=True to have such calls sent again)"
    return HostLost(message, host=host)


def _overloaded(why: str) -> Overloaded:
    return Overloaded(f"too much at once: {why}; try again in a second", retry_after_s=1)


def _is_count(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and 0 < value <= MOST_BYTES
