"""Who can: the hosts that a workload could run on at all, and why there are none.

A host is feasible when it takes work, serves the app, is at the workload's place, has a Python that the release runs
with and the platform that its packages are for, an offer that holds one instance, and, for a daemon, namespaces.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from motes.controller.core.state import Host, State
from motes.errors import MotesError, NoRoom, Unavailable
from motes.model.place import ARCH, NAMED, OWN, traits_of, unmet
from motes.model.release import Daemon, Packages, Workload
from motes.model.served import in_words
from motes.model.units import format_bytes
from motes.model.walls import Walls

FIT = "add one that fits: `motes host start --python ...`; deploy again to have an app's packages for it"
MOST_SHOWN = 4


def feasible(state: State, app: str, workload: Workload, packages: Packages) -> list[str]:
    """The hosts that could run it, in no order of merit."""
    able = (name for name in state.hosts if name not in state.drained)
    return [name for name in able if could_run(state, name, app, workload, packages)]


def could_run(state: State, name: str, app: str, workload: Workload, packages: Packages) -> bool:
    """Whether the host could, were it not for who drains it."""
    host = state.hosts[name]
    return (
        host.takes_work
        and _holds(host, workload)
        and host.report.offer.serves(app)
        and (not workload.place or not unmet(workload.place, traits(state, name)))
        and runs(host, packages)
        and _has_walls_for(host, workload)
    )


def traits(state: State, name: str) -> set[str]:
    """What a host is, in the words of a place: what it says of itself, and what its cluster's owner says of it."""
    report = state.hosts[name].report
    owned = {OWN} if state.is_own(name) else set()
    return traits_of(report.offer.labels, report.architecture) | {NAMED + each for each in state.sets_of(name)} | owned


def why_nowhere(state: State, address: str, workload: Workload, packages: Packages) -> MotesError:
    """The error for a workload that no host can take: Unavailable when that may pass, else NoRoom."""
    able = [name for name in state.hosts if state.takes_work(name)]
    if not able and (drained := [name for name, host in state.hosts.items() if host.lives and name in state.drained]):
        names = ", ".join(sorted(drained)[:MOST_SHOWN])
        return Unavailable(f"{address}: every host that is up is being drained ({names}; motes host drain --off NAME)")
    if not able:
        return Unavailable(f"{address}: {_nobody(state)} (see `motes host ls`, start one with `motes host start`)")
    there = [name for name in able if not unmet(workload.place, traits(state, name))]
    if not there:
        return NoRoom(f"{address} {why_at_no_place(state, able, workload.place)}")
    among = f" of those at {','.join(workload.place)}" if workload.place else ""
    app = address.partition(".")[0]
    serving = [name for name in there if state.hosts[name].report.offer.serves(app)]
    if not serving:
        return NoRoom(f"{address}: {who_serves_it_not(state, there, app, among)}")
    hosts = [state.hosts[name] for name in serving]
    fitting = [host for host in hosts if runs(host, packages)]
    if not fitting:
        return NoRoom(f"{address} {needs(packages)}; {who_is_there(hosts, among)}")
    fitting = [host for host in fitting if _has_walls_for(host, workload)]
    if not fitting:
        return NoRoom(
            f"{address} is a daemon, and no host{among} makes the namespaces that one needs (`motes doctor` there)"
        )
    largest = max(host.report.offer.memory_bytes for host in fitting)
    return NoRoom(
        f"{address} needs {format_bytes(workload.memory_bytes)}; no host{among} offers more than "
        f"{format_bytes(largest)} (lower `memory`, or add a host: `motes host start`)"
    )


def _nobody(state: State) -> str:
    away = [f"{name}: {host.report.away}" for name, host in sorted(state.hosts.items()) if host.report.away]
    return f"no host lends anything now ({'; '.join(away[:MOST_SHOWN])})" if away else "no host is up"


def why_at_no_place(state: State, hosts: Iterable[str], place: Sequence[str]) -> str:
    """Which term no host meets, or that each meets some and none all; which hosts there are; and what to do."""
    there = {name: traits(state, name) for name in sorted(hosts)}
    nobody = [term for term in place if all(unmet((term,), found) for found in there.values())]
    which = f"no host is {' nor '.join(nobody)}" if nobody else "no host is all of that"
    shown = [f"{name} ({', '.join(sorted(found)) or 'without labels'})" for name, found in there.items()]
    more = [f"and {len(shown) - MOST_SHOWN} more"] if len(shown) > MOST_SHOWN else []
    hosts_there = ", ".join(shown[:MOST_SHOWN] + more)
    return f"is placed at {','.join(place)}, and {which}; the hosts are {hosts_there} ({_mend(nobody or place)})"


def who_serves_it_not(state: State, hosts: Iterable[str], app: str, among: str = "") -> str:
    """Which apps the hosts serve instead, as their owners say, and what they could say."""
    shown = [f"host {name} serves only {in_words(state.hosts[name].report.offer.serve)}" for name in sorted(hosts)]
    more = f"; and {len(shown) - MOST_SHOWN} more" if len(shown) > MOST_SHOWN else ""
    return (
        f"no host{among} serves app {app!r}: {'; '.join(shown[:MOST_SHOWN])}{more} (that is for the machine's owner to"
        f" say there: motes lend serve=owner, or serve=APP+APP)"
    )


def _mend(terms: Iterable[str]) -> str:
    """What makes a host meet the first of the terms."""
    term = next(iter(terms))
    if term == OWN:
        return "one that joined is made your own with: motes host name own HOST"
    if term.startswith(NAMED):
        return f"put one in the set with: motes host name {term.removeprefix(NAMED)} HOST"
    if term.startswith((ARCH, "!")):
        return "add a host that fits, or deploy with another place"
    return f"a host gets the label where it is started or joins: --lend labels={term}"


def runs(host: Host, packages: Packages) -> bool:
    """Whether the host has a Python and a platform for these packages."""
    return packages.fits(host.report.python, host.report.platform)


def needs(packages: Packages) -> str:
    """What a host must have, in words."""
    python = [f"Python {packages.python}"] if packages.python else []
    layers = [f"packages that it has for {', '.join(sorted(packages.layers))} only"] if packages.layers else []
    return f"needs {' and '.join(python + layers)}"


def who_is_there(hosts: Iterable[Host], among: str = "") -> str:
    """What the hosts have, in words."""
    there = sorted({f"Python {host.report.python} on {host.report.platform or 'another system'}" for host in hosts})
    return f"the hosts{among} have {', '.join(there[:MOST_SHOWN])} ({FIT})"


def _has_walls_for(host: Host, workload: Workload) -> bool:
    if not isinstance(workload, Daemon):
        return True
    try:
        return Walls(host.report.walls).hold_daemons
    except ValueError:
        return False


def _holds(host: Host, workload: Workload) -> bool:
    offer = host.report.offer
    return offer.spaces >= 1 and offer.memory_bytes >= workload.memory_bytes
