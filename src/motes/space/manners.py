"""How this process and all that it starts behave towards the rest of the machine. Children inherit it; nobody in a
space can undo it: the filter refuses affinity, and the kernel lets nobody without rights out of the idle class.
"""

from __future__ import annotations

import contextlib
import ctypes
import math
import os
import zlib
from collections.abc import Iterable, Iterator

from motes.space.guest.kernel import LEAST_URGENT_NICE

FIRST_TO_GO = 900
"""Of 1000: what the kernel prefers to end when a machine is out of memory."""
_SYS_IOPRIO_SET = {"x86_64": 251, "aarch64": 30}
_IOPRIO_WHO_PROCESS, _IOPRIO_CLASS_IDLE = 1, 3 << 13
_libc = ctypes.CDLL(None)


class _Scores:
    """This process's oom_score_adj: an open descriptor, and what it says; set once."""

    kept: tuple[int, bytes] | None = None


def keep_to_processors(
    count: float, name: str, usable: Iterable[int] | None = None, processes: Iterable[int] = ()
) -> int:
    """Use so many of the usable processors at a time, rounded up, from now on; returns how many. `name` chooses which.

    `processes` were started before, and had others to use.
    """
    those = sorted(os.sched_getaffinity(0) if usable is None else usable)
    wanted = min(max(math.ceil(count), 1), len(those))
    # Several hosts of one machine had better not all crowd on its first ones.
    first = zlib.crc32(name.encode()) % len(those)
    chosen = {those[(first + number) % len(those)] for number in range(wanted)}
    os.sched_setaffinity(0, chosen)
    for thread in (thread for pid in processes for thread in _threads(pid)):
        with contextlib.suppress(OSError):
            os.sched_setaffinity(thread, chosen)
    return wanted


def _threads(pid: int) -> list[int]:
    with contextlib.suppress(OSError):
        return [int(each) for each in os.listdir(f"/proc/{pid}/task")]
    return []


def stand_back() -> None:
    """Run only when nobody else wants to: this process nearly so, for its heart has to beat; what is in spaces wholly.

    Spaces know it by the niceness that they inherit (motes.space.guest.kernel): told before exec, this process
    would have to wait for one that gets no processor. Of the disk all of it takes what others leave.
    """
    os.setpriority(os.PRIO_PROCESS, 0, LEAST_URGENT_NICE)
    call = _SYS_IOPRIO_SET.get(os.uname().machine)
    if call is not None:
        _libc.syscall(call, _IOPRIO_WHO_PROCESS, 0, _IOPRIO_CLASS_IDLE)


def let_be_idle(*pids: int) -> None:
    """Bubblewrap's own processes, where this one stands back."""
    if os.getpriority(os.PRIO_PROCESS, 0) == LEAST_URGENT_NICE:
        for pid in pids:
            with contextlib.suppress(OSError):
                os.sched_setscheduler(pid, os.SCHED_IDLE, os.sched_param(0))


def let_spaces_go_first() -> None:
    """When memory is short the kernel ends what is in spaces before this process, and before its owner's programs.

    Call it before root is given up: after that only a descriptor from before may write there.
    """
    with contextlib.suppress(OSError):
        descriptor = os.open("/proc/self/oom_score_adj", os.O_RDWR | os.O_CLOEXEC)
        _Scores.kept = (descriptor, os.read(descriptor, 16))


@contextlib.contextmanager
def first_to_go() -> Iterator[None]:
    """What is started within it goes first."""
    if _Scores.kept is None:
        yield
        return
    descriptor, score = _Scores.kept
    os.pwrite(descriptor, str(max(FIRST_TO_GO, int(score))).encode(), 0)
    try:
        yield
    finally:
        os.pwrite(descriptor, score, 0)
