"""What the agent's core wants done. The shell (`agent/service.py`) and the simulator carry these out."""

from __future__ import annotations

import msgspec

from motes.model.call import Outcome
from motes.model.instance import EndReason
from motes.model.release import Daemon, Function


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
    """Send a call's outcome to every one who waits for it."""

    replies: tuple[str, ...]
    outcome: Outcome


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


Effect = Fetch | Prepare | Close | Spawn | Deliver | Stop | More | End | StartDaemon | Answer | Tell | Report
