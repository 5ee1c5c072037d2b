"""A host whose owner has it serve some apps only: whatever the keeper says, no other runs; and what becomes of one."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import cast

import msgspec
import pytest

from agent.lent_host import DONE, LentHost, function
from motes.agent.code import Code
from motes.agent.core.effects import Close, Fetch, Prepare, Spawn, StartDaemon, Tell
from motes.agent.core.withdrawal import GRACE_S
from motes.agent.inspection import Inspection
from motes.agent.trust import Trust
from motes.errors import HostLost, NotFound, SpaceFailed
from motes.grants.keys import Key, Tag, sign
from motes.model.call import STATUS_ERROR, STATUS_TRY_ELSEWHERE
from motes.model.host import Held, Lease, Offer
from motes.model.keeper import Inspect, decode_answer
from motes.model.release import Daemon, Manifest, Packages, Workload

KEEPER = Key.generate()


def a_host(*workloads: Workload, serve: tuple[str, ...] = (), by_hand: tuple[type, ...] = ()) -> LentHost:
    """Apps are `app` (release r1, with the workloads) and `mail` (m1, with f)."""
    host = LentHost(*workloads, offer=Offer(cpus=2.0, spaces=100, serve=serve), by_hand=by_hand)
    host.manifests["m1"] = Manifest("mail", (function(),))
    return host


def serve(host: LentHost, *apps: str) -> None:
    offer = msgspec.structs.replace(host.machine.offer, serve=apps)
    host.do(host.machine.on_offer(offer, host.now))


def held(host: LentHost, address: str = "app.f") -> Held:
    return host.machine.held(host.now)[address]


def runs(host: LentHost) -> set[str]:
    """The apps of which something runs that is not told to end."""
    return {each.app for each in host.machine.instances.values() if not each.ending}


def give(host: LentHost, lease: Lease) -> None:
    """As the keeper does, with its own key."""
    trust = Trust(KEEPER.public, frozenset())
    signed = msgspec.msgpack.encode(sign(KEEPER, Tag.LEASE, msgspec.msgpack.encode(lease)))
    host.do(host.machine.on_lease(trust.lease(signed), host.now))


# ---------------------------------------------------------------------- what the keeper may say


@pytest.mark.parametrize("workload", [function(), Daemon("f", ("serve",))])
def test_a_lease_of_the_keepers_for_an_app_that_is_not_served_is_not_even_fetched_for(workload: Workload) -> None:
    host = a_host(workload, serve=("mail", "shop"))
    give(host, Lease("h", "app", "f", "r1", 10, 10, 7))
    call = host.call()
    host.wait(60.0)
    assert not host.machine.instances and not any(map(host.seen, (Fetch, Prepare, StartDaemon)))
    assert host.answers(call)[0].status == STATUS_TRY_ELSEWHERE
    assert "serves only mail, shop" in held(host).failing and held(host).epoch == 7
    assert [each.reason for each in host.seen(Tell)] == ["misplaced"]  # type: ignore[attr-defined]
    give(host, Lease("h", "mail", "f", "m1", 10, 1, 8))
    assert runs(host) == {"mail"}


@pytest.mark.parametrize("served", [("mail",), ()])
def test_no_app_runs_under_the_name_of_another(served: tuple[str, ...]) -> None:
    host = a_host(serve=served)
    give(host, Lease("h", "mail", "f", "r1", 10, 1, 1))
    call = host.call(app="mail")
    host.wait(1.0)
    assert not host.machine.instances and not host.seen(Prepare)
    assert "another app, 'app'" in held(host, "mail.f").failing
    assert host.answers(call)[0].status == STATUS_TRY_ELSEWHERE
    # Nor when the code is here already, and the right one runs.
    give(host, Lease("h", "mail", "f", "m1", 10, 1, 2))
    assert runs(host) == {"mail"} and not held(host, "mail.f").failing
    give(host, Lease("h", "mail", "f", "r1", 10, 1, 3))
    assert not runs(host) and {each.release for each in host.seen(Spawn)} == {"m1"}  # type: ignore[attr-defined]


def test_an_app_that_is_not_served_is_not_looked_into() -> None:
    owner = Key.generate()
    host = a_host(serve=("mail",))
    inspection = Inspection(cast(Code, None), Trust(b"", frozenset({owner.public})), host.machine)
    signed = msgspec.msgpack.encode(sign(owner, Tag.INSPECTION, msgspec.msgpack.encode(Inspect("app", "0" * 64))))
    with pytest.raises(SpaceFailed, match="does not look into the app: this host serves only mail"):
        decode_answer(asyncio.run(inspection.answer(signed)), Manifest)


def test_one_that_is_being_looked_into_when_it_is_served_no_more_is_given_up() -> None:
    owner = Key.generate()
    host = a_host()

    class Slow:
        began = asyncio.Event()

        async def folders(self, bundle: str, packages: Packages) -> Path:
            self.began.set()
            await asyncio.Event().wait()
            raise AssertionError

    async def story() -> list[bytes]:
        code = Slow()
        inspection = Inspection(cast(Code, code), Trust(b"", frozenset({owner.public})), host.machine)
        asked = []
        for app in ("app", "mail"):
            question = msgspec.msgpack.encode(Inspect(app, "0" * 64))
            signed = msgspec.msgpack.encode(sign(owner, Tag.INSPECTION, question))
            asked.append(asyncio.ensure_future(inspection.answer(signed)))
        await code.began.wait()
        serve(host, "mail")
        inspection.look_again()
        done, going_on = await asyncio.wait(asked, timeout=0.5)
        for each in going_on:
            each.cancel()
        assert len(going_on) == 1
        return [each.result() for each in done]

    (answer,) = asyncio.run(story())
    with pytest.raises(SpaceFailed, match="serves only mail"):
        decode_answer(answer, Manifest)


# ---------------------------------------------------------------------- when he serves others


def test_what_is_served_no_more_ends_and_all_else_goes_on() -> None:
    host = a_host()
    host.lease(ceiling=1, floor=1), host.lease(app="mail", release="m1", ceiling=1)
    running, waiting, others = host.call(), host.call(), host.call(app="mail")
    serve(host, "mail")
    assert isinstance(host.error(waiting), NotFound) and host.answers(waiting)[0].status == STATUS_TRY_ELSEWHERE
    assert isinstance(host.error(host.call()), NotFound), "it takes no new ones"
    assert runs(host) == {"app", "mail"} and not host.seen(Close), "its call may finish"
    assert (held(host).ceiling, held(host).failing) == (0, ""), "the keeper sees that it has laid it down"
    host.reply(host.busy()[0])
    assert host.answers(running) == [DONE] and runs(host) == {"mail"} and host.ends() == ["withdrawn"]
    assert [each.release for each in host.seen(Close)] == ["r1"]  # type: ignore[attr-defined]
    host.wait(GRACE_S * 2)
    assert not host.answers(others) and runs(host) == {"mail"}
    host.reply(next(number for number, each in host.machine.instances.items() if each.app == "mail"))
    assert host.answers(others) == [DONE]
    host.call(app="mail")
    assert runs(host) == {"mail"}


def test_what_is_idle_of_it_ends_at_once_with_its_space() -> None:
    host = a_host(function(), Daemon("web", ("serve",)))
    host.lease(floor=3), host.lease("web", ceiling=1, floor=1)
    serve(host, "mail")
    assert host.machine.is_empty() and host.ends() == ["withdrawn"] * 4
    host.wait(0.25)
    assert host.seen(Close)
    host.wait(60.0)
    assert host.machine.is_empty()


@pytest.mark.parametrize(("idempotent", "status"), [(True, STATUS_TRY_ELSEWHERE), (False, STATUS_ERROR)])
def test_what_is_not_done_in_time_ends_and_runs_elsewhere_where_that_is_harmless(idempotent: bool, status: int) -> None:
    host = a_host(function(idempotent=idempotent))
    host.lease()
    call = host.call()
    serve(host, "mail")
    host.wait(GRACE_S - 0.1)
    serve(host, "mail", "shop")
    assert not host.answers(call)
    host.wait(0.2)
    assert host.answers(call)[0].status == status and isinstance(host.error(call), HostLost)
    assert "has it serve other apps" in host.error(call).message
    assert host.machine.is_empty() and host.seen(Close)


def test_what_still_works_on_a_call_after_its_lease_has_ended_has_no_more_time_either() -> None:
    host = a_host()
    host.lease()
    call = host.call()
    host.lease(ceiling=0)
    serve(host, "mail")
    host.wait(GRACE_S + 0.1)
    assert isinstance(host.error(call), HostLost) and host.machine.is_empty()


def test_an_app_that_is_served_again_meanwhile_finishes_its_calls() -> None:
    host = a_host()
    host.lease()
    call = host.call()
    serve(host, "mail")
    serve(host)
    host.wait(GRACE_S * 2)
    host.reply(host.busy()[0])
    assert host.answers(call) == [DONE]


def test_what_is_being_loaded_is_given_up_for_it_alone() -> None:
    host = a_host(by_hand=(Prepare,))
    host.lease(floor=1), host.lease(app="mail", release="m1", floor=1)
    serve(host, "mail")
    assert [each.release for each in host.seen(Close)] == ["r1"]  # type: ignore[attr-defined]
    host.do(host.machine.on_space_ready("m1", host.now))
    assert runs(host) == {"mail"}


def test_what_is_being_fetched_is_given_up_without_a_word() -> None:
    host = a_host(by_hand=(Fetch,))
    host.lease(), host.lease(app="mail", release="m1")
    serve(host, "mail")
    assert host.machine.wanted_releases() == {"m1"}
    assert not host.machine.on_fetch_failed("r1", SpaceFailed("given up"), host.now)
    assert host.machine.on_fetch_failed("m1", SpaceFailed("no keeper"), host.now)


def test_one_that_is_served_again_gets_its_leases_from_the_keeper_and_old_ones_are_powerless() -> None:
    host = a_host()
    host.lease(epoch=7)
    serve(host, "mail")
    serve(host)
    for epoch in (6, 7):
        host.lease(epoch=epoch, floor=1)
        assert isinstance(host.error(host.call()), NotFound)
    host.lease(epoch=8, floor=1)
    assert runs(host) == {"app"}


def test_a_keeper_that_knows_nothing_of_it_is_told_that_the_app_fails_here_and_is_heeded_when_it_is_served() -> None:
    host = a_host()
    host.lease(epoch=1)
    serve(host, "mail")
    host.lease(epoch=2, floor=1)
    assert held(host).ceiling and "serves only mail" in held(host).failing and not runs(host)
    serve(host, "shop")
    assert not runs(host)
    serve(host)
    assert runs(host) == {"app"} and not held(host).failing
