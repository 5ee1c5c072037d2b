"""What needs Linux: the commands that make process spaces, or the cluster around them. The others only talk to one."""

from __future__ import annotations

import sys

from motes.errors import Refused

ON_LINUX = frozenset(
    {
        "up",
        "down",
        "dev",
        "run",
        "host start",
        "host stop",
        "lend",
        "pause",
        "resume",
        "invite",
        "join",
        "leave",
        "demo",
        "keeper",
    }
)


def refuse_elsewhere(command: str) -> None:
    """Raises Refused for a command that cannot work on this system."""
    if command in ON_LINUX and not sys.platform.startswith("linux"):
        raise Refused(
            f"motes {command} needs Linux and this is {sys.platform}; "
            "from here the commands that ask a cluster work, for example motes call"
        )
