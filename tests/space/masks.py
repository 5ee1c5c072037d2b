"""A machine that lacks something: a filter takes it from a process, and so from all that it starts.

`python masks.py NAME PROGRAM WORDS...` runs a program on such a machine. Whoever asks the kernel for what
is masked gets the answer of a kernel that does not have it, or does not allow it.
"""

from __future__ import annotations

import errno
import os
import sys

from motes.space.guest import kernel
from motes.space.profiles import Condition, Refuse, Rule
from motes.space.seccomp import compile_filter
from motes.space.syscalls import this_architecture

NONE, NO_LANDLOCK, NO_NAMESPACES, NO_WALL, NO_SPACE = "nothing", "Landlock", "namespaces", "both", "space"
_NEW_USER, _NEW_MOUNTS = 0x10000000, 0x00020000
_LANDLOCK: dict[str, Rule] = dict.fromkeys(
    ("landlock_create_ruleset", "landlock_add_rule", "landlock_restrict_self"), Refuse(errno.ENOSYS)
)

_NAMESPACES: dict[str, Rule] = {
    "clone": (Condition(0, (0,), mask=_NEW_USER),),
    "unshare": (Condition(0, (0,), mask=_NEW_USER),),
    "clone3": Refuse(errno.ENOSYS),
}

MASKS: dict[str, dict[str, Rule]] = {
    NONE: {},
    # As a kernel without CONFIG_SECURITY_LANDLOCK answers.
    NO_LANDLOCK: _LANDLOCK,
    # As Ubuntu 24.04 and many containers answer an ordinary user.
    NO_NAMESPACES: _NAMESPACES,
    NO_SPACE: {**_LANDLOCK, **_NAMESPACES},
    # Bubblewrap works, for it makes them one by one; what is in its space may make no further ones.
    NO_WALL: {**_LANDLOCK, "unshare": (Condition(0, (_NEW_USER | _NEW_MOUNTS,), inverted=True),)},
}
"""What a machine refuses, by what it lacks."""


def command(mask: str, *words: str) -> list[str]:
    """The command that runs `words` on a machine without `mask`."""
    return [sys.executable, __file__, mask, *words] if mask != NONE else list(words)


def put_on(mask: str) -> None:
    """Mask it for this process, for good."""
    if MASKS[mask]:
        kernel.forbid_new_privileges()
        kernel.install_filter(compile_filter(MASKS[mask], this_architecture(), otherwise=()))


if __name__ == "__main__":
    put_on(sys.argv[1])
    os.execvp(sys.argv[2], sys.argv[2:])
