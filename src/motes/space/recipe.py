"""Which walls this machine has, found by trying: user namespaces (bubblewrap) alone, or Landlock too.

Namespaces alone suffice for the owner's own code; code of another owner needs both.
"""

from __future__ import annotations

import functools
from enum import StrEnum

from motes.errors import SpaceFailed
from motes.space import bubblewrap
from motes.space.guest import kernel


class Recipe(StrEnum):
    """What the spaces of this machine are made of; seccomp, limits and an ordinary user are in each."""

    BOTH = "both"
    NAMESPACES = "namespaces only"

    @property
    def weaker(self) -> str:
        """What does not hold as it does with both; empty for both."""
        return _WEAKER[self]


_WEAKER = {
    Recipe.BOTH: "",
    Recipe.NAMESPACES: (
        "no Landlock: an app's module code may make user namespaces in its space, and a daemon may end its own helper"
    ),
}


@functools.cache
def recipe() -> Recipe:
    """This machine's. Raises SpaceFailed when no bubblewrap works."""
    bubblewrap.find()
    return Recipe.BOTH if kernel.landlock_abi() else Recipe.NAMESPACES


def recipe_in_words() -> str:
    """One line for people: which walls, and what is weaker for one that is missing; or that there are none."""
    try:
        found = recipe()
    except SpaceFailed as error:
        return f"none ({error.message})"
    return f"{found} ({found.weaker})" if found.weaker else str(found)


def check_may_lend(found: Recipe) -> None:
    """Nothing where code of another owner than the host's may run. Raises SpaceFailed: one wall is for one's own."""
    if found is not Recipe.BOTH:
        raise SpaceFailed(
            f"this host's spaces have {found}; another owner's code runs only where both walls stand"
            " (`motes doctor` says what mends it)"
        )
