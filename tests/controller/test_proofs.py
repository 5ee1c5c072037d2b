"""What a host says that it holds from before this controller counts only with the seal of the controllers' key."""

from __future__ import annotations

import msgspec
import pytest

from controller.keeper_bench import Bench, new_core
from motes.controller.core.scheduler import Scheduler
from motes.controller.proofs import Proofs
from motes.grants.keys import KEY_BYTES, Key, Tag
from motes.model.host import Held, Lease
from motes.model.release import Daemon

KEY = Key(bytes(KEY_BYTES))
LEASE = Proofs(KEY).sealed(Lease("a", "app", "f", "r1", 3, 0, 7))


def held(**change: object) -> Held:
    return msgspec.structs.replace(Held(7, "r1", 3, proof=LEASE.proof), **change)


def test_a_lease_that_was_given_is_proven_to_every_controller() -> None:
    assert Proofs(Key(KEY.secret)).hold("a", "app.f", held())
    assert Proofs(KEY).hold("a", "app.f", held(instances=2, wanted=9, release="r0", failing="why"))


@pytest.mark.parametrize(
    "change", [{"ceiling": 4}, {"epoch": 8}, {"proof": b""}, {"proof": bytes(16)}, {"proof": LEASE.proof[:-1]}]
)
def test_another_claim_is_not(change: dict[str, object]) -> None:
    assert not Proofs(KEY).hold("a", "app.f", held(**change))


@pytest.mark.parametrize(("host", "address"), [("b", "app.f"), ("a", "app.g"), ("a", "other.f"), ("", "aapp.f")])
def test_nor_is_it_another_hosts_or_workloads(host: str, address: str) -> None:
    assert not Proofs(KEY).hold(host, address, held())


def test_another_key_or_tag_makes_another_seal() -> None:
    assert not Proofs(Key.generate()).hold("a", "app.f", held())
    assert KEY.seal(Tag.PROOF, b"x", 16) != KEY.seal(Tag.LEASE, b"x", 16)


def test_a_new_controller_gives_no_calls_to_a_host_that_only_says_that_it_holds_a_lease() -> None:
    bench = Bench(core=new_core(10, settled_at=2.0, proven=False))
    bench.deploy(Daemon("web", ("serve",)))
    bench.join("liar", holds=[Lease("liar", "app", "web", "r1", 1, 1, 7)])
    assert bench.core.state.holders("app.web") == []


def test_a_host_shows_the_proof_it_was_given_to_the_next_controller() -> None:
    bench = Bench(core=Scheduler(10, 2.0, Proofs(KEY).hold))
    bench.deploy()
    bench.join("a", holds=[LEASE])
    bench.join("b", holds=[msgspec.structs.replace(LEASE, host="b")])
    assert bench.ceilings() == {"a": 3}
