"""What the controller hears of hosts: checked and counted, followed by the core, and kept when it is a log or an event.

NATS vouches for the host in a subject; what a message says is the host's choice.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec

from motes.bus import subjects
from motes.bus.connection import Message
from motes.bus.reports import read_report
from motes.controller.intake import TOLD_BY_HOSTS, Intake
from motes.model.bounds import UNREADABLE
from motes.model.host import Beat, HostReport, Offer
from motes.model.instance import Event
from motes.model.keeper import LogLine
from motes.model.names import HOST_PREFIX
from motes.model.wire import Greeting, Welcome, misfit

if TYPE_CHECKING:
    from motes.controller.service import Controller

LOG_HEARD_BYTES = 32 * 2**10
"""A longer message is no log message of an agent (see motes.agent.logs)."""
MOST_COMPARED = 100_000
"""Instances that a host may say it has: all of them are compared with what it said before."""
EVENT_BYTES = 128 * 2**10
"""What is longer is no event of an agent: their longest detail is a traceback (see motes.space.replies)."""
TEXT_LENGTH = 4 * 2**10
"""Characters of one log message, or of an event's detail, that are kept."""

_greetings = msgspec.msgpack.Decoder(Greeting)
_reports = msgspec.msgpack.Decoder(HostReport)
_beats = msgspec.msgpack.Decoder(Beat)


def read_state(data: bytes) -> HostReport:
    """A host's report; of one in a version that this keeper does not work with, who it is. Raises DecodeError."""
    greeting = _greetings.decode(data)
    if not misfit(greeting.wire):
        report = _reports.decode(data)
        if sum(map(len, report.running.values())) > MOST_COMPARED:
            raise msgspec.DecodeError(f"a host with over {MOST_COMPARED} instances")
        return report
    nothing = Offer(cpus=0.0, memory_bytes=0, spaces=0)
    told = HostReport(greeting.host, greeting.boot, greeting.pid, nothing, "")
    return msgspec.structs.replace(told, wire=greeting.wire, version=greeting.version, number=time.monotonic_ns())


class Hearing:
    """The ears of one controller."""

    def __init__(self, controller: Controller) -> None:
        self._controller = controller
        self._intake = Intake(controller.core.state)

    async def start(self) -> None:
        """Hear from now on."""
        for subject, handler in (
            (subjects.state("*"), self._on_report),
            (subjects.beat("*"), self._on_beat),
            (subjects.event("*"), self._on_event),
            (subjects.log("*", "*", "*"), self._on_log),
            (subjects.usage("*"), self._on_usage),
        ):
            await self._controller.connection.subscribe(subject, self._unless_removed(handler))

    def _unless_removed(self, handler: Callable[[Message], None]) -> Callable[[Message], None]:
        """NATS lets in no more who was removed, but where somebody else is its operator."""
        removed = self._controller.core.state.removed

        def hear(message: Message) -> None:
            host = message.subject.split(".", 2)[1]
            if host not in removed:
                handler(message)
            elif message.reply.startswith(f"{subjects.inbox(HOST_PREFIX + host)}."):
                refusal = Welcome(f"host {host!r} was removed from this cluster; forget it there: motes leave")
                self._controller.connection.publish(message.reply, msgspec.msgpack.encode(refusal))

        return hear

    def tick(self) -> None:
        """Reports that came too soon, and what was dropped."""
        controller = self._controller
        for message in self._intake.late(controller.now()):
            self._read(message)
        controller.carry_out(self._intake.tick(controller.now()))

    def _on_report(self, message: Message) -> None:
        if self._intake.takes_report(message.subject.split(".")[1], message, self._controller.now()):
            self._read(message)

    def _read(self, message: Message) -> None:
        controller = self._controller
        with contextlib.suppress(*UNREADABLE):
            report = read_state(message.data)
            if message.subject == subjects.state(report.host):
                self._take(report)
                # An agent that has just started waits to be known.
                if message.reply.startswith(f"{subjects.inbox(HOST_PREFIX + report.host)}."):
                    welcome = msgspec.structs.replace(controller.core.welcome(report), now=time.time())
                    controller.connection.publish(message.reply, msgspec.msgpack.encode(welcome))

    def _take(self, report: HostReport) -> None:
        """What a host is told for it is told no oftener than it is looked at: that is longer than the report."""
        controller = self._controller
        controller.succession.on_heard(report.host, report.boot)
        controller.withdrawn.on_heard(report.host)
        controller.carry_out(controller.core.on_report(report, controller.now()))

    def _on_beat(self, message: Message) -> None:
        controller = self._controller
        host = message.subject.split(".")[1]
        with contextlib.suppress(*UNREADABLE):
            if self._intake.takes_beat(host, controller.now()):
                beat = _beats.decode(message.data)
                if beat.host == host:
                    controller.carry_out(controller.core.on_beat(beat, controller.now()))

    def _on_event(self, message: Message) -> None:
        event = read_report(message.subject, message.data, Event) if len(message.data) <= EVENT_BYTES else None
        # The controller hears itself as well.
        if event is None or message.subject != subjects.event(event.host) or event.what not in TOLD_BY_HOSTS:
            return
        controller = self._controller
        controller.core.on_event(event)
        if self._intake.takes_event(event.host, controller.now()):
            kept = msgspec.structs.replace(event, detail=event.detail[:TEXT_LENGTH])
            controller.store.add_event(event.host, msgspec.json.encode(kept))

    def _on_usage(self, message: Message) -> None:
        host = message.subject.split(".")[1]
        if self._intake.takes_batch(host, self._controller.now()):
            self._controller.receipts.take(host, message)

    def _on_log(self, message: Message) -> None:
        controller = self._controller
        _, host, _, app, workload = message.subject.split(".")
        is_too_long = len(message.data) > LOG_HEARD_BYTES
        if is_too_long or not self._intake.may_log(host, app, workload):
            return
        if self._intake.takes_log(host, controller.now()):
            line = read_report(message.subject, message.data, LogLine)
            if line is not None:
                kept = msgspec.structs.replace(line, text=line.text[:TEXT_LENGTH])
                controller.store.add_log(app, msgspec.msgpack.encode(kept))
