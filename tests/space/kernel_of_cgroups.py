"""A folder that behaves as the kernel's cgroup file system does, for machines whose own has no controllers to give."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from motes.space.cgroup import Kernel

ALWAYS = ("cgroup.procs", "cgroup.controllers", "cgroup.subtree_control", "cgroup.type")
OF = {
    "cpu": ("cpu.max", "cpu.weight", "cpu.idle"),
    "memory": ("memory.max", "memory.swap.max", "memory.stat", "memory.events"),
    "pids": ("pids.max",),
}


class KernelOfCgroups(Kernel):
    """With the rules that matter: files come with their controllers, and who limits others has no processes itself.

    `place` is where it is mounted, `cgroup` whose process asks; `handed_over` are the folders that were.
    """

    def __init__(
        self, place: Path, cgroup: str, handed_over: list[str], pids: list[int], without: tuple[str, ...] = ()
    ):
        self.place, self.cgroup = place, cgroup
        self.without = without
        self.handed_over = [place / each.strip("/") for each in handed_over]
        self.pids = {place / cgroup.strip("/"): set(pids)}
        self.ended: set[int] = set()
        self.newcomers: list[int] = []
        """Forked while others are moved."""
        place.mkdir()
        self._fill(place, tuple(OF))
        folder = place
        for name in cgroup.strip("/").split("/"):
            self._enable(folder, list(OF))
            folder /= name
            self.make(folder)

    def _fill(self, folder: Path, controllers: tuple[str, ...]) -> None:
        for name in [*ALWAYS, *(file for each in controllers for file in OF[each] if file not in self.without)]:
            (folder / name).write_text("")
        (folder / "cgroup.controllers").write_text(" ".join(controllers))

    def _enabled(self, folder: Path) -> tuple[str, ...]:
        return tuple(Path.read_text(folder / "cgroup.subtree_control").split())

    def read(self, path: Path) -> str:
        if path == Path("/proc/self/cgroup"):
            return f"1:cpu:/elsewhere\n0::{self.cgroup}\n"
        if path == Path("/proc/self/mountinfo"):
            return f"30 29 0:26 / {self.place} rw shared:4 - cgroup2 cgroup2 rw\n"
        if path.name == "cgroup.procs":
            return "".join(f"{pid}\n" for pid in sorted(self.pids.get(path.parent, ())))
        return path.read_text()

    def write(self, path: Path, text: str) -> None:
        if not path.exists():
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
        if path.name == "cgroup.procs":
            return self._move(int(text), path.parent)
        if path.name == "cgroup.subtree_control":
            return self._enable(path.parent, [word.removeprefix("+") for word in text.split()])
        path.write_text(text)

    def _move(self, pid: int, folder: Path) -> None:
        if self._enabled(folder):
            raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))
        if pid in self.ended:
            raise ProcessLookupError(errno.ESRCH, os.strerror(errno.ESRCH))
        for pids in self.pids.values():
            pids.discard(pid)
        self.pids.setdefault(folder, set()).add(pid)
        if self.newcomers and folder.name == "lent.others":
            self.pids[folder.parent].add(self.newcomers.pop())

    def _enable(self, folder: Path, controllers: list[str]) -> None:
        if self.pids.get(folder) and folder != self.place:
            raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))
        have = Path.read_text(folder / "cgroup.controllers").split()
        if any(each not in have for each in controllers):
            raise OSError(errno.ENOENT, os.strerror(errno.ENOENT))
        enabled = tuple(dict.fromkeys([*self._enabled(folder), *controllers]))
        (folder / "cgroup.subtree_control").write_text(" ".join(enabled))
        for inner in self.below(folder):
            self._fill(inner, enabled)

    def make(self, folder: Path) -> None:
        folder.mkdir()
        self._fill(folder, self._enabled(folder.parent))

    def remove(self, folder: Path) -> None:
        if self.pids.get(folder):
            raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))
        for file in folder.iterdir():
            file.unlink()
        folder.rmdir()

    def is_roots(self, folder: Path) -> bool:
        return False

    def is_handed_over(self, folder: Path) -> bool:
        return folder in self.handed_over
