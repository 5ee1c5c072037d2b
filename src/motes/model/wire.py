"""The version of what keepers and hosts say to each other, and what becomes of a host that has another.

What is only added needs no new version: every message is read as a map, and fields that a side does not know are passed
over. WIRE rises when an older side would misunderstand a newer one, and OLDEST when the newer one no longer
understands the older.
"""

from __future__ import annotations

import msgspec

from motes.model.bounds import Count, Number, Short

WIRE = 1
OLDEST = 1
"""A keeper takes hosts from this version on, up to its own."""


class Welcome(msgspec.Struct, frozen=True):
    """The keeper's answer to an agent's report that asks for one. Empty bytes are that of a keeper before it."""

    refusal: str = ""
    """Why this agent gets no work, and what to do; empty when it is taken."""
    is_taken: bool = False
    """Whether the refusal is that another agent has this host's name."""
    after_s: Number = 0.0
    """So long another may still take calls in this host's name: no call is to be taken before."""
    now: Number = 0.0
    """The keeper's clock, Unix time in seconds; 0 when it does not say."""


class Greeting(msgspec.Struct, frozen=True):
    """What of a report can be read whatever its version: who sent it, and why the rest may mean something else."""

    host: Short
    boot: Short
    pid: Count = 0
    wire: Count = 1
    version: Short = ""


def misfit(wire: int) -> str:
    """`too old` or `too new` for a host that this keeper cannot work with; else empty."""
    return "too old" if wire < OLDEST else "too new" if wire > WIRE else ""


def what_to_do(host: str, wire: int, version: str, own_version: str) -> str:
    """Which side is to be upgraded, for a host that does not fit."""
    older, newer = (f"host {host!r}", "the keeper") if wire < OLDEST else ("the keeper", f"host {host!r}")
    there, here = version or "an earlier one", own_version
    return (
        f"host {host!r} has Motes {there} (wire {wire}), the keeper {here} (wire {WIRE}): {newer} is newer, and they"
        f" would misunderstand each other; install the newer Motes for {older} and start it again"
    )
