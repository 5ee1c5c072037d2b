"""How much of what hosts tell is taken: bounded for each host and second, so that none keeps the controller from the
others, and none fills what is kept. A core.

Over the bound, log messages and events are dropped, and an event says how many. A report that comes too soon after
others, or after so much, waits for a later turn, or until a newer one takes its place: nothing of it is lost. It waits
unread, for reading one of some MB and comparing it takes longer than the time between two.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from motes.controller.core.effects import Tell
from motes.controller.core.state import State
from motes.model.allowance import Allowance
from motes.model.instance import EndReason

if TYPE_CHECKING:
    from motes.bus.connection import Message

LOGS_PER_S, LOGS_BURST = 500.0, 1_000.0
"""An agent sends at most 400 (see motes.agent.logs)."""
EVENTS_PER_S, EVENTS_BURST = 200.0, 2_000.0
REPORTS_PER_S, REPORTS_BURST = 50.0, 200.0
REPORT_BYTES_PER_S, REPORT_BYTES_BURST = 2.0**20, 2.0**23
"""A report of a thousand workloads has about 0.1 MB."""
BEATS_PER_S, BEATS_BURST = 20.0, 100.0
BATCHES_PER_S, BATCHES_BURST = 150.0, 2_000.0
"""Of usage: a thousand apps of one host make 100 a second."""
TELL_INTERVAL_S = 1.0
TOLD_BY_HOSTS = frozenset({"instance.start", "instance.end", "start.failed"})
"""Of everything else the controller tells."""
WHILE_LOADING = "load"
"""Logs show under this name what an app writes while it is loaded."""


class _Sender:
    """What one host may send now, and what of its was dropped since that was last told."""

    def __init__(self, now: float) -> None:
        self.logs = Allowance(LOGS_PER_S, LOGS_BURST, LOGS_BURST, now)
        self.events = Allowance(EVENTS_PER_S, EVENTS_BURST, EVENTS_BURST, now)
        self.reports = Allowance(REPORTS_PER_S, REPORTS_BURST, REPORTS_BURST, now)
        self.report_bytes = Allowance(REPORT_BYTES_PER_S, REPORT_BYTES_BURST, REPORT_BYTES_BURST, now)
        self.beats = Allowance(BEATS_PER_S, BEATS_BURST, BEATS_BURST, now)
        self.batches = Allowance(BATCHES_PER_S, BATCHES_BURST, BATCHES_BURST, now)
        self.late: Message | None = None
        self.dropped = {"log messages": 0, "events": 0}

    def take(self, allowance: Allowance, kind: str, now: float) -> bool:
        taken = allowance.take(now)
        self.dropped[kind] += not taken
        return taken


class Intake:
    """One for all hosts; their names are those that NATS vouches for."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._senders: dict[str, _Sender] = {}
        self._told_at = float("-inf")

    def takes_log(self, host: str, now: float) -> bool:
        """Whether one more log message of this host is taken; asked before it is read."""
        sender = self._sender(host, now)
        return sender.take(sender.logs, "log messages", now)

    def takes_event(self, host: str, now: float) -> bool:
        """The same for an event that is to be kept."""
        sender = self._sender(host, now)
        return sender.take(sender.events, "events", now)

    def takes_batch(self, host: str, now: float) -> bool:
        """The same for a batch of usage; one that is not taken is sent again."""
        return self._sender(host, now).batches.take(now)

    def takes_beat(self, host: str, now: float) -> bool:
        return self._sender(host, now).beats.take(now)

    def takes_report(self, host: str, report: Message, now: float) -> bool:
        """Whether to read the report at once; else `late` gives it, or a newer one, at a later turn."""
        sender = self._sender(host, now)
        in_time = sender.reports.take(now) and sender.report_bytes.take(now, len(report.data))
        sender.late = None if in_time else report
        return in_time

    def may_log(self, host: str, app: str, workload: str) -> bool:
        """Whether the host was given this workload: nobody else knows what it writes."""
        if workload != WHILE_LOADING:
            return (host, f"{app}.{workload}") in self._state.most_given
        found = self._state.apps.get(app)
        workloads = () if found is None else found.release.manifest.workloads
        return any((host, f"{app}.{each.name}") in self._state.most_given for each in workloads)

    def late(self, now: float) -> list[Message]:
        """The newest report of each host whose last one came too soon, and which may send as much by now."""
        found: list[Message] = []
        for sender in self._senders.values():
            if sender.late is not None and sender.report_bytes.take(now, len(sender.late.data)):
                found.append(sender.late)
                sender.late = None
        return found

    def tick(self, now: float) -> list[Tell]:
        """What was dropped, once in TELL_INTERVAL_S."""
        if now - self._told_at < TELL_INTERVAL_S:
            return []
        self._told_at = now
        told = [_told(host, sender.dropped) for host, sender in self._senders.items() if any(sender.dropped.values())]
        # Who has not sent anything for so long has its whole allowance again.
        self._senders = {host: sender for host, sender in self._senders.items() if now - sender.beats.at < 60.0}
        for sender in self._senders.values():
            sender.dropped = dict.fromkeys(sender.dropped, 0)
        return told

    def _sender(self, host: str, now: float) -> _Sender:
        sender = self._senders.get(host)
        if sender is None:
            sender = self._senders[host] = _Sender(now)
        return sender


def _told(host: str, dropped: dict[str, int]) -> Tell:
    what = " and ".join(f"{count} {kind}" for kind, count in dropped.items() if count)
    limits = f"a host may send {LOGS_PER_S:.0f} log messages and {EVENTS_PER_S:.0f} events a second"
    return Tell("reports.dropped", EndReason.OUTPUT_LIMIT, host, detail=f"{what} of it were not kept: {limits}")
