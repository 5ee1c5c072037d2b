"""Which instances run, by what hosts tell: so that each start that was told gets its end.

Events of a host that is cut off are lost. Its reports say which of its instances live; what is not among them has
ended. A host's messages keep their order, so a report never speaks of an event that is still to come.
"""

from __future__ import annotations

from collections.abc import Iterable

from motes.controller.core.effects import Tell
from motes.model.allowance import Allowance
from motes.model.host import HostReport
from motes.model.instance import EndReason, Event, StartReason

MOST_RUNNING = 10_000
"""Instances of one host that are remembered to be running."""
TOLD_PER_S, TOLD_BURST = 100.0, 2.0 * MOST_RUNNING
"""Starts and ends that are told in one host's place: all that it may have at once, and then so many. What is more than
that it makes up: it is followed, and not told."""


class Running:
    """The last start of every instance that has not ended, by host and pid."""

    def __init__(self) -> None:
        self._by_host: dict[str, dict[int, Tell]] = {}
        self._ended: set[tuple[str, int]] | None = set()
        """Instances that ended before `remember`, which may know their starts; None after it."""
        self._told: dict[str, Allowance] = {}
        """By host, how much may still be told in its place."""

    def note(self, event: Event) -> None:
        """An agent told this."""
        running = self._by_host.setdefault(event.host, {})
        if event.what == "instance.start":
            # A host that tells of more than it can have loses the oldest: these are for the record only.
            if len(running) >= MOST_RUNNING:
                running.pop(next(iter(running)))
            running[event.pid] = _started(event.host, event.app, event.workload, event.release, event.pid)
        elif event.what == "instance.end":
            running.pop(event.pid, None)
            self._note_ended(event.host, [event.pid])

    def remember(self, events: Iterable[Event]) -> None:
        """What was told so far, the oldest first; it may take a while to read, and others tell more meanwhile."""
        begun: dict[tuple[str, int], Tell] = {}
        for event in events:
            if event.what == "instance.start":
                begun[event.host, event.pid] = _started(event.host, event.app, event.workload, event.release, event.pid)
            elif event.what == "instance.end":
                begun.pop((event.host, event.pid), None)
        for (host, pid), start in begun.items():
            if (host, pid) not in (self._ended or ()):
                self._by_host.setdefault(host, {}).setdefault(pid, start)
        self._ended = None

    def hosts(self) -> set[str]:
        """Hosts of which instances are remembered."""
        return set(self._by_host)

    def pids(self, host: str) -> set[int]:
        """What runs on the host, as far as is known."""
        return set(self._by_host.get(host, ()))

    def compare(self, report: HostReport, now: float, *, is_first: bool) -> list[Tell]:
        """Tell the ends, and the starts, that the host could not. Of those before its first report here: no starts."""
        running = self._by_host.setdefault(report.host, {})
        living = {pid: address for address, pids in report.running.items() for pid in pids}
        ended = [running.pop(pid) for pid in running.keys() - living.keys()]
        self._note_ended(report.host, [each.pid for each in ended])
        begun = [
            self._begin(report, living[pid], pid)
            for pid in sorted(living.keys() - running.keys())
            if len(running) < MOST_RUNNING
        ]
        found = [*_ends(ended, EndReason.UNHEARD, "its host was not heard then"), *([] if is_first else begun)]
        return self._bounded(report.host, found, now)

    def _begin(self, report: HostReport, address: str, pid: int) -> Tell:
        app, _, workload = address.partition(".")
        held = report.held.get(address)
        begun = _started(report.host, app, workload, "" if held is None else held.release, pid)
        self._by_host[report.host][pid] = begun
        return begun

    def end_all(self, host: str, now: float) -> list[Tell]:
        """The host is gone, and with it everything that ran there."""
        ended = self._by_host.pop(host, {})
        self._note_ended(host, ended)
        return self._bounded(host, _ends(ended.values(), EndReason.HOST_LOST, "its host"), now)

    def forget(self, now: float) -> None:
        """In whose place nothing was told for so long may have all of it told again, like who was never heard of."""
        self._told = {host: each for host, each in self._told.items() if now - each.at < TOLD_BURST / TOLD_PER_S}

    def _bounded(self, host: str, found: list[Tell], now: float) -> list[Tell]:
        if not found:
            return found
        allowance = self._told.setdefault(host, Allowance(TOLD_PER_S, TOLD_BURST, TOLD_BURST, now))
        return [each for each in found if allowance.take(now)]

    def _note_ended(self, host: str, pids: Iterable[int]) -> None:
        if self._ended is not None:
            self._ended.update((host, pid) for pid in pids)


def _started(host: str, app: str, workload: str, release: str, pid: int) -> Tell:
    return Tell("instance.start", StartReason.BACK, host, app, release, workload, pid)


def _ends(started: Iterable[Tell], reason: EndReason, detail: str) -> list[Tell]:
    return [
        Tell("instance.end", reason, each.host, each.app, each.release, each.workload, each.pid, detail)
        for each in sorted(started, key=lambda each: each.pid)
    ]
