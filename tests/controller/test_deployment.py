"""What of uploaded code stays in the store: what a release uses, and what is being uploaded."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import cast

import pytest

from motes.controller.deployment import MOST_TOUCHED, UPLOADED_KEPT_S, Deployment, check_packages
from motes.controller.service import Controller
from motes.errors import BadInput, NotFound
from motes.model.platform import PLATFORMS
from motes.model.release import Daemon, Manifest, Packages, Release, Signed


class Store:
    def __init__(self, *bundles: str) -> None:
        self.kept = set(bundles)
        self.accepted: list[str] = []

    async def has_bundle(self, bundle: str) -> bool:
        found = bundle in self.kept
        await asyncio.sleep(0)
        return found

    async def releases(self) -> dict[str, bytes]:
        await asyncio.sleep(0)
        return {}

    async def put_release(self, release: str, value: bytes) -> None:
        self.accepted.append(release)

    async def delete_release(self, release: str) -> None:
        pass

    async def bundles(self) -> list[str]:
        return sorted(self.kept)

    async def delete_bundle(self, bundle: str) -> None:
        self.kept.discard(bundle)


class Keeper:
    """A deployment over a store, whose clock a test moves."""

    def __init__(self, *bundles: str) -> None:
        self.store, self.at = Store(*bundles), 10_000.0
        state = SimpleNamespace(apps={})
        self.controller = controller = SimpleNamespace(
            store=self.store, now=lambda: self.at, removed_at={}, core=SimpleNamespace(state=state)
        )
        self.deployment = Deployment(cast(Controller, controller))

    def sweep(self, *releases: Release) -> set[str]:
        stored = {release.app: {"r": release} for release in releases}
        asyncio.run(self.deployment._sweep(stored))
        return self.store.kept


def test_only_what_nobody_uses_and_nobody_uploads_is_deleted() -> None:
    keeper = Keeper("code", "layer", "other layer", "orphan", "half")
    packages = Packages(layers={f"cp311-{PLATFORMS[0]}": "layer", f"cp312-{PLATFORMS[0]}": "other layer"})
    release = Release(Manifest("app", ()), "code", 0.0, packages)
    keeper.deployment.touch("half")
    assert keeper.sweep(release) == {"code", "layer", "other layer", "half"}
    keeper.at += UPLOADED_KEPT_S - 1
    keeper.deployment.touch("half")
    keeper.at += UPLOADED_KEPT_S - 1
    assert "half" in keeper.sweep(release)
    keeper.at += 2
    assert keeper.sweep(release) == {"code", "layer", "other layer"}
    assert keeper.sweep() == set()


def test_a_release_is_not_accepted_whose_code_is_deleted_while_it_waits_for_its_turn() -> None:
    keeper = Keeper("0" * 64)
    release = Release(Manifest("app", (Daemon("main", ("true",), None),)), "0" * 64, 1.0, Packages())
    keeper.controller.check = lambda signed: release

    async def story() -> None:
        forgetting = asyncio.ensure_future(keeper.deployment.forget_code(release.bundle))
        await asyncio.sleep(0)
        with pytest.raises(NotFound):
            await keeper.deployment.deploy(Signed(b"", b"", b""))
        await forgetting

    asyncio.run(story())
    assert keeper.store.accepted == []


def test_what_is_remembered_of_uploads_is_bounded() -> None:
    keeper = Keeper()
    for number in range(MOST_TOUCHED + 10):
        keeper.deployment.touch(str(number))
    assert len(keeper.deployment._touched) == MOST_TOUCHED and "9" not in keeper.deployment._touched


@pytest.mark.parametrize(
    "packages",
    [
        Packages(layers={"../../etc": "0" * 64}),
        Packages(layers={"": "0" * 64}),
        Packages(layers={f"cp311-{PLATFORMS[0]}\n": "0" * 64}),
        Packages(layers={f"cp311-{PLATFORMS[0]}": "../" * 21 + "0"}),
        Packages(layers={f"cp3{minor}-{PLATFORMS[0]}": "0" * 64 for minor in range(10, 30)}),
        Packages(python="x" * 1000),
    ],
)
def test_packages_that_could_be_a_path_or_without_end_are_refused(packages: Packages) -> None:
    with pytest.raises(BadInput):
        check_packages(packages)


def test_nothing_is_remembered_of_an_app_that_is_gone() -> None:
    keeper = Keeper("code")
    stored = {"app": {"r": Release(Manifest("app", ()), "code", 0.0)}}
    asyncio.run(keeper.deployment._clean_app("app", stored))
    assert stored == {} and not keeper.store.kept
