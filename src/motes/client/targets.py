"""For which kinds of hosts an app's packages are made: those that there are, also where they lend nothing just now."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterable

from motes.client.cluster import Cluster
from motes.client.requirements import Requirements
from motes.errors import NoPackages, Unavailable
from motes.model.host import HostStatus
from motes.model.platform import MOST_TARGETS, accepts, target

HOSTS_TIMEOUT_S = 3.0
"""How long a deploy with packages waits for a first host to be heard."""

Notice = Callable[[str], None]
"""Told what an app's owner should know of a deploy that goes well all the same."""


async def hosts_there(cluster: Cluster) -> list[HostStatus]:
    """Every host that the keeper knows, once one is up, which can load the app. Raises Unavailable."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(HOSTS_TIMEOUT_S):
            while True:
                hosts = await cluster.hosts()
                if any(each.state == "up" for each in hosts):
                    return hosts
                await asyncio.sleep(0.05)
    raise Unavailable("no host is up to load the app (see `motes host ls`)")


def targets_of(hosts: Iterable[HostStatus], wanted: Requirements, notice: Notice) -> list[str]:
    """The targets of all hosts with a Python that is wanted, at most MOST_TARGETS; the owner's own hosts come first,
    for what others say of themselves must not displace them. Which kinds are left out is said.

    Raises NoPackages when there is none.
    """
    ordered = sorted(hosts, key=lambda host: (not host.is_own, host.state != "up", host.name))
    fitting = [each for each in ordered if not wanted.python or accepts(wanted.python, each.python)]
    targets = dict.fromkeys(target(each.python, each.platform) for each in fitting)
    unknown = _kinds(each for each in fitting if not target(each.python, each.platform))
    targets.pop("", None)
    if not targets:
        needed = f"Python {wanted.python}" if wanted.python else "a known platform"
        mend = "add one that fits: `motes host start --python ...`"
        raise NoPackages(f"packages and {needed} are needed; the hosts have {_kinds(ordered)} ({mend})")
    if unknown:
        notice(f"the app will not run on hosts with {unknown}: packages are had for none of these")
    found = list(targets)
    if left_out := found[MOST_TARGETS:]:
        notice(f"the app will not run on hosts of {', '.join(left_out)}: a release has {MOST_TARGETS} kinds at most")
    return found[:MOST_TARGETS]


def _kinds(hosts: Iterable[HostStatus]) -> str:
    return ", ".join(sorted({f"Python {each.python} on {each.platform or 'another system'}" for each in hosts}))
