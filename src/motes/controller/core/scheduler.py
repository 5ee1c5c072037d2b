"""The controller's core: reports, deployments and time in; leases, routes and events out.

What always holds:
- epochs only rise, also from one controller to the next;
- the ceilings of a workload with a maximum, over all hosts that are not lost, never sum to more than it;
- a workload is routed only to hosts whose lease for it is in force;
- a controller that has just started takes nothing away: until it has heard the hosts, routers keep what they know.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from motes.controller.core.effects import Effect, Give, Tell
from motes.controller.core.feasible import feasible, why_nowhere
from motes.controller.core.placement import note_fullness
from motes.controller.core.plan import choose, confirm, plan, plan_workload
from motes.controller.core.routing import Routing
from motes.controller.core.running import Running
from motes.controller.core.state import App, Host, IsProven, State
from motes.errors import NotFound, Unavailable
from motes.model.host import REPORT_INTERVAL_S, SILENCE_S, Beat, HostReport
from motes.model.instance import EndReason, Event, StartReason
from motes.model.release import Release
from motes.model.routes import Routes
from motes.model.wire import Welcome, misfit, what_to_do
from motes.version import __version__

SETTLE_S = 2 * REPORT_INTERVAL_S
"""A new controller first hears from every host what it holds before it plans, unless nothing was deployed before."""
LOST_S = 2.0
"""A host that was away for this long has lost its work to others."""
FORGET_S = 600.0
"""A lost host is listed for this long."""
TWIN_S = 1.0
"""An agent that takes a living one's name takes calls only after this, when that one has been told."""
MOST_RIVALS = 100
"""Of one host that are told of."""
TWINS = "was its home copied? let each machine join with an invite of its own: motes invite"


class Scheduler:
    """The cluster's state and what follows from each event."""

    def __init__(self, epoch: int, settled_at: float, is_proven: IsProven) -> None:
        self.state = State(epoch, is_proven)
        self._settled_at = settled_at
        self._ticked_at = float("-inf")
        self._routing = Routing(self.state)
        self.running = Running()

    # ------------------------------------------------------------------ hosts

    def on_report(self, report: HostReport, now: float) -> list[Effect]:
        """A host tells of itself; a new boot holds nothing of what an earlier one held."""
        known = self.state.hosts.get(report.host)
        if known is not None and known.makes_stale(report):
            return self._on_rival(known, report)
        self.state.note_failures(report, now)
        if known is not None and known.lives and known.report.boot != report.boot:
            self.state.steadiness.broke(report.host, now)
        is_back = known is not None and known.report.away and not report.away
        if known is None or not known.lives or is_back or known.report.boot != report.boot:
            self.state.steadiness.came_back(report.host, now)
        if known is None or known.report.boot != report.boot:
            load = {} if known is None else known.load
            self.state.hosts[report.host] = Host(report, now, load=load, displaced=known is not None and known.lives)
            chosen = [Give(choose(self.state, report.host))] if known is not None and known.lives else []
            ended = [] if known is None else self.running.end_all(report.host, now)
            joined = Tell("host.up", StartReason.JOINED, report.host, pid=report.pid)
            ended += self.running.compare(report, now, is_first=True)
            return [*chosen, *ended, joined, *self._catch_up(report.host, now)]
        was_silent, was_away = not known.lives, known.report.away
        known.report, known.heard_at, known.lives, known.lost = report, now, True, False
        note_fullness(known, now)
        back: list[Effect] = []
        if was_silent or (was_away and not report.away):
            back = [Tell("host.up", StartReason.BACK, report.host, pid=report.pid)]
        elif report.away and not was_away:
            self.state.steadiness.broke(report.host, now)
            back = [Tell("host.away", EndReason.WITHDRAWN, report.host, pid=report.pid, detail=report.away)]
        return [*back, *self.running.compare(report, now, is_first=False), *self._catch_up(report.host, now)]

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
        self.state.steadiness.came_back(beat.host, now)
        host.lives, host.lost = True, False
        return [Tell("host.up", StartReason.BACK, beat.host), *self._replan(now)]

    def welcome(self, report: HostReport) -> Welcome:
        """What to answer to an agent that asks whether it is the host now, after `on_report`."""
        known = self.state.hosts.get(report.host)
        if known is None or known.report.boot != report.boot:
            words = f"another agent runs as host {report.host!r} ({TWINS})"
            return Welcome(words, is_taken=True)
        if misfit(report.wire):
            return Welcome(what_to_do(report.host, report.wire, report.version, __version__))
        return Welcome(after_s=TWIN_S if known.displaced else 0.0)

    def _on_rival(self, known: Host, report: HostReport) -> list[Effect]:
        """A report that is not the newest of the host: late, or of another agent in its name, which is told to end."""
        if report.boot == known.report.boot:
            return []
        chosen = Give(choose(self.state, report.host))
        if report.boot in known.rivals or len(known.rivals) >= MOST_RIVALS:
            return [chosen]
        known.rivals.add(report.boot)
        detail = f"a second agent runs in this host's name, and is told to end ({TWINS})"
        return [chosen, Tell("host.twin", EndReason.DISPLACED, report.host, pid=report.pid, detail=detail)]

    def on_gone(self, host: str, now: float, connection: int = 0, server_id: str = "") -> list[Effect]:
        """The host's connection broke. It may come back within LOST_S and keep its work.

        `connection` is its number at that server; when the host has told of another since, it is back already.
        """
        known = self.state.hosts.get(host)
        if known is None or not known.lives or known.has_another(connection, server_id):
            return []
        known.lives = False
        known.heard_at = min(known.heard_at, now)
        self.state.steadiness.broke(host, now)
        return [Tell("host.end", EndReason.HOST_LOST, host, detail="its connection broke"), *self._publish(now)]

    def on_left(self, host: str, now: float) -> list[Effect]:
        """The host was stopped in order, by its owner."""
        known = self.state.hosts.get(host)
        if known is None:
            return []
        self.state.forget(host)
        ended = self.running.end_all(host, now)
        return [*ended, Tell("host.end", EndReason.HOST_STOPPED, host), *self._replan(now)]

    def on_drained(self, host: str, drained: bool, now: float) -> list[Effect]:
        """The keeper's owner wants the host to take no new work, or to take it again."""
        if drained == (host in self.state.drained):
            return []
        if drained:
            self.state.drained.add(host)
        else:
            self.state.drained.discard(host)
        told = Tell("host.drain", EndReason.DRAINED, host) if drained else Tell("host.up", StartReason.UNDRAINED, host)
        return [told, *self._replan(now)]

    def on_event(self, event: Event) -> None:
        """Follow what agents tell of instances, so that a lost host's instances are reported to have ended."""
        self.running.note(event)

    def remember(self, events: Iterable[Event]) -> None:
        """What was told before this controller, the oldest first: what began then and ends unheard is told as well."""
        self.running.remember(events)

    def on_named(self, now: float) -> list[Effect]:
        """The cluster's owner has put hosts in sets, or taken them out: work leaves where it may not be any more."""
        return self._replan(now)

    # ------------------------------------------------------------------ apps

    def on_deployed(self, release_id: str, release: Release, now: float) -> list[Effect]:
        """A new app, or a new release of one."""
        before = self.state.apps.get(release.app)
        self.state.apps[release.app] = App(release_id, release)
        # Of the release before this one something may still run, and write; of earlier ones nothing.
        self.state.forget_others(release.app, [release, before.release] if before else [release])
        self.state.pardon_app(release.app)
        self.state.moves.forget_app(release.app)
        told = Tell("app.deployed", StartReason.DEPLOYED, app=release.app, release=release_id)
        return [told, *self._replan(now)]

    def on_removed(self, app: str, now: float) -> list[Effect]:
        removed = self.state.apps.pop(app, None)
        if removed is None:
            return []
        self.state.pardon_app(app)
        self.state.moves.forget_app(app)
        self.state.forget_others(app, [])
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
            return self._routing.current(app), []
        lost = self._lose_silent_holders(address, now)
        leases = plan_workload(self.state, address, found, wanted, now)
        packages = found.release.packages
        if not self.state.holders(address) and not feasible(self.state, app, wanted, packages):
            raise why_nowhere(self.state, address, wanted, packages)
        given: list[Effect] = [Give(lease) for lease in leases]
        published = self._publish(now)
        return self._routing.current(app), [*lost, *given, *published]

    def routes(self, app: str) -> Routes:
        """The app's routes now. Raises NotFound."""
        if app not in self.state.apps:
            raise NotFound(f"there is no app {app!r} (see `motes apps`)")
        return self._routing.current(app)

    # ------------------------------------------------------------------ time

    def tick(self, now: float) -> list[Effect]:
        """Once a second or so: hosts that fell silent, ceilings that should move, functions that fall asleep."""
        effects: list[Effect] = []
        if now - self._ticked_at >= SILENCE_S:
            self._excuse(now)
        self._ticked_at = now
        self.state.pardon(now)
        self.state.steadiness.forgive(now)
        self.running.forget(now)
        for name, host in list(self.state.hosts.items()):
            silent_s = now - host.heard_at
            if host.lives and silent_s >= SILENCE_S:
                host.lives = False
                self.state.steadiness.broke(name, now)
                effects.append(Tell("host.end", EndReason.HOST_LOST, name, detail=f"silent for {silent_s:.1f} s"))
            if not host.lives and not host.lost and silent_s >= LOST_S:
                effects += self._lose(name, now)
            if host.lost and silent_s >= FORGET_S:
                self.state.forget(name)
        if now - self._settled_at >= LOST_S:
            # Of hosts that an earlier controller knew, and that did not come back.
            for name in self.running.hosts() - self.state.hosts.keys():
                effects += self.running.end_all(name, now)
        return [*effects, *self._replan(now)]

    # ------------------------------------------------------------------ how

    def _find(self, app: str, workload: str) -> App:
        found = self.state.apps.get(app)
        if found is None:
            raise NotFound(f"there is no app {app!r} (see `motes apps`)")
        if found.release.manifest.workload(workload) is None:
            names = ", ".join(sorted(each.name for each in found.release.manifest.workloads))
            raise NotFound(f"app {app!r} has no function {workload!r}; it has: {names}")
        return found

    def _catch_up(self, host: str, now: float) -> list[Effect]:
        again = confirm(self.state, host, now)
        changed = self._replan(now)
        # What has moved meanwhile must not begin there for a moment.
        current = self.state.leases.get(host, {})
        return [*(Give(lease) for lease in again if current.get(lease.address) is lease), *changed]

    def _replan(self, now: float) -> list[Effect]:
        leases = plan(self.state, now) if now >= self._settled_at else []
        return [*(Give(lease) for lease in leases), *self._publish(now)]

    def _excuse(self, now: float) -> None:
        """This controller itself was cut off or stood still: nobody's silence meanwhile counts."""
        for host in self.state.hosts.values():
            if host.lives:
                host.heard_at = now

    def _lose_silent_holders(self, address: str, now: float) -> list[Effect]:
        """A caller waits, and every holder is away: they lose their work now, not after LOST_S."""
        holders = self.state.holders(address)
        if any(self.state.hosts[host].lives for host in holders):
            return []
        return [effect for host in holders for effect in self._lose(host, now)]

    def _lose(self, name: str, now: float) -> list[Effect]:
        self.state.hosts[name].lost = True
        self.state.lapse(name)
        return [*self.running.end_all(name, now)]

    def _publish(self, now: float) -> Sequence[Effect]:
        return self._routing.publish() if now >= self._settled_at else []
