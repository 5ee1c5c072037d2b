"""What the agent's core wants done. The shell (`agent/service.py`) and the simulator carry these out."""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from motes.model.call import Context, Outcome
from motes.model.instance import EndReason
from motes.model.release import Daemon, Function


class Asker(NamedTuple):
    """An instance of this host that waits for a call of its own, and the number that it gave that call."""

    instance: int
    number: int


Reply = str | Asker
"""Where a call's outcome goes: to an inbox, or to an instance of this host."""


class Fetch(msgspec.Struct, frozen=True):
    """Get a release and its bundle from the keeper and check them; `on_release` or `on_fetch_failed` answers."""

    release: str


class Prepare(msgspec.Struct, frozen=True):
    """Make the release's space and load its code; `on_space_ready` or `on_space_failed` answers."""

    release: str


class Close(msgspec.Struct, frozen=True):
    """End the release's space; none of its instances is left."""

    release: str


class Spawn(msgspec.Struct, frozen=True):
    """Fork an instance in the release's space; `on_started`, `on_reply` and `on_ended` tell of it."""

    release: str
    number: int
    function: Function


class Deliver(msgspec.Struct, frozen=True):
    """Give the instance a call's body to work on; `tag` is the call's name between the two."""

    number: int
    tag: int
    body: bytes


class Stop(msgspec.Struct, frozen=True):
    """Tell the instance that nobody waits for this call any more; it answers nonetheless, and soon."""

    number: int
    tag: int


class More(msgspec.Struct, frozen=True):
    """Tell the instance that the caller has taken so many items of the call's stream."""

    number: int
    tag: int
    count: int


class End(msgspec.Struct, frozen=True):
    """Kill the instance; `on_ended` answers with this reason."""

    number: int
    reason: EndReason
    detail: str = ""


class StartDaemon(msgspec.Struct, frozen=True):
    """Make a space and start the daemon in it; `on_started` and `on_ended` tell of it."""

    release: str
    number: int
    daemon: Daemon


class Answer(msgspec.Struct, frozen=True):
    """Send a call's outcome to every one who waits for it; `on_told` is the way to an Asker."""

    replies: tuple[Reply, ...]
    outcome: Outcome


class Inform(msgspec.Struct, frozen=True):
    """Give an instance the outcome, or an item, of the call that it made under this number of its own."""

    number: int
    ask: int
    outcome: Outcome


class Relay(msgspec.Struct, frozen=True):
    """Have the gateway send a call to another host; `on_relayed` or `on_not_relayed` answers."""

    call_id: bytes
    address: str
    body: bytes
    budget_s: float
    context: Context


class RelayCancel(msgspec.Struct, frozen=True):
    """Tell the gateway that nobody waits for a relayed call any more."""

    call_id: bytes


class RelayMore(msgspec.Struct, frozen=True):
    """Tell the gateway that so many items of a relayed call's stream were taken."""

    call_id: bytes
    count: int


class RelayAwait(msgspec.Struct, frozen=True):
    """Tell the gateway which relayed calls are still waited for; those that it knows nothing of it says are lost."""

    call_ids: tuple[bytes, ...]


class Tell(msgspec.Struct, frozen=True):
    """Publish an event; the shell adds the host and the time."""

    what: str
    reason: str
    address: str = ""
    release: str = ""
    pid: int = 0
    detail: str = ""


class Report(msgspec.Struct, frozen=True):
    """Send the host's report now: a lease has changed."""


Calling = Inform | Relay | RelayCancel | RelayMore | RelayAwait
Effect = Fetch | Prepare | Close | Spawn | Deliver | Stop | More | End | StartDaemon | Answer | Calling | Tell | Report
