"""What routers are told: the hosts that hold a lease in force for each workload."""

from __future__ import annotations

from motes.controller.core.effects import Publish
from motes.controller.core.state import State
from motes.model.release import Function, Workload
from motes.model.routes import Route, Routes


class Routing:
    """The routes as they follow from the state, and as they were last published."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._published: dict[str, Routes] = {}

    def publish(self) -> list[Publish]:
        """The routes that are not what the routers were last told."""
        changed: list[Publish] = []
        apps = self._state.apps
        for app in [*apps, *(gone for gone in list(self._published) if gone not in apps)]:
            last = self._published.get(app)
            workloads = self._workloads(app)
            if last is not None and last.workloads == workloads:
                continue
            routes = Routes(app, self._state.next_epoch(), workloads)
            if app in apps:
                self._published[app] = routes
            else:
                del self._published[app]
            changed.append(Publish(routes))
        return changed

    def current(self, app: str) -> Routes:
        """What was published last; a controller that has published nothing yet says what it knows so far."""
        last = self._published.get(app)
        return Routes(app, self._state.next_epoch(), self._workloads(app)) if last is None else last

    def _workloads(self, app: str) -> dict[str, Route]:
        found = self._state.apps.get(app)
        if found is None:
            return {}
        return {workload.name: self._route(app, workload) for workload in found.release.manifest.workloads}

    def _route(self, app: str, workload: Workload) -> Route:
        address = f"{app}.{workload.name}"
        hosts = tuple(sorted(host for host in self._state.holders(address) if self._state.hosts[host].lives))
        if not isinstance(workload, Function):
            return Route("daemon", hosts)
        return Route(
            "function",
            hosts,
            # Half a stream cannot be begun again without the other half.
            workload.idempotent and not workload.streams,
            workload.timeout_s,
            workload.parameters,
            workload.parameter_names,
            workload.result,
            workload.streams,
            workload.may_call(app),
        )
