"""What is to be written into a cgroup (version 2) so that the kernel keeps a host to its offer, and which cgroup that
may be. Part of a core: texts of the kernel's files in, texts for them out.

- Nothing is made below a cgroup that was not handed over: systemd owns the rest, and tears down what it did not make.
- A cgroup that limits others has no processes of its own, so all that are in it move into one below.
"""

from __future__ import annotations

from typing import NamedTuple

from motes.model.host import Offer

CONTROLLERS = ("cpu", "memory", "pids")
PREFIX = "lent."
OTHERS = f"{PREFIX}others"
"""Where the processes go that were in the cgroup before: the supervisor, and who started it."""
PERIOD_US = 20_000
"""Short, for the agent rests with all others when their time is used up, and has to be heard."""
LEAST_QUOTA_US = 1_000
MOST_QUOTA_US, MOST_PROCESSES = 2**40, 2**22
"""The kernel takes no more of either; it has no more."""
PROCESSES_BESIDE, PROCESSES_EACH = 256, 96
"""Processes and threads of the agent and of walls, and of each space."""


class Setting(NamedTuple):
    """A line for a file. Where the kernel has no such file, `instead` is written, or nothing."""

    file: str
    text: str
    instead: tuple[str, str] | None = None


def settings(offer: Offer, controllers: frozenset[str]) -> list[Setting]:
    """All that keeps a host to its offer, of what the controllers can do."""
    quota_us = min(max(round(offer.cpus * PERIOD_US), LEAST_QUOTA_US), MOST_QUOTA_US)
    processes = min(PROCESSES_BESIDE + PROCESSES_EACH * offer.spaces, MOST_PROCESSES)
    found = {
        "cpu": [
            Setting("cpu.max", f"{quota_us} {PERIOD_US}"),
            # An idle group takes no weight.
            *([Setting("cpu.idle", "1", ("cpu.weight", "1"))] if offer.idle_class else []),
        ],
        "memory": [
            Setting("memory.max", str(int(offer.memory_bytes))),
            # Lent memory that is swapped out would still be in its owner's way.
            Setting("memory.swap.max", "0"),
        ],
        "pids": [Setting("pids.max", str(processes))],
    }
    return [each for name in CONTROLLERS if name in controllers for each in found[name]]


def own_cgroup(text: str) -> str | None:
    """Of /proc/PID/cgroup: the process's cgroup of version 2."""
    return next((line[3:] for line in text.splitlines() if line.startswith("0::/")), None)


def mounted_at(text: str, cgroup: str) -> str | None:
    """Of /proc/PID/mountinfo: the folder of a cgroup; None where it cannot be seen."""
    for line in text.splitlines():
        place, _, system = line.partition(" - ")
        if system.startswith("cgroup2 "):
            root, point = place.split()[3:5]
            # Seen from another cgroup namespace: it lies outside of what is mounted.
            if cgroup.startswith("/..") or not f"{cgroup}/".startswith(root.rstrip("/") + "/"):
                continue
            return point + cgroup[len(root.rstrip("/")) :].rstrip("/")
    return None


def used_bytes(stat: str) -> int:
    """Of memory.stat: what cannot be had back at once, the kernel's own for these processes included."""
    values = dict(line.split(" ", 1) for line in stat.splitlines() if " " in line)
    return sum(int(values.get(key, 0)) for key in ("anon", "shmem", "kernel", "sock"))


def kills(events: str) -> int:
    """Of memory.events: how many processes were ended for want of memory."""
    return next((int(line.split()[1]) for line in events.splitlines() if line.startswith("oom_kill ")), 0)
