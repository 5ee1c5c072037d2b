"""Whoever writes without end is slowed down, and costs the agent no more than the others do."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from motes.agent.outputs import OUTPUT_AT_ONCE_BYTES
from motes.agent.service import Agent
from motes.agent.spaces import Spaces
from motes.space.function_space import ZYGOTE_NUMBER

CHUNK = b"x" * 2**16


class Printer:
    """Stands for a space whose output is paused and resumed."""

    def __init__(self) -> None:
        self.switched: list[str] = []

    def pause_output(self, *number: int) -> None:
        self.switched.append("pause")

    def resume_output(self, *number: int) -> None:
        self.switched.append("resume")


def lent() -> tuple[Spaces, Printer, Printer]:
    """Spaces with a release `r` and the daemon number 7."""
    machine = SimpleNamespace(instances={}, manifest=lambda release: SimpleNamespace(app="app"))
    spaces = Spaces(cast(Agent, SimpleNamespace(machine=machine, log=lambda *what: None)), Path("none"))
    zygote, daemon = Printer(), Printer()
    cast(Any, spaces.functions)._by_release["r"], cast(Any, spaces.daemons)._open[7] = zygote, daemon
    return spaces, zygote, daemon


def test_a_flood_waits_for_the_next_flush_and_is_read_on_after_it() -> None:
    for release, number in (("r", ZYGOTE_NUMBER), ("", 7)):
        spaces, zygote, daemon = lent()
        flooding, quiet = (zygote, daemon) if release else (daemon, zygote)
        for _ in range(3):
            for _ in range(3 * OUTPUT_AT_ONCE_BYTES // len(CHUNK)):
                spaces.output((release, number), CHUNK, "app")
            spaces.outputs.resume()
        assert flooding.switched == ["pause", "resume"] * 3 and quiet.switched == []


def test_who_writes_little_is_never_paused() -> None:
    spaces, zygote, daemon = lent()
    for _ in range(100):
        spaces.output(("r", ZYGOTE_NUMBER), b"x" * 1000, "app")
        spaces.output(("", 7), b"x" * 1000, "")
        spaces.output(("gone", 0), CHUNK * 10, "app")
        spaces.outputs.resume()
    assert zygote.switched == daemon.switched == []
