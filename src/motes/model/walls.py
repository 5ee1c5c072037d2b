"""What a host's spaces are made of. Which of these a machine has is tried (motes.space.walls)."""

from __future__ import annotations

from enum import StrEnum


class Walls(StrEnum):
    """The walls around a space beside seccomp, limits and an ordinary user, which are in each."""

    BOTH = "both"
    NAMESPACES = "namespaces only"
    LANDLOCK = "Landlock only"

    @property
    def weaker(self) -> str:
        """What does not hold as it does with both; empty for both."""
        return _WEAKER[self]

    @property
    def hold_daemons(self) -> bool:
        """A daemon needs a network of its own, which only a namespace gives."""
        return self is not Walls.LANDLOCK


_WEAKER = {
    Walls.BOTH: "",
    Walls.NAMESPACES: (
        "no Landlock: an app's module code may make user namespaces in its space, and a daemon may end its own helper"
    ),
    Walls.LANDLOCK: (
        "no namespaces: an app sees which files and users the machine has and what it is called, its /tmp is a folder"
        " on the disk that is watched and not sized; and no daemons"
    ),
}
