"""One running copy of a workload: its states, and the closed list of reasons for which it starts and ends."""

from __future__ import annotations

from enum import StrEnum

import msgspec

from motes.model.bounds import Count, Number, Short, Size


class InstanceState(StrEnum):
    STARTING = "starting"
    IDLE = "idle"
    BUSY = "busy"
    DRAINING = "draining"
    ENDED = "ended"


class StartReason(StrEnum):
    """Why an instance, a host or a release began."""

    LOAD = "load"
    """Calls waited longer than a start costs."""
    FLOOR = "floor"
    """The workload's minimum."""
    RESTART = "restart"
    """One that crashed is replaced, after its backoff."""
    JOINED = "joined"
    """A host's agent started."""
    BACK = "back"
    """A host that was silent is heard again."""
    DEPLOYED = "deployed"
    UNDRAINED = "undrained"
    """A host that was drained takes work again."""


class EndReason(StrEnum):
    """Why an instance ended."""

    IDLE = "idle"
    CALL_DONE = "call_done"
    """reuse="call": one call, one process."""
    OTHER_CALLER = "other_caller"
    """reuse="caller": it was one caller's, and another's call needed its place."""
    REPLACED = "replaced"
    """A newer release took over."""
    REMOVED = "removed"
    """Its lease ended: the app was removed or the work moved."""
    MISPLACED = "misplaced"
    """Its owner wants it on other hosts (`place`), or the host's owner does not serve it."""
    DRAINED = "drained"
    """The keeper's owner wants a host to take no new work."""
    HOST_STOPPED = "host_stopped"
    WITHDRAWN = "withdrawn"
    """The machine's owner wants it back, lends less of it now, or serves other apps."""
    HOST_LOST = "host_lost"
    DISPLACED = "displaced"
    """Another agent has its host's name: of two, one is the host."""
    UNHEARD = "unheard"
    """It ended while its host could not be heard: why, nobody knows any more."""
    PRESSURE = "pressure"
    """The host is short of what it lends."""
    RETURNED = "returned"
    """The process ended by itself with exit code 0."""
    EXITED = "exited"
    """The process ended by itself with another exit code."""
    CRASHED = "crashed"
    """A signal ended it."""
    CANCELLED = "cancelled"
    """Its caller gave up."""
    TIME_LIMIT = "time_limit"
    MEMORY_LIMIT = "memory_limit"
    PROCESS_LIMIT = "process_limit"
    FILE_LIMIT = "file_limit"
    OUTPUT_LIMIT = "output_limit"
    SPACE_FAILED = "space_failed"
    """Its space could not be made, or ended under it."""
    PROTOCOL = "protocol"
    """It sent the agent something that is no message."""
    NOT_LISTENING = "not_listening"
    """A daemon that did not open its port in time."""


class InstanceReport(msgspec.Struct, frozen=True):
    """An instance as `motes ps` shows it."""

    app: Short
    workload: Short
    release: Short
    host: Short
    pid: Count
    """As the host sees it; 0 while starting."""
    state: InstanceState
    started_at: Number
    """Unix time, seconds."""
    calls: Size
    cpu_s: Number
    memory_bytes: Size
    """Private memory."""


class Event(msgspec.Struct, frozen=True):
    """Something that began or ended, for `motes events`."""

    at: Number
    """Unix time, seconds."""
    what: Short
    """`instance.start`, `instance.end`, `host.up`, `host.away`, `host.drain`, `host.end`, `host.twin`, `app.deployed`,
    `app.removed`, `start.failed`, `reports.dropped`."""
    reason: Short
    """A StartReason or an EndReason."""
    host: Short = ""
    app: Short = ""
    workload: Short = ""
    release: Short = ""
    pid: Count = 0
    detail: str = ""
