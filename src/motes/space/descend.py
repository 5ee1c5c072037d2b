"""From root to an ordinary user for good, keeping readable what is needed, under the same names.

No guest may have the kernel's uid 0, so whoever makes spaces must not have it either. What is needed may lie below a
folder that only root may enter (an interpreter under /root, a virtual environment in a private temporary folder). In a
mount namespace of this process's own, the topmost such folder is covered with an empty one, and what is needed is bound
back at its place below. The host's own mounts do not change, and what else lies there is out of reach.
"""

from __future__ import annotations

import ctypes
import os
import stat
import zlib
from collections.abc import Sequence
from pathlib import Path

from motes.errors import SpaceFailed
from motes.supervised import end_with_parent

FIRST_UID, LAST_UID = 61184, 65519
"""The range that systemd leaves for users made on the fly."""

_libc = ctypes.CDLL(None, use_errno=True)
_NEW_MOUNTS = 0x00020000
_BIND, _RECURSIVE, _PRIVATE = 0x1000, 0x4000, 0x40000
_NOSUID, _NODEV = 2, 4


def uid_of(name: str) -> int:
    """The ordinary user that a host of this name drops to."""
    return FIRST_UID + zlib.crc32(name.encode()) % (LAST_UID - FIRST_UID + 1)


def descend(readable: Sequence[Path], writable: Sequence[Path], name: str) -> None:
    """Become the ordinary user of `name`; nothing happens when this process is not root's.

    `readable` and `writable` stay at their paths; `writable` folders, and what is in them, become that user's own.
    Call it before any thread exists. Raises SpaceFailed when that is too late, or a path stays out of reach.
    """
    if os.geteuid() != 0:
        return
    if len(os.listdir("/proc/self/task")) != 1:
        raise SpaceFailed("cannot give up root: threads are already running")
    uid = uid_of(name)
    needed = _with_targets([*readable, *writable])
    for folder in writable:
        _own(folder, uid)
    if any(_barrier(path) for path in needed):
        _uncover(needed)
    _drop(uid)
    end_with_parent()
    _check(readable, writable)


def _with_targets(paths: Sequence[Path]) -> list[Path]:
    """The paths and what they lead to, parents before what is in them."""
    absolute = {Path(os.path.abspath(path)) for path in paths}
    return sorted(absolute | {path.resolve() for path in absolute}, key=lambda path: len(path.parts))


def _own(folder: Path, uid: int) -> None:
    os.chown(folder, uid, uid, follow_symlinks=False)
    for parent, folders, files, descriptor in os.fwalk(folder, follow_symlinks=False):
        del parent
        for entry in (*folders, *files):
            status = os.stat(entry, dir_fd=descriptor, follow_symlinks=False)
            # Where the kernel lets anybody link to anybody's file, that user may have put one of root's here.
            if status.st_uid != uid and (stat.S_ISDIR(status.st_mode) or status.st_nlink == 1):
                os.chown(entry, uid, uid, dir_fd=descriptor, follow_symlinks=False)


def _barrier(path: Path) -> Path | None:
    """The topmost folder above `path` that not everybody may enter."""
    for folder in reversed(path.parents):
        try:
            status = os.stat(folder)
        except OSError:
            return None
        if stat.S_ISDIR(status.st_mode) and not status.st_mode & stat.S_IXOTH:
            return folder
    return None


def _uncover(needed: Sequence[Path]) -> None:
    _call(_libc.unshare(_NEW_MOUNTS), "a mount namespace of its own")
    _mount(None, "/", None, _RECURSIVE | _PRIVATE)
    # Opened before anything is covered, and inside the new namespace, for only its mounts can be bound in it.
    opened = [(path, _open_or_link(path)) for path in needed]
    for path, source in opened:
        barrier = _barrier(path)
        if barrier is not None:
            _mount("tmpfs", str(barrier.resolve()), "tmpfs", _NOSUID | _NODEV, "mode=755,size=1m")
        _bring_back(path, source)
    for _, source in opened:
        if isinstance(source, int):
            os.close(source)


def _open_or_link(path: Path) -> int | str:
    """What is at `path`: an open descriptor, or a symbolic link's text."""
    if path.is_symlink():
        return os.readlink(path)
    try:
        return os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        raise SpaceFailed(f"{path} is needed and cannot be opened: {error.strerror}") from None


def _bring_back(path: Path, source: int | str) -> None:
    """Put `source` at `path` again, unless it is still there."""
    if isinstance(source, str):
        if not path.is_symlink():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.symlink_to(source)
        return
    status = os.fstat(source)
    if path.exists() and os.path.samestat(os.stat(path), status):
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    if stat.S_ISDIR(status.st_mode):
        path.mkdir(exist_ok=True)
    else:
        path.touch()
    _mount(f"/proc/self/fd/{source}", str(path), None, _BIND | _RECURSIVE)


def _drop(uid: int) -> None:
    os.setgroups([])
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)
    if 0 in (*os.getresuid(), *os.getresgid()) or os.getgroups():
        raise SpaceFailed("root was given up and is still there")


def _check(readable: Sequence[Path], writable: Sequence[Path]) -> None:
    needs = [*((path, os.R_OK, "read") for path in readable), *((path, os.W_OK, "write") for path in writable)]
    for path, mode, verb in needs:
        wanted = mode | (os.X_OK if path.is_dir() else 0)
        if not os.access(path, wanted):
            raise SpaceFailed(
                f"an ordinary user cannot {verb} {path}, which the process spaces need (chmod -R a+rX {path})"
            )


def _mount(source: str | None, target: str, kind: str | None, flags: int, data: str | None = None) -> None:
    words = [None if text is None else os.fsencode(text) for text in (source, target, kind, data)]
    _call(_libc.mount(words[0], words[1], words[2], ctypes.c_ulong(flags), words[3]), f"mount {target}")


def _call(result: int, what: str) -> None:
    if result < 0:
        number = ctypes.get_errno()
        raise SpaceFailed(f"root cannot make {what}: {os.strerror(number)} (start motes as an ordinary user instead)")
