"""What people are shown of the cluster: its hosts and apps, and whether a release has taken over."""

from __future__ import annotations

from motes.controller.core.draining import state_of
from motes.controller.core.feasible import feasible, why_nowhere
from motes.controller.core.state import App, Host, State
from motes.model.host import LONGEST_FAILING, OFF, PAUSED, HostStatus, Offer
from motes.model.keeper import AppSummary, Service, Tool
from motes.model.release import Daemon, Function
from motes.model.wire import misfit, what_to_do
from motes.version import __version__


def statuses(state: State) -> list[HostStatus]:
    """Every host, for `motes host ls`; of those that joined also the ones that are not there."""
    there = [
        _status(name, host, state_of(state, name, host), state.is_own(name), tuple(sorted(state.sets_of(name))))
        for name, host in state.hosts.items()
    ]
    return sorted([*there, *(_absent(state, name) for name in state.joined - state.hosts.keys())], key=_name)


def summaries(state: State) -> list[AppSummary]:
    """Every app, for `motes apps`."""
    return [_summary(state, name, app) for name, app in sorted(state.apps.items())]


def tools(state: State) -> list[Tool]:
    """Every function that its owner offers to agents."""
    return [
        Tool(name, each.name, each.description, each.parameters, each.parameter_names)
        for name, app in sorted(state.apps.items())
        for each in app.release.manifest.workloads
        if isinstance(each, Function) and each.tool
    ]


def services(state: State) -> list[Service]:
    """Every app with its functions."""
    found = {
        name: [each for each in app.release.manifest.workloads if isinstance(each, Function)]
        for name, app in sorted(state.apps.items())
    }
    return [Service(name, state.apps[name].release_id, functions) for name, functions in found.items() if functions]


def has_taken_over(state: State, address: str, release: str) -> bool:
    """Whether calls go to this release: a daemon's serves somewhere, a function's older instances serve nowhere."""
    app, _, name = address.partition(".")
    holders = [host for host in state.holders(address) if state.hosts[host].lives]
    if isinstance(state.workload(app, name), Daemon):
        helds = [state.held(host, address) for host in holders]
        return any(held is not None and held.instances > 0 and held.release == release for held in helds)
    return not any(_serves_older(state, host, address, release) for host in holders)


def _serves_older(state: State, host: str, address: str, release: str) -> bool:
    held, lease = state.held(host, address), state.lease(host, address)
    if lease is None:
        return False
    if held is None or held.epoch < lease.epoch:
        return True  # What it reported was before it knew of the release.
    return held.instances > 0 and held.release not in ("", release)


def _summary(state: State, name: str, app: App) -> AppSummary:
    instances, failing, nowhere, packages = 0, {}, {}, app.release.packages
    for workload in app.release.manifest.workloads:
        address = f"{name}.{workload.name}"
        holders = state.holders(address)
        must_run = isinstance(workload, Daemon) or workload.scale.min > 0
        if must_run and not holders and not feasible(state, name, workload, packages):
            nowhere[workload.name] = why_nowhere(state, address, workload, packages).message
        for host in holders:
            held = state.held(host, address)
            instances += held.instances if held is not None else 0
            if held is not None and held.failing:
                failing[workload.name] = f"{host}: {held.failing[:LONGEST_FAILING]}"
    return AppSummary(name, app.release_id, app.release.created_at, app.release.manifest, instances, failing, nowhere)


def _name(status: HostStatus) -> str:
    return status.name


def _absent(state: State, name: str) -> HostStatus:
    absence = state.absences.get(name)
    return HostStatus(
        name,
        0,
        PAUSED if absence is not None and absence.paused else OFF,
        Offer(cpus=0.0, memory_bytes=0, spaces=0, disk_bytes=0),
        {},
        0,
        is_own=state.is_own(name),
        sets=tuple(sorted(state.sets_of(name))),
        seen_at=0.0 if absence is None else absence.seen_at,
    )


def _status(name: str, host: Host, state: str, is_own: bool, sets: tuple[str, ...]) -> HostStatus:
    report = host.report
    used = {"spaces": float(report.spaces_used), "memory_bytes": float(report.memory_bytes), "cpu_s": report.cpu_s}
    return HostStatus(
        name,
        report.pid,
        state,
        report.offer,
        used,
        report.spaces_used,
        report.python,
        report.platform,
        report.walls,
        report.version,
        report.architecture,
        is_own,
        sets,
        what_to_do(name, report.wire, report.version, __version__) if misfit(report.wire) else "",
        report.away,
    )
