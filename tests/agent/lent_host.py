"""A Machine under test with a host around it that does at once what the machine asks, unless a test says otherwise."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from motes.agent.core.effects import Answer, Deliver, Effect, End, Fetch, Prepare, Spawn, StartDaemon, Tell
from motes.agent.core.machine import Machine
from motes.agent.core.pool import Call, Work
from motes.errors import MotesError
from motes.model.call import STATUS_OK, Context, Outcome
from motes.model.caller import NOBODY
from motes.model.host import Lease, Offer
from motes.model.instance import EndReason
from motes.model.release import Function, Manifest, Workload

DONE = Outcome(STATUS_OK, b"1")
CALLER = ("ada", "")
"""Whose calls are, unless a test says otherwise."""

_ids = itertools.count(1)


def function(name: str = "f", **more: object) -> Function:
    return Function(name, "app", name, **more)  # type: ignore[arg-type]


class LentHost:
    """`by_hand` names the effects that the test answers itself."""

    def __init__(self, *workloads: Workload, offer: Offer | None = None, by_hand: Sequence[type] = ()) -> None:
        self.machine = Machine("h", offer or Offer(cpus=2.0, spaces=100))
        self.now = 0.0
        self.by_hand = tuple(by_hand)
        self.manifests = {"r1": Manifest("app", workloads or (function(),))}
        self.effects: list[Effect] = []
        self._epoch = 0

    # ------------------------------------------------------------------ what happens to the host

    def lease(
        self,
        name: str = "f",
        ceiling: int = 100,
        floor: int = 0,
        release: str = "r1",
        epoch: int | None = None,
        app: str = "app",
    ) -> None:
        self._epoch += 1
        lease = Lease("h", app, name, release, ceiling, floor, self._epoch if epoch is None else epoch)
        self.do(self.machine.on_lease(lease, self.now))

    def call(
        self,
        name: str = "f",
        budget_s: float = 30.0,
        body: bytes = b"x",
        call_id: bytes | None = None,
        caller: str | None = CALLER[0],
        through: tuple[str, ...] = (),
        app: str = "app",
    ) -> bytes:
        """The reply subject is the call's id, so that `answers` tells what came of it; `caller` None is nobody."""
        call_id = call_id or next(_ids).to_bytes(16)
        call = Call(call_id, f"{app}.{name}", body, self.now, self.now + budget_s, [call_id.hex()])
        call.caller = (caller, "") if caller is not None else NOBODY
        call.context = Context(through)
        self.do(self.machine.on_call(call, self.now))
        return call_id

    def cancel(self, call_id: bytes) -> None:
        self.do(self.machine.on_cancel(call_id, self.now))

    def reply(self, number: int, outcome: Outcome = DONE, cpu_s: float = 0.0, tag: int | None = None) -> None:
        """It worked on its oldest call, or on that of `tag`, from the time it got it until now."""
        calls = self.machine.instances[number].calls_now
        tag = next(iter(calls), 0) if tag is None else tag
        worked_s = self.now - calls[tag].began if tag in calls else 0.0
        self.do(self.machine.on_reply(number, tag, outcome, Work(worked_s, cpu_s, None), self.now))

    def end(self, number: int, reason: EndReason, detail: str = "") -> None:
        self.do(self.machine.on_ended(number, reason, detail, self.now))

    def wait(self, seconds: float) -> None:
        """Time goes by in one step."""
        self.now += seconds
        self.do(self.machine.tick(self.now))

    def do(self, effects: Sequence[Effect]) -> None:
        for effect in effects:
            self.effects.append(effect)
            if not isinstance(effect, self.by_hand):
                self.do(self._carry_out(effect))

    def _carry_out(self, effect: Effect) -> list[Effect]:
        machine = self.machine
        match effect:
            case Fetch():
                return machine.on_release(effect.release, self.manifests[effect.release], self.now)
            case Prepare():
                return machine.on_space_ready(effect.release, self.now)
            case Spawn() | StartDaemon():
                return machine.on_started(effect.number, effect.number + 1000, self.now)
            case End():
                return machine.on_ended(effect.number, effect.reason, effect.detail, self.now)
        return []

    # ------------------------------------------------------------------ what the test asks

    def seen(self, kind: type) -> list[Effect]:
        return [effect for effect in self.effects if isinstance(effect, kind)]

    def live(self, name: str = "f") -> list[int]:
        return [n for n, each in self.machine.instances.items() if each.address == f"app.{name}" and not each.ending]

    def busy(self, name: str = "f") -> list[int]:
        return [number for number in self.live(name) if self.machine.instances[number].calls_now]

    def answers(self, call_id: bytes) -> list[Outcome]:
        return [each.outcome for each in self.effects if isinstance(each, Answer) and call_id.hex() in each.replies]

    def error(self, call_id: bytes) -> MotesError:
        (outcome,) = self.answers(call_id)
        return outcome.error()

    def ends(self) -> list[str]:
        return [str(each.reason) for each in self.effects if isinstance(each, Tell) and each.what == "instance.end"]

    def starts(self) -> list[str]:
        return [str(each.reason) for each in self.effects if isinstance(each, Tell) and each.what == "instance.start"]

    def delivered(self) -> list[int]:
        return [each.number for each in self.effects if isinstance(each, Deliver)]
