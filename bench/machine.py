"""The machine that a run was made on, as far as it matters for the numbers. No names, no paths."""

from __future__ import annotations

import os
import platform

from motes.bus import server


def describe() -> dict[str, str]:
    """By what, which."""
    return {
        "cores": str(len(os.sched_getaffinity(0))),
        "memory": f"{os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE') / 2**30:.0f} GiB",
        "Linux": ".".join(platform.release().split("-")[0].split(".")[:2]),
        "Python": platform.python_version(),
        "nats-server": server.version(server.find_binary()).version,
        "as": "root" if os.geteuid() == 0 else "an ordinary user",
    }
