"""What this process and all it starts may take of the machine, as the kernel says of each."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from motes.space.manners import FIRST_TO_GO

PROGRAM = '''
import json, os, subprocess, sys
from motes.space import manners
CHILD = """
import time
from motes.space.guest import kernel
kernel.be_as_idle_as_the_host()
print("ready", flush=True)
time.sleep(60)
"""
{todo}
with manners.first_to_go():
    command = [sys.executable, "-c", CHILD]
    child = subprocess.Popen(command, stdout=subprocess.PIPE)
child.stdout.readline()
def said(pid):
    score = int(open(f"/proc/{{pid}}/oom_score_adj").read())
    return [sorted(os.sched_getaffinity(pid)), os.sched_getscheduler(pid), os.getpriority(os.PRIO_PROCESS, pid), score]
print(json.dumps([said(os.getpid()), said(child.pid)]))
child.kill(), child.wait(), child.stdout.close()
'''
ALL = sorted(os.sched_getaffinity(0))
NICE = os.getpriority(os.PRIO_PROCESS, 0)
SCORE = int(Path("/proc/self/oom_score_adj").read_text())


def after(*todo: str) -> list[list[object]]:
    """Of a process that did this, and of its child: processors, class, nice, and how soon it ends without memory."""
    program = PROGRAM.format(todo="\n".join(todo))
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    assert isinstance(found, list)
    return found


def test_without_a_word_a_child_is_as_its_parent() -> None:
    assert after() == [[ALL, os.SCHED_OTHER, NICE, SCORE]] * 2


def test_memory_is_taken_from_what_is_in_spaces_first_and_the_parent_is_as_before() -> None:
    parent, child = after("manners.let_spaces_go_first()")
    assert (parent[3], child[3]) == (SCORE, max(FIRST_TO_GO, SCORE))


def test_a_host_that_stands_back_is_nice_and_what_it_starts_is_idle() -> None:
    parent, child = after("manners.stand_back()")
    assert parent[1:3] == [os.SCHED_OTHER, 19]
    assert child[1] == os.SCHED_IDLE


@pytest.mark.skipif(len(ALL) < 2, reason="with one processor there is nothing to choose")
@pytest.mark.parametrize(("lent", "count"), [(0.1, 1), (1.0, 1), (1.1, 2), (len(ALL), len(ALL)), (1000, len(ALL))])
def test_so_many_processors_are_used_as_are_lent_and_by_all_it_starts_the_same(lent: float, count: int) -> None:
    parent, child = after(f"assert manners.keep_to_processors({lent}, 'attic') == {count}")
    assert parent[0] == child[0]
    assert isinstance(parent[0], list) and len(parent[0]) == count and set(parent[0]) <= set(ALL)


@pytest.mark.skipif(len(ALL) < 2, reason="with one processor there is nothing to choose")
def test_hosts_of_several_names_do_not_all_take_the_first() -> None:
    chosen = {str(after(f"manners.keep_to_processors(1, 'host-{number}')")[0][0]) for number in range(8)}
    assert len(chosen) > 1


@pytest.mark.skipif(len(ALL) < 2, reason="with one processor there is nothing to choose")
def test_what_was_started_before_follows_when_less_or_more_is_lent() -> None:
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        for count in (1, len(ALL)):
            after(f"manners.keep_to_processors({count}, 'attic', {ALL}, [{child.pid}])")
            assert len(os.sched_getaffinity(child.pid)) == count
    finally:
        child.kill()
        child.wait()
