"""Which walls this machine has, found by trying: user namespaces (bubblewrap), Landlock, or both.

One alone suffices for the owner's own code; code of another owner needs both.
"""

from __future__ import annotations

import functools

from motes.errors import SpaceFailed
from motes.model.walls import Walls
from motes.space import bubblewrap
from motes.space.guest import kernel

LEAST_ABI_ALONE = 3
"""Before it (Linux 6.2) Landlock lets any file of the same user be cut short."""


@functools.cache
def walls() -> Walls:
    """This machine's. Raises SpaceFailed when there is no bubblewrap that works and no Landlock that suffices alone."""
    abi = kernel.landlock_abi()
    try:
        bubblewrap.find()
    except SpaceFailed as error:
        if abi >= LEAST_ABI_ALONE:
            return Walls.LANDLOCK
        landlock = f"Landlock has version {abi} of {LEAST_ABI_ALONE}" if abi else "there is no Landlock"
        raise SpaceFailed(f"{error.message}, and {landlock}") from None
    return Walls.BOTH if abi else Walls.NAMESPACES


def walls_or_none() -> str:
    """A Walls, or nothing where no space can be made."""
    try:
        return walls()
    except SpaceFailed:
        return ""


def walls_in_words() -> str:
    """One line for people: which walls, and what is weaker for one that is missing; or that there are none."""
    try:
        found = walls()
    except SpaceFailed as error:
        return f"none ({error.message})"
    return f"{found} ({found.weaker})" if found.weaker else str(found)


def check_may_lend(found: Walls) -> None:
    """Nothing where code of another owner than the host's may run. Raises SpaceFailed: one wall is for one's own."""
    if found is not Walls.BOTH:
        raise SpaceFailed(
            f"this host's spaces have {found}; another owner's code runs only where both walls stand"
            " (`motes doctor` says what mends it)"
        )
