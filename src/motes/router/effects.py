"""What the router decides, for its shell to carry out, and the call it decides about."""

from __future__ import annotations

import msgspec

from motes.model.call import FROM_OUTSIDE, Context, Heard, Outcome


class Send(msgspec.Struct, frozen=True):
    """Send the call to the host's agent."""

    host: str
    call_id: bytes
    number: int
    """Which sending of the call it is."""
    app: str
    workload: str
    body: bytes
    budget_s: float
    context: Context = FROM_OUTSIDE


class CancelAt(msgspec.Struct, frozen=True):
    """Tell the host's agent that nobody waits for the call any more."""

    host: str
    call_id: bytes


class Activate(msgspec.Struct, frozen=True):
    """Ask the controller for the app's routes, and for a host that holds a lease for the workload."""

    app: str
    workload: str


class Settle(msgspec.Struct, frozen=True):
    """Hand the outcome to the caller."""

    call_id: bytes
    outcome: Outcome


class Hand(msgspec.Struct, frozen=True):
    """Hand one item of the call's stream to the caller; it is not the last."""

    call_id: bytes
    item: bytes


class MoreAt(msgspec.Struct, frozen=True):
    """Tell the host's agent that so many items of the call's stream were taken."""

    host: str
    call_id: bytes
    count: int


class AskAfter(msgspec.Struct, frozen=True):
    """Ask the host's agent what has become of this sending of the call; `heard` as in Sent."""

    host: str
    call_id: bytes
    number: int
    heard: Heard


class MakeRoom(msgspec.Struct, frozen=True):
    """A host holds a large result for the call: say `more` when there is room for it."""

    call_id: bytes
    number: int
    size: int
    host: str


Effect = Send | CancelAt | Activate | Settle | Hand | MoreAt | AskAfter | MakeRoom


class Sent(msgspec.Struct, frozen=True):
    """One sending of a call: to which host, and the last that had been heard of that before."""

    host: str
    heard: Heard


class Call(msgspec.Struct):
    """A call under way. What was `sent` may run; `passed` have refused it."""

    id: bytes
    app: str
    workload: str
    body: bytes
    began: float
    deadline: float
    sent: dict[int, Sent] = {}
    """By number, which rises from 1 on; one that is known to be over has left."""
    number: int = 0
    """Of the last sending."""
    passed: list[str] = []
    last: Outcome | None = None
    context: Context = FROM_OUTSIDE
    space_failures: int = 0
    missed: int = 0
    """How often it is said not to have arrived."""

    @property
    def address(self) -> str:
        return f"{self.app}.{self.workload}"

    @property
    def hosts(self) -> list[str]:
        """Those that may run it."""
        return [sent.host for sent in self.sent.values()]
