"""A cgroup of a host's own, in which the agent and all that it runs are kept to what is lent; see scope for the rules.

It is entered once, before root is given up and before anything is started: children are born in it.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from motes.model.host import Offer
from motes.space.scope import CONTROLLERS, OTHERS, PREFIX, kills, mounted_at, own_cgroup, settings, used_bytes

MOST_MOVES = 20
"""Rounds of moving others out: who is forked meanwhile is in the next."""
DELEGATED = "user.delegate"
"""The mark that systemd puts on what it has handed over."""
_SYSTEMD = Path("/run/systemd/system")


class NoScope(Exception):
    """No cgroup can be had, and why."""


class Kernel:
    """The files, as they are. A test has others."""

    def read(self, path: Path) -> str:
        return path.read_text()

    def write(self, path: Path, text: str) -> None:
        descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            # The kernel takes each write as an order of its own.
            os.write(descriptor, text.encode())
        except OSError as error:
            error.filename = str(path)
            raise
        finally:
            os.close(descriptor)

    def make(self, folder: Path) -> None:
        folder.mkdir()

    def remove(self, folder: Path) -> None:
        folder.rmdir()

    @contextlib.contextmanager
    def alone(self, folder: Path) -> Iterator[None]:
        """No other agent changes anything in the folder meanwhile."""
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def below(self, folder: Path) -> list[Path]:
        return [path for path in folder.iterdir() if path.is_dir()]

    def has(self, path: Path) -> bool:
        return path.exists()

    def may_write(self, path: Path) -> bool:
        return os.access(path, os.W_OK)

    def is_handed_over(self, folder: Path) -> bool:
        """Marked by systemd, or given to this user by who owns what is above it."""
        with contextlib.suppress(OSError):
            if os.getxattr(folder, DELEGATED) == b"1":
                return True
        return folder.stat().st_uid == os.geteuid() != folder.parent.stat().st_uid

    def is_roots(self, folder: Path) -> bool:
        """The machine's topmost, where root decides alone. In a container it has a type: who else is there, is not to
        be moved about."""
        return os.geteuid() == 0 and not _SYSTEMD.exists() and not (folder / "cgroup.type").exists()


class Scope:
    """The cgroup that this process is in, with what it limits."""

    def __init__(self, kernel: Kernel, folder: Path, controllers: frozenset[str]) -> None:
        self.folder = folder
        self.controllers = controllers
        self._kernel = kernel

    def keep_to(self, offer: Offer) -> None:
        """Limit all in it. Raises OSError."""
        for setting in settings(offer, self.controllers):
            choices = [(setting.file, setting.text), *([setting.instead] if setting.instead else [])]
            file, text = next((each for each in choices if self._kernel.has(self.folder / each[0])), ("", ""))
            if file:
                self._kernel.write(self.folder / file, text)

    def memory_bytes(self) -> int:
        """What all in it use; 0 where memory is not counted."""
        if "memory" not in self.controllers:
            return 0
        return used_bytes(self._kernel.read(self.folder / "memory.stat"))

    def kills(self) -> int:
        """How many processes the kernel has ended in it for want of memory."""
        if "memory" not in self.controllers:
            return 0
        return kills(self._kernel.read(self.folder / "memory.events"))


def enter(
    offer: Offer, name: str, uid: int | None = None, kernel: Kernel | None = None, wanted: tuple[str, ...] = CONTROLLERS
) -> Scope:
    """Move this process into a cgroup of its own, for host `name`; `uid` is who it will be. Raises NoScope."""
    kernel = kernel or Kernel()
    own, base = find(kernel)
    controllers = usable(kernel, base, wanted)
    leaf = base / f"{PREFIX}{name}.{os.getpid()}"
    try:
        # Hosts start together: one would remove what the other has just made, or move it out again with all others.
        with kernel.alone(base):
            _clear(kernel, base, own)
            _enable(kernel, base, controllers)
            kernel.make(leaf)
            scope = Scope(kernel, leaf, controllers)
            scope.keep_to(offer)
            kernel.write(leaf / "cgroup.procs", str(os.getpid()))
    except OSError as error:
        with contextlib.suppress(OSError):
            kernel.remove(leaf)
        raise NoScope(f"{error.filename or base}: {error.strerror or error}") from None
    if uid is not None:
        for path in (leaf, *leaf.iterdir()):
            os.chown(path, uid, uid)
    return scope


def _own(kernel: Kernel, process: str) -> Path:
    """The cgroup that a process is in. Raises NoScope."""
    cgroup = own_cgroup(kernel.read(Path(f"/proc/{process}/cgroup")))
    if cgroup is None:
        raise NoScope("this machine has no cgroups of version 2")
    place = mounted_at(kernel.read(Path("/proc/self/mountinfo")), cgroup)
    if place is None:
        raise NoScope("cgroups of version 2 are not mounted where they can be seen")
    return Path(place)


def find(kernel: Kernel) -> tuple[Path, Path]:
    """The cgroup that this process is in, and the one that was handed over. Raises NoScope."""
    own = _own(kernel, "self")
    for folder in (own, own.parent):
        # Where the supervisor was moved, and where systemd puts who runs in a subgroup, is one below.
        may = kernel.is_handed_over(folder) or (folder == own and kernel.is_roots(folder))
        if kernel.has(folder / "cgroup.procs") and may:
            if not kernel.may_write(folder / "cgroup.procs"):
                raise NoScope(f"{folder} may not be written to")
            return own, folder
    raise NoScope(f"{own} was not handed over to this user")


def usable(kernel: Kernel, base: Path, wanted: tuple[str, ...] = CONTROLLERS) -> frozenset[str]:
    """The controllers that it has. Raises NoScope for none."""
    found = frozenset(kernel.read(base / "cgroup.controllers").split()) & frozenset(wanted)
    if not found:
        raise NoScope(f"{base} has none of the controllers {', '.join(wanted)}")
    return found


def available() -> frozenset[str]:
    """The controllers of the cgroup that was handed over to what is started from here. Raises NoScope."""
    kernel = Kernel()
    return usable(kernel, find(kernel)[1])


def holding(process: int, kernel: Kernel | None = None) -> frozenset[str] | None:
    """What the cgroup of an agent that runs limits; None where it has none of its own."""
    kernel = kernel or Kernel()
    try:
        own = _own(kernel, str(process))
        if not own.name.startswith(PREFIX) or own.name == OTHERS:
            return None
        return frozenset(kernel.read(own.parent / "cgroup.subtree_control").split()) & frozenset(CONTROLLERS)
    except (NoScope, OSError):
        return None


def _clear(kernel: Kernel, base: Path, own: Path) -> None:
    """Remove what agents left that have ended. One that is in use cannot be removed."""
    for folder in kernel.below(base):
        if folder.name.startswith(PREFIX) and folder.name != OTHERS and folder != own:
            with contextlib.suppress(OSError):
                kernel.remove(folder)


def _enable(kernel: Kernel, base: Path, controllers: frozenset[str]) -> None:
    """Let what is below `base` be limited. Raises OSError."""
    missing = controllers - set(kernel.read(base / "cgroup.subtree_control").split())
    if not missing:
        return
    order = " ".join(f"+{name}" for name in sorted(missing))
    for _ in range(MOST_MOVES):
        try:
            return kernel.write(base / "cgroup.subtree_control", order)
        except OSError as error:
            if error.errno != errno.EBUSY:
                raise
        _move_others(kernel, base)
    raise OSError(errno.EBUSY, "processes come into it without end", str(base))


def _move_others(kernel: Kernel, base: Path) -> None:
    with contextlib.suppress(FileExistsError):
        kernel.make(base / OTHERS)
    for pid in kernel.read(base / "cgroup.procs").split():
        try:
            kernel.write(base / OTHERS / "cgroup.procs", pid)
        except OSError as error:
            # One that has ended meanwhile is gone from there as well.
            if error.errno != errno.ESRCH:
                raise
