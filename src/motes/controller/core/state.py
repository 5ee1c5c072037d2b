"""What the controller knows: the apps that shall run, the hosts as they report, and the leases it has given."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import msgspec

from motes.controller.core.moves import Moves
from motes.controller.core.steadiness import Steadiness
from motes.model.host import Held, HostReport, Lease, Load
from motes.model.place import OWN
from motes.model.release import Release, Workload
from motes.model.wire import misfit

IsProven = Callable[[str, str, Held], bool]
"""Whether a host (its name) was once given the lease for a workload (its address) that it says it holds."""

FAILED_S = 60.0
"""A host where a workload could not start is a last resort for it for this long."""


class App(msgspec.Struct, frozen=True):
    """A deployed app: its current release."""

    release_id: str
    release: Release


class Absence(msgspec.Struct):
    """Of a host that has joined and is not there."""

    seen_at: float
    """When it was heard last, in Unix time."""
    paused: bool = False


class Host(msgspec.Struct):
    """A host as it last told of itself. `lives` is False from its end or its silence until it is heard again."""

    report: HostReport
    heard_at: float
    lives: bool = True
    lost: bool = False
    """Away for so long that its work was given to others."""
    load: dict[str, Load] = {}
    crowded_since: float | None = None
    """Since when it has been fuller than motes.controller.core.placement.ROOM; None: it is not."""
    roomy_since: float | None = None
    """Since when it has been less full than ROOMY."""
    rivals: set[str] = msgspec.field(default_factory=set)
    """Other starts of an agent in this host's name that were heard since."""
    displaced: bool = False
    """Whether this agent took the name of one that was not known to have ended."""

    def makes_stale(self, report: HostReport) -> bool:
        """Whether the report was sent before what this host has told since."""
        if report.boot == self.report.boot:
            return report.number <= self.report.number
        # A clock may go back between two boots: then the later one counts once the earlier is heard no more.
        return self.lives and report.boot < self.report.boot

    def has_another(self, connection: int, server_id: str) -> bool:
        """Whether a connection of this host, by its server's number, is not the one that it has, as far as is known."""
        is_elsewhere = "" not in (server_id, self.report.server_id) and server_id != self.report.server_id
        return is_elsewhere or (0 not in (connection, self.report.connection) and connection != self.report.connection)

    @property
    def takes_work(self) -> bool:
        return not self.lost and not self.report.draining and not misfit(self.report.wire)


class State:
    """The cluster.

    `leases[host][address]` is the last lease given there; ended ones (ceiling 0) are forgotten once the host has
    confirmed them.
    """

    def __init__(self, epoch: int, is_proven: IsProven) -> None:
        self._is_proven = is_proven
        self.epoch = epoch
        """The last one used; `next_epoch` makes the next. Starts above all of every controller before this one."""
        self.apps: dict[str, App] = {}
        self.hosts: dict[str, Host] = {}
        self.leases: dict[str, dict[str, Lease]] = {}
        self.active: dict[str, float] = {}
        """When a workload without a minimum was last asked for, by address."""
        self.unconfirmed: dict[str, dict[str, int]] = {}
        """By host and address: the highest ceiling given there that its reports have not caught up with."""
        self.failures: dict[tuple[str, str], float] = {}
        """When a host last said that it cannot start a workload, by host and address."""
        self.first_epoch = epoch
        """Leases up to this one were given by controllers before this one."""
        self.inherited: set[str] = set()
        """Hosts that have told what they hold from controllers before this one: only their first word counts. Those
        that are gone as well: whoever has such a name next had no lease before."""
        self.most_given: dict[tuple[str, str], int] = {}
        """The highest ceiling that a host had for a workload, by host and address: it cannot rightly use more."""
        self.lapsed: set[tuple[str, str]] = set()
        """Leases, by host and address, that were in force when their host was lost: others have that work since."""
        self.steadiness = Steadiness()
        self.moves = Moves()
        self.joined: set[str] = set()
        """Hosts that came with an invite; the others are the keeper's own machine's."""
        self.removed: set[str] = set()
        """Hosts that were removed, and are not back by another invite: nothing is heard of them."""
        self.absences: dict[str, Absence] = {}
        """Of those that joined, by name; what it says of one that is there is of earlier."""
        self.sets: dict[str, frozenset[str]] = {}
        """By host, in which sets the cluster's owner has put it."""
        self.drained: set[str] = set()
        """Hosts that the keeper's owner has told to take no new work, whether they are there or not."""

    def next_epoch(self) -> int:
        self.epoch += 1
        return self.epoch

    def takes_work(self, host: str) -> bool:
        """Whether the host and the keeper's owner both want it to."""
        return self.hosts[host].takes_work and host not in self.drained

    def forget(self, host: str) -> None:
        """The host is gone, and whatever was known of it."""
        self.hosts.pop(host, None)
        self.leases.pop(host, None)
        self.unconfirmed.pop(host, None)
        self.failures = {key: at for key, at in self.failures.items() if key[0] != host}
        self.lapsed = {key for key in self.lapsed if key[0] != host}

    def note_failures(self, report: HostReport, now: float) -> None:
        """Remember where starts fail also when the lease is there no more: else the work would come straight back."""
        for address, held in report.held.items():
            if not self.is_deployed(address):
                continue
            if held.failing and held.instances == 0:
                self.failures[report.host, address] = now
            elif held.instances:
                self.failures.pop((report.host, address), None)

    def pardon(self, now: float) -> None:
        """Failures of long ago may be over."""
        self.failures = {key: at for key, at in self.failures.items() if now - at < FAILED_S}

    def inherit(self, report: HostReport) -> None:
        """Take from a host's first word what it can prove that controllers before this one let it use."""
        if report.host in self.inherited:
            return
        self.inherited.add(report.host)
        for address, held in report.held.items():
            is_early = held.epoch <= self.first_epoch and self.is_deployed(address)
            if is_early and self._is_proven(report.host, address, held):
                self.most_given[report.host, address] = held.ceiling

    def is_heir(self, host: str, address: str, held: Held) -> bool:
        """Whether the host may hold this lease from a controller before this one."""
        return held.epoch <= self.first_epoch and 0 < held.ceiling <= self.most_given.get((host, address), 0)

    def forget_others(self, app: str, releases: Iterable[Release]) -> None:
        """Only these releases of the app are left: what was known of workloads that none of them has."""
        known = {f"{app}.{each.name}" for release in releases for each in release.manifest.workloads}

        def is_left(address: str) -> bool:
            return address in known or address.partition(".")[0] != app

        self.most_given = {key: most for key, most in self.most_given.items() if is_left(key[1])}
        self.active = {address: at for address, at in self.active.items() if is_left(address)}
        self.lapsed = {key for key in self.lapsed if is_left(key[1])}

    def forget_all_given(self, host: str) -> None:
        """The host was removed; another may get its name."""
        self.most_given = {key: most for key, most in self.most_given.items() if key[0] != host}

    def pardon_app(self, app: str) -> None:
        """A new release may do better."""
        self.failures = {key: at for key, at in self.failures.items() if key[1].partition(".")[0] != app}

    def workloads(self) -> Iterator[tuple[str, App, Workload]]:
        """Every workload with its address and app."""
        for name, app in self.apps.items():
            for workload in app.release.manifest.workloads:
                yield f"{name}.{workload.name}", app, workload

    def workload(self, app: str, workload: str) -> Workload | None:
        found = self.apps.get(app)
        return None if found is None else found.release.manifest.workload(workload)

    def is_deployed(self, address: str) -> bool:
        app, _, workload = address.partition(".")
        return self.workload(app, workload) is not None

    def lease(self, host: str, address: str) -> Lease | None:
        """The lease in force there, or None."""
        lease = self.leases.get(host, {}).get(address)
        return lease if lease is not None and lease.ceiling > 0 else None

    def standing(self, host: str, address: str) -> Lease | None:
        """The same, but for a lease that has lapsed: its host comes back to work that others have."""
        return None if self.lapsed and (host, address) in self.lapsed else self.lease(host, address)

    def lapse(self, host: str) -> None:
        """The host is lost."""
        self.lapsed |= {(host, address) for address, lease in self.leases.get(host, {}).items() if lease.ceiling > 0}

    def sets_of(self, host: str) -> frozenset[str]:
        return self.sets.get(host, frozenset())

    def is_own(self, host: str) -> bool:
        """Whether the host is the cluster's owner's own: of the keeper's machine, or named so."""
        return host not in self.joined or OWN in self.sets_of(host)

    def holders(self, address: str) -> list[str]:
        """Hosts that are not lost and hold a lease for the workload."""
        return [name for name, host in self.hosts.items() if not host.lost and self.lease(name, address) is not None]

    def boot(self, host: str) -> str:
        """The start of the host's agent that is believed; empty for an unknown host."""
        view = self.hosts.get(host)
        return "" if view is None else view.report.boot

    def held(self, host: str, address: str) -> Held | None:
        """The lease as the host itself reports it."""
        view = self.hosts.get(host)
        return None if view is None else view.report.held.get(address)
