"""A lease for what its owner does not want here: the host does not take the keeper's word for it."""

from __future__ import annotations

import asyncio
from typing import cast

import msgspec
import pytest

from agent.lent_host import LentHost, function
from motes.agent.code import Code
from motes.agent.core.effects import Prepare, StartDaemon, Tell
from motes.agent.inspection import Inspection
from motes.agent.trust import Trust
from motes.errors import SpaceFailed
from motes.grants.keys import Key, Tag, sign
from motes.model.call import STATUS_TRY_ELSEWHERE
from motes.model.host import Held, Offer
from motes.model.keeper import Inspect, decode_answer
from motes.model.release import Daemon, Manifest, Workload


def a_host(*workloads: Workload, **offer: object) -> LentHost:
    return LentHost(*workloads, offer=Offer(**offer))  # type: ignore[arg-type]


def held(host: LentHost, name: str = "f") -> Held:
    return host.machine.held(host.now)[f"app.{name}"]


@pytest.mark.parametrize("term", ["gpu", "!attic", "arch:riscv64"])
def test_a_lease_that_the_owners_place_excludes_is_not_used(term: str) -> None:
    host = a_host(function(place=(term,)), Daemon("web", ("serve",), place=(term,)), labels=("attic",))
    host.lease(floor=1), host.lease("web", ceiling=1, floor=1)
    call = host.call()
    host.wait(1.0)
    assert not host.machine.instances and not host.seen(Prepare) and not host.seen(StartDaemon)
    assert host.answers(call)[0].status == STATUS_TRY_ELSEWHERE
    for name in ("f", "web"):
        assert term in held(host, name).failing and held(host, name).ceiling > 0
    assert [each.reason for each in host.seen(Tell)] == ["misplaced", "misplaced"]  # type: ignore[attr-defined]


def test_one_that_the_place_allows_or_that_only_the_keeper_can_judge_is_used() -> None:
    host = a_host(function(place=("gpu", "!attic", "own", "named:lab", "!named:old")), labels=("gpu",))
    host.lease(floor=1)
    assert len(host.live()) == 1 and not held(host).failing


def test_a_processor_is_known_to_its_host() -> None:
    host = a_host(function(place=("arch:aarch64",)))
    host.machine.architecture = "aarch64"
    host.lease(floor=1)
    assert len(host.live()) == 1


@pytest.mark.parametrize("workload", [function(), Daemon("f", ("serve",))])
def test_a_release_that_is_not_for_here_ends_the_one_before(workload: Workload) -> None:
    host = a_host(workload)
    host.lease(ceiling=1, floor=1)
    assert len(host.live()) == 1
    host.manifests["r2"] = Manifest("app", (function(place=("gpu",)),))
    host.lease(ceiling=1, floor=1, release="r2")
    host.wait(1.0)
    assert not host.live() and host.ends() == ["misplaced"]


def test_a_lease_that_ends_or_a_release_that_is_for_here_is_like_any_other() -> None:
    host = a_host(function(place=("gpu",)))
    host.lease()
    host.lease(ceiling=0)
    assert (held(host).ceiling, held(host).failing) == (0, "")
    host.lease()
    host.manifests["r2"] = Manifest("app", (function(),))
    host.lease(floor=1, release="r2")
    assert len(host.live()) == 1 and not held(host).failing


def test_an_app_is_not_looked_into_where_its_owner_does_not_want_it() -> None:
    owner = Key.generate()
    host = a_host(labels=("attic",))
    inspection = Inspection(cast(Code, None), Trust(b"", frozenset({owner.public})), host.machine)
    question = Inspect("app", "0" * 64, place=("own", "!attic"))
    signed = msgspec.msgpack.encode(sign(owner, Tag.INSPECTION, msgspec.msgpack.encode(question)))
    with pytest.raises(SpaceFailed, match="!attic"):
        decode_answer(asyncio.run(inspection.answer(signed)), Manifest)
