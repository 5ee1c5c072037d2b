"""What a host lends of its disk: what lies there is held to it, the longest unused deleted first.

It counts unpacked archives, those that are on their way, and what is written in folders of spaces that have no memory
of their own for them. Calls block: make them in a thread.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from typing import NamedTuple

from motes.bundle.unpack import discard
from motes.errors import SpaceFailed
from motes.model.release import is_hash
from motes.model.units import format_bytes

PARTS = ".parts"
"""The folder of a shelf with the beginnings of archives."""
NOWHERE = Path()


class _Kept(NamedTuple):
    used_at: float
    path: Path
    bytes: int


class Disk:
    """`used` names the folders that must stay, for who is on the event loop, where it changes; `beside` says how many
    bytes spaces have written."""

    def __init__(self, most_bytes: int, used: Callable[[], set[Path]], beside: Callable[[], int] = lambda: 0) -> None:
        self.most_bytes = most_bytes
        self.used = used
        self._beside = beside
        self._shelves: list[Path] = []
        self._sizes: dict[Path, int] = {}
        """Of unpacked archives, which never change."""
        self._promised: dict[Path, int] = {}
        """Room for what is being written there now."""
        self._sole = threading.Lock()

    def add_shelf(self, folder: Path) -> None:
        """A folder with archives by their hashes, and their beginnings in PARTS."""
        (folder / PARTS).mkdir(mode=0o755, parents=True, exist_ok=True)
        folder.chmod(0o755)
        self._shelves.append(folder)

    def make_room(self, path: Path, size: int, what: str, used: Collection[Path], most: int | None = None) -> None:
        """Promise `size` bytes for `path`, and delete what has to go for it; `most` archives may lie in its folder.

        Raises SpaceFailed when it does not fit beside what is in use; then nothing is deleted.
        """
        with self._sole:
            self._promised.pop(path, None)
            kept = sorted(self._kept(path))
            in_use = self._sum(each for each in kept if each.path in used)
            if in_use + size > self.most_bytes or self._delete_old(kept, size, used, path, most) > self.most_bytes:
                needed, lent, has = map(format_bytes, (size, self.most_bytes, in_use))
                raise SpaceFailed(
                    f"{what} of {needed} do not fit: the host lends {lent} of disk, {has} of it in use"
                    " (lend more, as with disk=20GiB)"
                )
            self._promised[path] = size

    def keep(self, used: Collection[Path]) -> None:
        """Delete what has to go for what spaces wrote. Raises SpaceFailed when it takes too much all the same."""
        with self._sole:
            if (total := self._delete_old(sorted(self._kept()), 0, used)) > self.most_bytes:
                lent, has = format_bytes(self.most_bytes), format_bytes(total)
                raise SpaceFailed(
                    f"what functions wrote to /tmp is too much: the host lends {lent} of disk, {has} are used"
                )

    def _delete_old(
        self, kept: list[_Kept], size: int, used: Collection[Path], path: Path = NOWHERE, most: int | None = None
    ) -> int:
        """The longest unused first, until `size` more fit; returns how much is used then, with those."""
        total = self._sum(kept) + size
        count = 1 + sum(1 for each in kept if each.path.parent == path.parent)
        for old in kept:
            is_one_too_many = most is not None and count > most and old.path.parent == path.parent
            if (
                (total > self.most_bytes or is_one_too_many)
                and old.path not in used
                and _used_at(old.path) == old.used_at
            ):
                self._delete(old.path)
                total, count = total - old.bytes, count - (old.path.parent == path.parent)
        return total

    def _sum(self, kept: Iterable[_Kept]) -> int:
        """What these take, what is promised, and what spaces have written."""
        return sum(each.bytes for each in kept) + sum(list(self._promised.values())) + self._beside()

    def written(self, *paths: Path) -> None:
        """What was promised has been written, or will not be. Does not block: nobody counts what has just gone."""
        for path in paths:
            self._promised.pop(path, None)

    def _kept(self, path: Path = NOWHERE) -> list[_Kept]:
        """All that lies there but what room was promised for."""
        found = [each for shelf in self._shelves for each in shelf.iterdir() if is_hash(each.name)]
        parts = [each for shelf in self._shelves for each in (shelf / PARTS).iterdir()]
        promised = {*list(self._promised), path}
        self._sizes = {each: self._sizes.get(each) or _size_bytes(each) for each in found if each not in promised}
        sizes = [*self._sizes.items(), *((part, _file_bytes(part)) for part in parts if part not in promised)]
        return [_Kept(_used_at(each), each, size) for each, size in sizes]

    def _delete(self, path: Path) -> None:
        if path.parent.name == PARTS:
            path.unlink(missing_ok=True)
        else:
            discard(path)


# Others are fetched meanwhile, in other threads: what has gone is as old as can be, and has no size.


def _used_at(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return float("-inf")


def _file_bytes(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _size_bytes(folder: Path) -> int:
    return sum(_lstat_bytes(f"{where}/{name}") for where, _, names in os.walk(folder) for name in names)


def _lstat_bytes(path: str) -> int:
    try:
        return os.lstat(path).st_size
    except FileNotFoundError:
        return 0
