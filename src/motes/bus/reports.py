"""What was reported on `report.>`: read only when it is well formed and about who sent it.

NATS lets a host publish in its own name only, but what a message says is the host's choice, and the streams keep
whatever comes. So everybody who reads reports, from a stream or as they come, reads them here.
"""

from __future__ import annotations

from typing import TypeVar

import msgspec

from motes.bus import subjects
from motes.model.bounds import UNREADABLE
from motes.model.instance import Event
from motes.model.keeper import LogLine
from motes.model.names import KEEPER

R = TypeVar("R", Event, LogLine)


def read_report(subject: str, data: bytes, kind: type[R]) -> R | None:
    """The event or log line in a message on `subject`; None for garbage, and for what speaks for another host."""
    try:
        found = msgspec.json.decode(data, type=kind)
    except UNREADABLE:
        return None
    return found if subject in _subjects_of(found) else None


def _subjects_of(found: Event | LogLine) -> tuple[str, ...]:
    if isinstance(found, Event):
        # The controller tells of hosts that are lost.
        return subjects.event(found.host), subjects.event(KEEPER)
    return (subjects.log(found.host, found.app, found.workload),)
