"""Where commands work: some need Linux, for they make process spaces or the cluster around them; some need a home of
this machine's. The others only talk to a cluster, wherever that is."""

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
        "join",
        "leave",
        "demo",
        "keeper",
        "service",
    }
)

OF_THIS_MACHINE = frozenset(
    {"up", "down", "host start", "host stop", "lend", "pause", "resume", "join", "leave", "keeper", "service"}
)


def refuse_elsewhere(command: str) -> None:
    """Raises Refused for a command that cannot work on this system, or not in the context in force."""
    if command in ON_LINUX and not sys.platform.startswith("linux"):
        raise Refused(
            f"motes {command} needs Linux and this is {sys.platform}; "
            "from here the commands that ask a cluster work, for example motes call"
        )
    if command in OF_THIS_MACHINE:
        from motes.home import Home

        Home().refuse_client()
