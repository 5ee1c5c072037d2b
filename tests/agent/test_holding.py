"""What keeps a host to its offer is told when the offer changes, and tells what the kernel did."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from motes.agent.holding import Holding
from motes.model.host import Offer
from motes.space.cgroup import enter
from space.kernel_of_cgroups import KernelOfCgroups

OFFER = Offer(cpus=1.0)
ALL = os.sched_getaffinity(0)


def held_by_cgroup(folder: Path) -> tuple[Holding, Path]:
    kernel = KernelOfCgroups(folder / "cgroup", "/motes.service", ["/motes.service"], [os.getpid()])
    scope = enter(OFFER, "b", kernel=kernel)
    return Holding(OFFER, scope, len(ALL), "b", ALL), scope.folder


def test_in_a_cgroup_nobody_rests_and_the_kernel_walls_the_memory(tmp_path: Path) -> None:
    holding, folder = held_by_cgroup(tmp_path)
    assert holding.memory_is_walled and not holding.rests
    (folder / "memory.stat").write_text("anon 1000\nfile 5000\nkernel 24\n")
    assert holding.memory_bytes() == 1024
    assert Holding(OFFER, None, len(ALL), "b", ALL).memory_bytes() == 0


def test_each_process_that_the_kernel_ended_for_memory_is_told_once(tmp_path: Path) -> None:
    holding, folder = held_by_cgroup(tmp_path)
    assert not holding.has_killed()
    (folder / "memory.events").write_text("max 7\noom 2\noom_kill 2\n")
    assert [holding.has_killed() for _ in range(3)] == [True, True, False]
    assert not Holding(OFFER, None, len(ALL), "b", ALL).has_killed()


def test_a_changed_offer_is_written_into_the_cgroup(tmp_path: Path) -> None:
    holding, folder = held_by_cgroup(tmp_path)
    holding.change(Offer(cpus=0.5, memory_bytes=2**20), [])
    assert (folder / "cpu.max").read_text() == "10000 20000" and (folder / "memory.max").read_text() == "1048576"
    assert not holding.rests


LATE = """
import json, os, subprocess
from motes.agent.holding import SETTLING_LOOKS, Holding
from motes.model.host import Offer
usable = os.sched_getaffinity(0)
holding = Holding(Offer(cpus=float(len(usable))), None, len(usable), "b", usable)
late, later = (subprocess.Popen(["sleep", "60"]) for _ in range(2))
holding.change(Offer(cpus=0.5), [])
seen = [len(os.sched_getaffinity(late.pid))]
holding.settle([late.pid])
seen.append(len(os.sched_getaffinity(late.pid)))
for _ in range(SETTLING_LOOKS):
    holding.settle([])
holding.settle([later.pid])
seen.append(len(os.sched_getaffinity(later.pid)))
print(json.dumps([seen, holding.rests, holding.processors]))
for each in (late, later):
    each.kill(), each.wait()
"""


@pytest.mark.skipif(len(ALL) < 2, reason="with one processor there is nothing to choose")
def test_who_was_forked_while_the_offer_changed_is_kept_to_the_new_one_as_soon_as_he_is_seen() -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", LATE], env=environment, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == [[len(ALL), 1, len(ALL)], True, 1]
