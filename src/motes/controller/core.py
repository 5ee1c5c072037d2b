"""The controller's core: reports, deployments and time in; leases, routes and events out. No I/O, no clock.

What always holds:
- epochs only rise, also from one controller to the next;
- the ceilings of a workload with a maximum, over all hosts that are not lost, never sum to more than it;
- a workload is routed only to hosts whose lease for it is in force;
- a controller that has just started takes nothing away: until it has heard the hosts, routers keep what they know.
"""

from __future__ import annotations

import msgspec

from motes.controller.placement import ranked_hosts, why_nowhere
from motes.controller.plan import confirm, plan, plan_workload
from motes.controller.state import App, Host, State
from motes.errors import NotFound, Unavailable
from motes.model.host import REPORT_INTERVAL_S, SILENCE_S, Beat, HostReport, HostStatus, Lease
from motes.model.instance import EndReason, Event, StartReason
from motes.model.keeper import AppSummary
from motes.model.release import Daemon, Function, Release, Workload
from motes.model.routes import Route, Routes

SETTLE_S = 2 * REPORT_INTERVAL_S
"""A new controller first hears from every host what it holds before it plans, unless nothing was deployed before."""
LOST_S = 2.0
"""A host that was away for this long has lost its work to others."""
FORGET_S = 600.0
"""A lost host is listed for this long."""
MOST_RUNNING = 10_000
"""Instances of one host that are remembered to be running."""


class Give(msgspec.Struct, frozen=True):
    """Sign the lease and send it to its host."""

    lease: Lease


class Publish(msgspec.Struct, frozen=True):
    """Tell the routers."""

    routes: Routes


class Tell(msgspec.Struct, frozen=True):
    """Publish an event; the shell adds the time."""

    what: str
    reason: StartReason | EndReason
    host: str = ""
    app: str = ""
    release: str = ""
    workload: str = ""
    pid: int = 0
    detail: str = ""


Effect = Give | Publish | Tell


class Core:
    """The cluster's state and what follows from each event."""

    def __init__(self, epoch: int, settled_at: float = float("-inf")) -> None:
        self.state = State(epoch)
        self._settled_at = settled_at
        self._ticked_at = float("-inf")
        self._published: dict[str, Routes] = {}
        self._running: dict[str, dict[int, Event]] = {}
        """The start events of instances that have not ended, by host and pid: they end with their host."""

    # ------------------------------------------------------------------ hosts

    def on_report(self, report: HostReport, now: float) -> list[Effect]:
        """A host tells of itself; a new boot holds nothing of what an earlier one held."""
        self.state.note_failures(report, now)
        known = self.state.hosts.get(report.host)
        if known is None or known.report.boot != report.boot:
            load = {} if known is None else known.load
            self.state.hosts[report.host] = Host(report, now, load=load)
            ended = self._end_instances(report.host)
            joined = Tell("host.up", StartReason.JOINED, report.host, pid=report.pid)
            return [*ended, joined, *self._catch_up(report.host, now)]
        was_away = not known.lives
        known.report, known.heard_at, known.lives, known.lost = report, now, True, False
        back: list[Effect] = [Tell("host.up", StartReason.BACK, report.host, pid=report.pid)] if was_away else []
        return [*back, *self._catch_up(report.host, now)]

    def on_beat(self, beat: Beat, now: float) -> list[Effect]:
        """A host lives."""
        host = self.state.hosts.get(beat.host)
        if host is None or host.report.boot != beat.boot:
            return []
        host.heard_at, host.load = now, beat.load
        for address, load in beat.load.items():
            if (load.busy or load.queued) and self.state.is_deployed(address):
                self.state.active[address] = now
        if host.lives:
            return []
        host.lives, host.lost = True, False
        return [Tell("host.up", StartReason.BACK, beat.host), *self._replan(now)]

    def on_gone(self, host: str, now: float) -> list[Effect]:
        """The host's connection broke. It may come back within LOST_S and keep its work."""
        known = self.state.hosts.get(host)
        if known is None or not known.lives:
            return []
        known.lives = False
        known.heard_at = min(known.heard_at, now)
        return [Tell("host.end", EndReason.HOST_LOST, host, detail="its connection broke"), *self._publish(now)]

    def on_left(self, host: str, now: float) -> list[Effect]:
        """The host was stopped in order, by its owner."""
        known = self.state.hosts.get(host)
        if known is None:
            return []
        self.state.forget(host)
        ended = self._end_instances(host)
        return [*ended, Tell("host.end", EndReason.HOST_STOPPED, host), *self._replan(now)]

    def on_event(self, event: Event) -> None:
        """Follow what agents tell of instances, so that a lost host's instances are reported to have ended."""
        running = self._running.setdefault(event.host, {})
        if event.what == "instance.start":
            # A host that tells of more than it can have loses the oldest: these are for the record only.
            if len(running) >= MOST_RUNNING:
                running.pop(next(iter(running)))
            running[event.pid] = msgspec.structs.replace(event, detail="")
        elif event.what == "instance.end":
            running.pop(event.pid, None)

    # ------------------------------------------------------------------ apps

    def on_deployed(self, release_id: str, release: Release, now: float) -> list[Effect]:
        """A new app, or a new release of one."""
        self.state.apps[release.app] = App(release_id, release)
        self.state.pardon_app(release.app)
        told = Tell("app.deployed", StartReason.DEPLOYED, app=release.app, release=release_id)
        return [told, *self._replan(now)]

    def on_removed(self, app: str, now: float) -> list[Effect]:
        removed = self.state.apps.pop(app, None)
        if removed is None:
            return []
        self.state.pardon_app(app)
        self.state.forget_given(app)
        for workload in removed.release.manifest.workloads:
            self.state.active.pop(f"{app}.{workload.name}", None)
        return [Tell("app.removed", EndReason.REMOVED, app=app, release=removed.release_id), *self._replan(now)]

    def on_activate(self, app: str, workload: str, now: float) -> tuple[Routes, list[Effect]]:
        """Somebody wants to call this workload: lease it where it is not. Raises NotFound or Unavailable."""
        found = self._find(app, workload)
        address = f"{app}.{workload}"
        self.state.active[address] = now
        wanted = found.release.manifest.workload(workload)
        assert wanted is not None
        if now < self._settled_at:
            if not self.state.holders(address):
                raise Unavailable("the controller has just started and is waiting to hear from the hosts")
            return self._current(app), []
        lost = self._lose_silent_holders(address)
        leases = plan_workload(self.state, address, found, wanted, now)
        if not self.state.holders(address) and not ranked_hosts(self.state, address, wanted):
            raise why_nowhere(self.state, address, wanted)
        given: list[Effect] = [Give(lease) for lease in leases]
        published = self._publish(now)
        return self._current(app), [*lost, *given, *published]

    def routes(self, app: str) -> Routes:
        """The app's routes now. Raises NotFound."""
        if app not in self.state.apps:
            raise NotFound(f"there is no app {app!r} (see `motes apps`)")
        return self._current(app)

    # ------------------------------------------------------------------ time

    def tick(self, now: float) -> list[Effect]:
        """Once a second or so: hosts that fell silent, ceilings that should move, functions that fall asleep."""
        effects: list[Effect] = []
        if now - self._ticked_at >= SILENCE_S:
            self._excuse(now)
        self._ticked_at = now
        self.state.pardon(now)
        for name, host in list(self.state.hosts.items()):
            silent_s = now - host.heard_at
            if host.lives and silent_s >= SILENCE_S:
                host.lives = False
                effects.append(Tell("host.end", EndReason.HOST_LOST, name, detail=f"silent for {silent_s:.1f} s"))
            if not host.lives and not host.lost and silent_s >= LOST_S:
                effects += self._lose(name)
            if host.lost and silent_s >= FORGET_S:
                self.state.forget(name)
        return [*effects, *self._replan(now)]

    def statuses(self) -> list[HostStatus]:
        """Every host, for `motes host ls`."""
        return [_status(name, host) for name, host in sorted(self.state.hosts.items())]

    def summaries(self) -> list[AppSummary]:
        """Every app, for `motes apps`."""
        return [self._summary(name, app) for name, app in sorted(self.state.apps.items())]

    def has_taken_over(self, address: str, release: str) -> bool:
        """Whether calls go to this release: a daemon's serves somewhere, a function's older instances serve nowhere."""
        app, _, name = address.partition(".")
        holders = [host for host in self.state.holders(address) if self.state.hosts[host].lives]
        if isinstance(self.state.workload(app, name), Daemon):
            helds = [self.state.held(host, address) for host in holders]
            return any(held is not None and held.instances > 0 and held.release == release for held in helds)
        return not any(self._serves_older(host, address, release) for host in holders)

    def _serves_older(self, host: str, address: str, release: str) -> bool:
        held, lease = self.state.held(host, address), self.state.lease(host, address)
        if lease is None:
            return False
        if held is None or held.epoch < lease.epoch:
            return True  # What it reported was before it knew of the release.
        return held.instances > 0 and held.release not in ("", release)

    # ------------------------------------------------------------------ how

    def _summary(self, name: str, app: App) -> AppSummary:
        instances, failing = 0, {}
        for workload in app.release.manifest.workloads:
            address = f"{name}.{workload.name}"
            for host in self.state.holders(address):
                held = self.state.held(host, address)
                instances += held.instances if held is not None else 0
                if held is not None and held.failing:
                    failing[workload.name] = f"{host}: {held.failing}"
        return AppSummary(name, app.release_id, app.release.created_at, app.release.manifest, instances, failing)

    def _find(self, app: str, workload: str) -> App:
        found = self.state.apps.get(app)
        if found is None:
            raise NotFound(f"there is no app {app!r} (see `motes apps`)")
        if found.release.manifest.workload(workload) is None:
            names = ", ".join(sorted(each.name for each in found.release.manifest.workloads))
            raise NotFound(f"app {app!r} has no function {workload!r}; it has: {names}")
        return found

    def _catch_up(self, host: str, now: float) -> list[Effect]:
        again: list[Effect] = [Give(lease) for lease in confirm(self.state, host, now)]
        return [*again, *self._replan(now)]

    def _replan(self, now: float) -> list[Effect]:
        leases = plan(self.state, now) if now >= self._settled_at else []
        return [*(Give(lease) for lease in leases), *self._publish(now)]

    def _excuse(self, now: float) -> None:
        """This controller itself was cut off or stood still: nobody's silence meanwhile counts."""
        for host in self.state.hosts.values():
            if host.lives:
                host.heard_at = now

    def _lose_silent_holders(self, address: str) -> list[Effect]:
        """A caller waits, and every holder is away: they lose their work now, not after LOST_S."""
        holders = self.state.holders(address)
        if any(self.state.hosts[host].lives for host in holders):
            return []
        return [effect for host in holders for effect in self._lose(host)]

    def _lose(self, name: str) -> list[Effect]:
        self.state.hosts[name].lost = True
        return self._end_instances(name)

    def _end_instances(self, host: str) -> list[Effect]:
        return [
            Tell(
                "instance.end",
                EndReason.HOST_LOST,
                host,
                event.app,
                event.release,
                event.workload,
                event.pid,
                "its host",
            )
            for event in self._running.pop(host, {}).values()
        ]

    def _publish(self, now: float) -> list[Effect]:
        """The routes that are not what the routers were last told."""
        effects: list[Effect] = []
        if now < self._settled_at:
            return effects
        for app in [*self.state.apps, *(gone for gone in list(self._published) if gone not in self.state.apps)]:
            last = self._published.get(app)
            workloads = self._workloads(app)
            if last is not None and last.workloads == workloads:
                continue
            routes = Routes(app, self.state.next_epoch(), workloads)
            if app in self.state.apps:
                self._published[app] = routes
            else:
                del self._published[app]
            effects.append(Publish(routes))
        return effects

    def _current(self, app: str) -> Routes:
        """What was published last; a controller that has published nothing yet says what it knows so far."""
        last = self._published.get(app)
        return Routes(app, self.state.next_epoch(), self._workloads(app)) if last is None else last

    def _workloads(self, app: str) -> dict[str, Route]:
        found = self.state.apps.get(app)
        if found is None:
            return {}
        return {workload.name: self._route(app, workload) for workload in found.release.manifest.workloads}

    def _route(self, app: str, workload: Workload) -> Route:
        address = f"{app}.{workload.name}"
        hosts = tuple(sorted(host for host in self.state.holders(address) if self.state.hosts[host].lives))
        if not isinstance(workload, Function):
            return Route("daemon", hosts)
        return Route(
            "function",
            hosts,
            workload.idempotent,
            workload.timeout_s,
            workload.parameters,
            workload.parameter_names,
        )


def _status(name: str, host: Host) -> HostStatus:
    report = host.report
    state = "draining" if report.draining else "up" if host.lives else "silent"
    used = {"spaces": float(report.spaces_used), "memory_bytes": float(report.memory_bytes), "cpu_s": report.cpu_s}
    return HostStatus(name, report.pid, state, report.offer, used, report.spaces_used)
