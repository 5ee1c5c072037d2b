"""Code on a host: releases with their bundles and packages, got from the keeper, checked, and unpacked for spaces."""

from __future__ import annotations

import platform
from collections.abc import Collection
from pathlib import Path
from typing import NamedTuple, TypeVar

import msgspec

from motes.agent.disk import Disk
from motes.agent.shelf import Shelf
from motes.agent.trust import Trust
from motes.bundle.sources import APP, LAYER
from motes.bus import subjects
from motes.bus.connection import Connection
from motes.errors import SpaceFailed
from motes.model.keeper import GetChunk, decode_answer
from motes.model.platform import this_platform
from motes.model.release import Packages, Release, Signed

REQUEST_TIMEOUT_S = 10.0
MOST_BUNDLES = 1_200
"""Unpacked bundles kept on disk; beyond it the ones longest unused go."""
MOST_LAYERS = 200
"""Layers of packages."""

PYTHON = platform.python_version()
PLATFORM = this_platform()
ARCHITECTURE = platform.machine()

T = TypeVar("T")


class Folders(NamedTuple):
    """What of a release lies on this host."""

    code: Path
    packages: Path | None = None


class Code:
    """What one host has of releases, on what it lends of its disk."""

    def __init__(self, folder: Path, connection: Connection, trust: Trust, disk: Disk) -> None:
        self._bundles = Shelf(folder / "bundles", APP, MOST_BUNDLES, self._chunk, disk)
        self._layers = Shelf(folder / "layers", LAYER, MOST_LAYERS, self._chunk, disk)
        self._connection = connection
        self._trust = trust
        self._under_way: dict[str, set[str]] = {}
        """The archives of the releases that are being fetched."""

    def give_up(self) -> None:
        """Fetch no further for now."""
        self._bundles.give_up()
        self._layers.give_up()

    def keep_to(self, releases: Collection[str]) -> None:
        """Fetch no further what only other releases than these need."""
        others = {each for release, found in self._under_way.items() if release not in releases for each in found}
        others -= {each for release, found in self._under_way.items() if release in releases for each in found}
        self._bundles.give_up(others)
        self._layers.give_up(others)

    def missing(self) -> dict[str, int]:
        """By release that is being fetched, how many bytes have still to come, as far as that is known."""
        known = {**self._bundles.missing, **self._layers.missing}
        return {release: sum(known.get(each, 0) for each in archives) for release, archives in self._under_way.items()}

    async def release(self, release: str) -> Release:
        """The release, with its code on this host. Raises NotFound, Untrusted, Unavailable, SpaceFailed."""
        found = self._trust.release(await self._ask("release-get", release, Signed), release)
        layer = found.packages.layer(PYTHON, PLATFORM)
        self._under_way[release] = {found.bundle} | ({layer} if layer else set())
        try:
            await self.folders(found.bundle, found.packages)
        finally:
            del self._under_way[release]
        return found

    async def folders(self, bundle: str, packages: Packages) -> Folders:
        """The folders with a bundle's files and with its packages for this host, fetched once. Raises the same."""
        if not packages.fits(PYTHON, PLATFORM):
            needs = f"Python {packages.python or 'of any version'}, packages for {', '.join(packages.layers) or 'none'}"
            raise SpaceFailed(f"the app needs {needs}; this host has Python {PYTHON} on {PLATFORM or 'another system'}")
        layer = packages.layer(PYTHON, PLATFORM)
        return Folders(await self._bundles.get(bundle), None if layer is None else await self._layers.get(layer))

    async def _chunk(self, archive: str, index: int) -> tuple[int, bytes]:
        return await self._ask("bundle-get", GetChunk(archive, index), tuple[int, bytes])

    async def _ask(self, verb: str, question: object, kind: type[T]) -> T:
        subject = subjects.keeper(self._connection.user, verb)
        data = await self._connection.request(subject, msgspec.msgpack.encode(question), REQUEST_TIMEOUT_S)
        return decode_answer(data, kind)
