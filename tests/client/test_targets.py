"""For which hosts an app's packages are made, and what is said of the others."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import cast

import pytest

from motes.client import targets
from motes.client.cluster import Cluster
from motes.client.requirements import Requirements
from motes.client.targets import hosts_there, targets_of
from motes.errors import NoPackages, Unavailable
from motes.model.host import HostStatus, Offer
from motes.model.platform import MOST_TARGETS, PLATFORMS


def host(
    name: str, state: str = "up", python: str = "3.11.9", platform: str = PLATFORMS[0], own: bool = True
) -> HostStatus:
    return HostStatus(name, 1, state, Offer(1, 1, 1), {}, 0, python, platform, is_own=own)


def wanted(python: str = "") -> Requirements:
    return Requirements(("good",), python, Path("lock"))


def found(*hosts: HostStatus, python: str = "") -> tuple[list[str], list[str]]:
    said: list[str] = []
    return targets_of(hosts, wanted(python), said.append), said


@pytest.mark.parametrize("state", ["away", "draining", "drained", "silent", "too old", "too new"])
def test_hosts_that_lend_nothing_now_get_packages_as_well(state: str) -> None:
    assert found(host("a"), host("b", state, "3.13.1")) == ([f"cp311-{PLATFORMS[0]}", f"cp313-{PLATFORMS[0]}"], [])


def test_a_python_that_the_app_does_not_want_is_left_out_without_a_word() -> None:
    assert found(host("a"), host("b", python="3.13.1"), python=">=3.13") == ([f"cp313-{PLATFORMS[0]}"], [])


def test_a_host_for_which_no_packages_are_had_is_named() -> None:
    kinds, said = found(host("a"), host("b", platform=""))
    assert kinds == [f"cp311-{PLATFORMS[0]}"]
    assert said == [
        "the app will not run on hosts with Python 3.11.9 on another system: packages are had for none of these"
    ]


def test_where_no_host_fits_it_is_said_what_there_is() -> None:
    with pytest.raises(NoPackages, match=r"Python >=3.99 are needed; the hosts have Python 3.11.9 on x86_64"):
        found(host("a"), python=">=3.99")
    with pytest.raises(
        NoPackages, match=r"a known platform are needed; the hosts have Python 3.11.9 on another system"
    ):
        found(host("a", platform=""))


def test_hosts_of_others_that_claim_many_pythons_displace_none_of_the_owners() -> None:
    strangers = [host(f"s{minor}", python=f"3.{minor}.1", own=False) for minor in range(12, 12 + MOST_TARGETS)]
    kinds, said = found(*strangers, host("z", "away", "3.99.1"))
    assert kinds[0] == f"cp399-{PLATFORMS[0]}" and len(kinds) == MOST_TARGETS
    assert said == [
        f"the app will not run on hosts of cp327-{PLATFORMS[0]}: a release has {MOST_TARGETS} kinds at most"
    ]


class Hosts:
    """A cluster that names the next of these each time."""

    def __init__(self, *looks: list[HostStatus]) -> None:
        self._looks = list(looks)

    async def hosts(self) -> list[HostStatus]:
        return self._looks.pop(0) if len(self._looks) > 1 else self._looks[0]


def test_a_first_host_that_is_up_is_waited_for() -> None:
    away, up = host("a", "away"), host("b")
    assert asyncio.run(hosts_there(cast(Cluster, Hosts([], [away], [away, up])))) == [away, up]


def test_where_none_comes_up_that_is_the_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(targets, "HOSTS_TIMEOUT_S", 0.05)
    with pytest.raises(Unavailable, match="no host is up to load the app"):
        asyncio.run(hosts_there(cast(Cluster, Hosts([host("a", "away")]))))
