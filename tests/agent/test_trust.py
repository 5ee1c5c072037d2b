"""What an agent believes: the owner's newest word."""

from __future__ import annotations

import msgspec
import pytest

from motes.agent.trust import Trust
from motes.errors import Untrusted
from motes.grants.keys import Key, Tag, sign
from motes.model.release import Function, Manifest, Release, Signed, release_id

OWNER, CONTROLLER = Key.generate(), Key.generate()


def signed(app: str, created_at: float) -> Signed:
    release = Release(Manifest(app, (Function("f", app, "f"),)), "0" * 64, created_at)
    return sign(OWNER, Tag.RELEASE, msgspec.msgpack.encode(release))


def test_a_release_that_is_older_than_one_of_before_is_not_believed() -> None:
    trust = Trust(CONTROLLER.public, frozenset({OWNER.public}))
    old, new, another = signed("app", 1.0), signed("app", 2.0), signed("another", 1.0)
    assert trust.release(new, release_id(new)).created_at == 2.0
    with pytest.raises(Untrusted, match="older than one that this host has had"):
        trust.release(old, release_id(old))
    assert trust.release(new, release_id(new)).created_at == 2.0
    assert trust.release(another, release_id(another)).app == "another"


def test_what_nobody_trusted_signed_changes_nothing() -> None:
    trust = Trust(CONTROLLER.public, frozenset({OWNER.public}))
    forged, honest = signed("app", 1e9), signed("app", 1.0)
    for attempt in (msgspec.structs.replace(forged, signer=CONTROLLER.public), forged):
        with pytest.raises(Untrusted):
            trust.release(attempt, "another id")
    assert trust.release(honest, release_id(honest)).created_at == 1.0
