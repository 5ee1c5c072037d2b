"""What processes used, as the kernel counts it: microseconds to read, so that an agent may ask often."""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import time
from collections.abc import Generator, Iterable
from pathlib import Path
from typing import NamedTuple

from motes.space.limits import Usage

_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_INODE_BYTES = 1024
COPIED_BYTES = 2**20
"""What a fork copies of its parent's pages by running at all (measured: 1.2 MiB for a first call)."""
GONE = 0
"""The id of a process that has ended and been waited for."""
MOST_PROCESSES = 65536
STOP_TRIES, STOP_TRY_S = 100, 0.0001
MOST_ANCESTORS = 64
MOST_ENTRIES, DEEPEST = 10_000, 50
"""Files that are looked at in a folder that is watched, and folders in one another."""
ENTRIES_AT_ONCE = 250
"""Of these in one look: nested folders take some tens of microseconds each, and others wait meanwhile."""
TOO_MUCH = 2**62
_FOLDER_ITSELF = os.O_PATH | os.O_NOFOLLOW | os.O_DIRECTORY | os.O_CLOEXEC
_BLOCK_BYTES = 512
"""Of st_blocks, on every file system."""


def cpu_s(pid: int) -> float:
    """CPU seconds of all threads of a process, living or not yet reaped; 0 when it is gone. Linux's own clock ids."""
    try:
        return time.clock_gettime_ns((~pid << 3) | 2) / 1e9
    except OSError:
        return 0.0


def reaped_cpu_s(pid: int) -> float:
    """CPU seconds of the children of a process that have ended and that it has waited for, and of theirs in turn."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            words = file.read().rpartition(b")")[2].split()
    except OSError:
        return 0.0
    return (int(words[13]) + int(words[14])) / _TICKS_PER_S


def waited_s(pid: int) -> float:
    """How long a process's main thread was ready to run and had no processor; 0 where the kernel does not count it."""
    try:
        with open(f"/proc/{pid}/schedstat", "rb") as file:
            return int(file.read().split()[1]) / 1e9
    except (OSError, IndexError):
        return 0.0


def memory_bytes(pid: int) -> int:
    """Resident memory that is not shared with a file; pages shared with a parent since the fork count."""
    try:
        with open(f"/proc/{pid}/statm", "rb") as file:
            words = file.read().split()
    except OSError:
        return 0
    return (int(words[1]) - int(words[2])) * _PAGE_BYTES


def mounted_bytes(descriptor: int) -> int:
    """The memory that a tmpfs takes, by an open descriptor of it: its pages, and about a KiB for each file."""
    if descriptor < 0:
        return 0
    status = os.fstatvfs(descriptor)
    pages = (status.f_blocks - status.f_bfree) * status.f_frsize
    return pages + (status.f_files - status.f_ffree) * _INODE_BYTES


class Tree:
    """What the files in a folder take, by an open descriptor of it: a part of them is looked at each time.

    Between looks folders stay open, as long as there is a reference to it.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._walk: Generator[int, None, None] | None = None
        self._found = self._last = 0

    def look(self) -> int:
        """Bytes, as of the last time that all had been seen, or more; TOO_MUCH when there are too many to look at."""
        if self._walk is None:
            self._walk, self._found = _tree(self._descriptor, DEEPEST, [MOST_ENTRIES]), 0
        try:
            some = list(itertools.islice(self._walk, ENTRIES_AT_ONCE))
        except OverflowError:
            self._walk, self._last = None, TOO_MUCH
            return TOO_MUCH
        self._found += sum(some)
        if len(some) < ENTRIES_AT_ONCE:
            self._walk, self._last = None, self._found
        return max(self._last, self._found)


def _tree(parent: int, depth: int, left: list[int]) -> Generator[int, None, None]:
    """The bytes of each entry. Raises OverflowError when `left`, the number of entries, or `depth` is used up."""
    try:
        folder = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=parent)
    except OSError:
        return  # Nobody can look into it, so nobody could put anything there.
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                left[0] -= 1
                if left[0] < 0 or depth == 0:
                    raise OverflowError
                with contextlib.suppress(OSError):
                    yield entry.stat(follow_symlinks=False).st_blocks * _BLOCK_BYTES + _INODE_BYTES
                    if entry.is_dir(follow_symlinks=False):
                        inner = os.open(entry.name, _FOLDER_ITSELF, dir_fd=folder)
                        try:
                            yield from _tree(inner, depth - 1, left)
                        finally:
                            os.close(inner)
    finally:
        os.close(folder)


def threads(pid: int) -> int:
    try:
        return os.stat(f"/proc/{pid}/task").st_nlink - 2
    except OSError:
        return 0


def usage(pid: int) -> Usage:
    """One process."""
    return Usage(cpu_s(pid), memory_bytes(pid), threads(pid))


def usage_since_fork(pid: int, memory_at_fork: int) -> Usage:
    """A forked process: what its parent had at the fork (`memory_at_fork`) is shared, but for what running copies."""
    grown = max(memory_bytes(pid) - memory_at_fork, 0)
    return Usage(cpu_s(pid), COPIED_BYTES + grown, threads(pid))


def fair_usage(pid: int) -> Usage:
    """One process of several that share memory: of each shared page its part. Dearer to read (150 microseconds)."""
    return Usage(cpu_s(pid), _fair_bytes(pid), threads(pid))


def _fair_bytes(pid: int) -> int:
    try:
        with open(f"/proc/{pid}/smaps_rollup", "rb") as file:
            lines = file.read().splitlines()
    except OSError:
        return memory_bytes(pid)
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith((b"Pss_Anon:", b"Pss_Shmem:")))


def add(usages: Iterable[Usage]) -> Usage:
    """All of them together."""
    cpu, memory, count = 0.0, 0, 0
    for each in usages:
        cpu, memory, count = cpu + each.cpu_s, memory + each.memory_bytes, count + each.threads
    return Usage(cpu, memory, count)


def processes_below(pid: int) -> list[int]:
    """`pid` and all its descendants, as far as they can be seen."""
    found = [pid]
    for parent in found:
        found += children(parent)
        if len(found) > MOST_PROCESSES:
            break
    return found


def wait_until_stopped(pid: int) -> None:
    """Until a process that was sent SIGSTOP has stopped or ended: some microseconds, and not for ever."""
    for _ in range(STOP_TRIES):
        try:
            with open(f"/proc/{pid}/stat", "rb") as file:
                state = file.read().rpartition(b")")[2].split()[0]
        except (OSError, IndexError):
            return
        if state in b"TtZX":
            return
        time.sleep(STOP_TRY_S)


def children(pid: int) -> list[int]:
    """The direct children of all threads of a process."""
    found: list[int] = []
    try:
        for path in Path(f"/proc/{pid}/task").iterdir():
            found += map(int, (path / "children").read_text().split())
    except OSError:
        return found
    return found


class Seen(NamedTuple):
    """A process: its id as seen from here, or GONE, and in how many process namespaces it has one."""

    pid: int
    levels: int


def behind(pidfd: int) -> Seen:
    """The process that `pidfd` stands for. Raises ValueError for what is none."""
    fields: dict[str, str] = {}
    with open(f"/proc/self/fdinfo/{pidfd}") as file:
        for line in file:
            name, _, value = line.partition(":")
            fields[name] = value.strip()
    if fields.get("Pid") == "-1":
        return Seen(GONE, 0)
    if not fields.get("Pid", "").isdigit() or int(fields["Pid"]) <= 0:
        raise ValueError("a descriptor that stands for no process of the space")
    return Seen(int(fields["Pid"]), len(fields.get("NSpid", "").split()))


def descends(pid: int, ancestor: int) -> bool:
    """Whether `ancestor` is among the parents of a process and of its parents."""
    for _ in range(MOST_ANCESTORS):
        if pid == ancestor or pid <= 1:
            break
        pid = _parent(pid)
    return pid == ancestor


def _parent(pid: int) -> int:
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return int(file.read().rpartition(b")")[2].split()[1])
    except (OSError, IndexError):
        return GONE


def signal_process(pidfd: int, number: signal.Signals) -> None:
    """Send a signal; nothing for a process that is gone."""
    with contextlib.suppress(ProcessLookupError):
        signal.pidfd_send_signal(pidfd, number)
