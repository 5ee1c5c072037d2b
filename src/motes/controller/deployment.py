"""Deploying and removing apps: first what can fail, then what is stored, then what runs.

An app that was accepted is never lost by one that is not: a release that cannot load changes nothing.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

import msgspec

from motes.controller.core.summary import has_taken_over
from motes.errors import BadBundle, BadInput, NotFound, Refused
from motes.model.keeper import Deployed, Inspect
from motes.model.naming import as_name
from motes.model.platform import MOST_TARGETS, PLATFORMS, is_target
from motes.model.release import Function, Packages, Release, Signed, is_hash, release_id
from motes.model.shape import misshapen

if TYPE_CHECKING:
    from motes.controller.service import Controller

KEPT_RELEASES = 2
"""Releases of an app that are kept, with their code: the current one and the one before, which may still drain."""
MAX_WORKLOADS = 1_000
MOST_SPECIFIER = 200
UPLOADED_KEPT_S = 3600.0
"""How long code waits for the release that it was uploaded for."""
MOST_TOUCHED = 10_000
UP_TIMEOUT_S = 20.0
"""How long `deploy` waits for the new release to take over."""


class Deployment:
    """The keeper's part of a deploy."""

    def __init__(self, controller: Controller) -> None:
        self._controller = controller
        self._stored: dict[str, dict[str, Release]] | None = None
        """Every release in the store, by app and id; None until they have been read."""
        self._gate = asyncio.Lock()
        self._touched: dict[str, float] = {}
        """When something of an archive last arrived, or was asked for."""

    def touch(self, archive: str) -> None:
        """Somebody uploads it, and is about to deploy what needs it."""
        self._touched.pop(archive, None)
        self._touched[archive] = self._controller.now()
        while len(self._touched) > MOST_TOUCHED:
            del self._touched[next(iter(self._touched))]

    async def deploy(self, signed: Signed) -> Deployed:
        """Store a signed release and have it run. Raises Untrusted, BadInput, NotFound, and Refused for an old one."""
        controller = self._controller
        release = controller.check(signed)
        _check(release)
        name = release_id(signed)
        async with self._gate:
            current = controller.core.state.apps.get(release.app)
            if current is not None and await self._is_same(current.release_id, signed):
                return Deployed(release.app, current.release_id, changed=False)
            self._refuse_earlier(f"this release of app {release.app!r}", release.app, release.created_at)
            # Not before: behind this gate code is deleted that nobody used until now.
            await self._check_has_code(release)
            data = msgspec.msgpack.encode(signed)
            await controller.store.put_release(name, data)
            await controller.store.put_app(release.app, data)
            controller.carry_out(controller.core.on_deployed(name, release, controller.now()))
            if self._stored is not None:
                self._stored.setdefault(release.app, {})[name] = release
            if current is not None:
                controller.tasks.spawn(self._clean(release.app))
        await self._wait_until_taken_over(release, name)
        return Deployed(release.app, name, changed=True)

    async def remove(self, signed: Signed) -> None:
        """Forget an app by its owner's word: leases end, then code goes. Raises Untrusted, NotFound and Refused."""
        controller = self._controller
        removal = controller.check_removal(signed)
        app = removal.app
        async with self._gate:
            if app not in controller.core.state.apps:
                raise NotFound(f"there is no app {app!r} (see `motes apps`)")
            self._refuse_earlier(f"this removal of app {app!r}", app, removal.removed_at)
            await controller.store.remove_app(app, msgspec.msgpack.encode(signed))
            controller.removed_at[app] = removal.removed_at
            controller.carry_out(controller.core.on_removed(app, controller.now()))
            await controller.store.delete_logs(app)
            controller.tasks.spawn(self._clean(app))

    async def _is_same(self, current: str, signed: Signed) -> bool:
        """Whether it is the content of the release that runs; what this Motes does not know counts alike."""
        stored = msgspec.msgpack.decode(await self._controller.store.release(current), type=Signed)
        return _content(stored) == _content(signed)

    def _refuse_earlier(self, what: str, app: str, signed_at: float) -> None:
        """What an owner signed stays signed for ever: whoever kept it must not bring it back. Raises Refused."""
        current = self._controller.core.state.apps.get(app)
        removed_at = self._controller.removed_at.get(app, float("-inf"))
        newest_at = removed_at if current is None else max(removed_at, current.release.created_at)
        if signed_at > newest_at:
            return
        then = "was deployed" if newest_at > removed_at else "was removed"
        raise Refused(
            f"{what} was signed at {_time(signed_at)}, and the app {then} by what was signed at {_time(newest_at)}: "
            "what is earlier does not come back (to run that code again, sign it anew: deploy its files)",
            newest_at=newest_at,
        )

    async def _check_has_code(self, release: Release) -> None:
        for archive in sorted(release.archives):
            if not await self._controller.store.has_bundle(archive):
                raise NotFound(f"bundle {archive[:12]} of app {release.app!r} is not there; deploy again to upload it")

    async def _wait_until_taken_over(self, release: Release, name: str) -> None:
        """A deploy is done when the next call or connection finds the new release; one that has not taken over within
        UP_TIMEOUT_S shows in `motes apps`."""
        core = self._controller.core
        addresses = {f"{release.app}.{each.name}" for each in release.manifest.workloads}
        deadline = self._controller.now() + UP_TIMEOUT_S
        while self._controller.now() < deadline:
            addresses = {address for address in addresses if not has_taken_over(core.state, address, name)}
            if not addresses:
                return
            await asyncio.sleep(0.01)

    async def _clean(self, app: str) -> None:
        """Delete the releases of an app that nobody runs any more; the first time, those of every app."""
        async with self._gate:
            apps = [app] if self._stored is not None else None
            stored = await self._releases()
            for each in apps or list(stored):
                await self._clean_app(each, stored)
            await self._sweep(stored)

    async def _clean_app(self, app: str, stored: dict[str, dict[str, Release]]) -> None:
        releases = stored.pop(app, {})
        current = self._controller.core.state.apps.get(app)
        kept = set()
        if current is not None:
            earlier = sorted(releases.keys() - {current.release_id}, key=lambda name: releases[name].created_at)
            kept = {current.release_id, *earlier[1 - KEPT_RELEASES :]}
        if kept:
            stored[app] = {name: release for name, release in releases.items() if name in kept}
        for name in releases.keys() - kept:
            await self._controller.store.delete_release(name)
        await self._delete_unused(set().union(*(release.archives for release in releases.values())), stored)

    async def _sweep(self, stored: dict[str, dict[str, Release]]) -> None:
        """Delete what was uploaded, whole or in part, and that no release came to use."""
        since = self._controller.now() - UPLOADED_KEPT_S
        found = await self._controller.store.bundles()
        await self._delete_unused({each for each in found if self._touched.get(each, float("-inf")) < since}, stored)

    async def forget_code(self, bundle: str) -> None:
        """Delete code that was uploaded and cannot be deployed."""
        async with self._gate:
            await self._delete_unused({bundle}, await self._releases())

    async def _delete_unused(self, bundles: set[str], stored: dict[str, dict[str, Release]]) -> None:
        used = {each for releases in stored.values() for release in releases.values() for each in release.archives}
        for bundle in bundles - used:
            await self._controller.store.delete_bundle(bundle)

    async def _releases(self) -> dict[str, dict[str, Release]]:
        if self._stored is None:
            self._stored = {}
            for name, data in (await self._controller.store.releases()).items():
                release = self._controller.check(msgspec.msgpack.decode(data, type=Signed))
                self._stored.setdefault(release.app, {})[name] = release
        return self._stored


def _time(at: float) -> str:
    try:
        return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(at))
    except (OverflowError, ValueError, OSError):
        return f"{at} s"


def _check(release: Release) -> None:
    """Raises BadInput and BadBundle."""
    as_name(release.app)
    workloads = release.manifest.workloads
    if not workloads or len(workloads) > MAX_WORKLOADS:
        raise BadBundle(f"app {release.app!r} has {len(workloads)} workloads; it needs 1 to {MAX_WORKLOADS}")
    for workload in workloads:
        as_name(workload.name)
        for schema in (workload.parameters, workload.result) if isinstance(workload, Function) else ():
            if why := misshapen(schema):
                raise BadBundle(f"what function {workload.name!r} takes and gives is no JSON Schema: {why}")
    if len({workload.name for workload in workloads}) < len(workloads):
        raise BadBundle(f"app {release.app!r} has two workloads of one name")
    check_packages(release.packages)


def _content(signed: Signed) -> dict[str, Any]:
    """All that an owner signed but when; what is missing from it for some platform makes it another."""
    content: dict[str, Any] = msgspec.msgpack.decode(signed.payload)
    return {key: value for key, value in content.items() if key != "created_at"}


def check_question(question: Inspect) -> None:
    """Raises BadInput."""
    as_name(question.app)
    if not is_hash(question.bundle):
        raise BadInput(f"{question.bundle[:80]!r} is no bundle's hash")
    check_packages(question.packages)


def check_packages(packages: Packages) -> None:
    """Raises BadInput."""
    if len(packages.layers) > MOST_TARGETS:
        raise BadInput(f"packages for {len(packages.layers)} kinds of hosts; at most {MOST_TARGETS} are allowed")
    for target, layer in packages.layers.items():
        if not is_target(target):
            raise BadInput(f"{target[:80]!r} is no kind of host; write it like cp311-{PLATFORMS[0]}")
        if not is_hash(layer):
            raise BadInput(f"{layer[:80]!r} is no layer's hash")
    if len(packages.python) > MOST_SPECIFIER:
        raise BadInput(f"requires-python of over {MOST_SPECIFIER} characters")
