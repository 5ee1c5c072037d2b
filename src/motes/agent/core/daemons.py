"""One daemon on one host: which instance serves, which is coming, and when to start again."""

from __future__ import annotations

from motes.model.host import LONGEST_FAILING, Held, Lease
from motes.model.instance import EndReason
from motes.model.release import Daemon

BACKOFF_S = 0.1
BACKOFF_MAX_S = 30.0
RAN_WELL_S = 10.0
"""A daemon that ran for this long starts again at once."""


class DaemonUnit:
    """`number` is the instance that serves, `next` one that is being started, perhaps of a newer release."""

    def __init__(self, lease: Lease, daemon: Daemon) -> None:
        self.lease = lease
        self.daemon = daemon
        self.number: int | None = None
        self.next: int | None = None
        self.release = ""
        """The release of the instance that serves."""
        self.next_release = ""
        self.up_since = 0.0
        self.failures = 0
        self.not_before = 0.0
        self.failing = ""

    @property
    def address(self) -> str:
        return self.lease.address

    @property
    def is_up(self) -> bool:
        return self.number is not None

    def is_due(self, now: float) -> bool:
        """Whether an instance should be started now."""
        if self.lease.ceiling == 0 or self.next is not None or now < self.not_before:
            return False
        return self.number is None or self.release != self.lease.release

    def starting(self, number: int, release: str) -> None:
        self.next, self.next_release = number, release

    def up(self, now: float) -> int | None:
        """The one being started serves; returns the number of the one it replaces, if any."""
        old, self.number, self.next = self.number, self.next, None
        self.release, self.up_since, self.failing = self.next_release, now, ""
        return old

    def ended(self, number: int, reason: EndReason, detail: str, now: float) -> None:
        """An instance of it is gone: count it, and wait longer each time one ends soon after its start."""
        serving = number == self.number
        if serving:
            self.number = None
        elif number == self.next:
            self.next = None
        else:
            return
        if serving and now - self.up_since >= RAN_WELL_S:
            self.failures = 0
        self.failing = f"{reason.value}: {detail}" if detail else reason.value
        self.not_before = now + (min(BACKOFF_S * 2**self.failures, BACKOFF_MAX_S))
        self.failures = min(self.failures + 1, 16)

    def held(self) -> Held:
        up = int(self.is_up)
        wanted = max(self.lease.ceiling, 0)
        failing = "" if up else self.failing[:LONGEST_FAILING]
        lease = self.lease
        return Held(lease.epoch, self.release, lease.ceiling, up, wanted, 0, 0.0, failing, lease.proof, lease.floor)
