"""How this process and all that it starts behave towards the rest of the machine. Children inherit it; nobody in a
space can undo it: the filter refuses affinity, and the kernel lets nobody without rights out of the idle class.
"""

from __future__ import annotations

import contextlib
import ctypes
import math
import os
import zlib
from collections.abc import Callable, Iterator

FIRST_TO_GO = 900
"""Of 1000: what the kernel prefers to end when a machine is out of memory."""
LEAST_URGENT_NICE = 19
_SYS_IOPRIO_SET = {"x86_64": 251, "aarch64": 30}
_IOPRIO_WHO_PROCESS, _IOPRIO_CLASS_IDLE = 1, 3 << 13
_libc = ctypes.CDLL(None, use_errno=True)


class _Manners:
    """What spaces get beside what they inherit; set once, at the start of the process that makes them."""

    idle = False
    scores: tuple[int, bytes] | None = None
    """The descriptor of this process's oom_score_adj, and what it says."""


def keep_to_processors(count: float, name: str) -> int:
    """Use so many processors at a time, rounded up, from now on; returns how many. `name` chooses which."""
    usable = sorted(os.sched_getaffinity(0))
    wanted = max(math.ceil(count), 1)
    if wanted >= len(usable):
        return len(usable)
    # Several hosts of one machine had better not all crowd on its first ones.
    first = zlib.crc32(name.encode()) % len(usable)
    os.sched_setaffinity(0, {usable[(first + number) % len(usable)] for number in range(wanted)})
    return wanted


def stand_back() -> None:
    """Run only when nobody else wants to: this process nearly so, for its heart has to beat; what it starts wholly."""
    os.setpriority(os.PRIO_PROCESS, 0, LEAST_URGENT_NICE)
    _Manners.idle = True


def let_spaces_go_first() -> None:
    """When memory is short the kernel ends what is in spaces before this process, and before its owner's programs.

    Call it before root is given up: after that only a descriptor from before may write there.
    """
    with contextlib.suppress(OSError):
        descriptor = os.open("/proc/self/oom_score_adj", os.O_RDWR | os.O_CLOEXEC)
        _Manners.scores = (descriptor, os.read(descriptor, 16))


@contextlib.contextmanager
def of_spaces() -> Iterator[Callable[[], None] | None]:
    """Start a space's first process within it, with the function that it gives run in the child."""
    scores = _Manners.scores
    if scores is not None:
        os.pwrite(scores[0], str(max(FIRST_TO_GO, int(scores[1]))).encode(), 0)
    try:
        yield _be_idle if _Manners.idle else None
    finally:
        if scores is not None:
            os.pwrite(scores[0], scores[1], 0)


def _be_idle() -> None:
    """Before exec, in the child: the idle class cannot be left again, so the parent must not enter it."""
    os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    _libc.syscall(_SYS_IOPRIO_SET[os.uname().machine], _IOPRIO_WHO_PROCESS, 0, _IOPRIO_CLASS_IDLE)
