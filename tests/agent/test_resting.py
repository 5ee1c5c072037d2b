"""Real processes that burn all they get are kept to a part of a processor, and none stays stopped."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from motes.agent.core.throttle import KEPT_S, LOOK_S
from motes.agent.resting import Resting
from motes.space import measure

LENT = 0.02
"""So little that also on a crowded machine who burns gets more, and is stopped."""
LENT_ALL = 0.1
SECONDS = 4.0
LATE_S = 0.4
"""A look may come so late at the end, when it cannot be made up for any more."""
MEASURING_S = 0.1
"""What the tests' own process may use of it, and what a kernel's tick counts too much."""


@contextlib.contextmanager
def programs(*sources: str) -> Iterator[list[int]]:
    command = [sys.executable, "-c"]
    started = [subprocess.Popen([*command, f"print(flush=True)\n{each}"], stdout=subprocess.PIPE) for each in sources]
    try:
        for each in started:
            assert each.stdout is not None and each.stdout.readline()
        yield [each.pid for each in started]
    finally:
        for each in started:
            each.kill()
            each.communicate()


BURN = "while True: pass"
WAIT = "import time\nwhile True: time.sleep(0.05)"


def state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not true():  # noqa: ASYNC110
            await asyncio.sleep(0.001)


async def until_stopped(pid: int) -> None:
    await until(lambda: state(pid) == "T")


def test_all_together_stay_under_what_is_lent() -> None:
    async def burn(pids: list[int]) -> float:
        began, before = time.monotonic(), sum(map(measure.cpu_s, pids))
        resting = Resting(LENT_ALL, float(os.cpu_count() or 1), lambda: pids)
        await asyncio.sleep(SECONDS)
        used_s = sum(map(measure.cpu_s, pids)) - before
        resting.close()
        return used_s - LENT_ALL * (time.monotonic() - began)

    with programs(*[BURN] * 4) as pids:
        beyond_s = asyncio.run(burn(pids))
        assert beyond_s <= LENT_ALL * KEPT_S + (os.cpu_count() or 1) * (LOOK_S + LATE_S) + MEASURING_S


def test_who_only_waits_is_not_stopped() -> None:
    async def look(burning: int, waiting: int) -> set[str]:
        resting = Resting(LENT, float(os.cpu_count() or 1), lambda: [burning, waiting])
        seen = set()
        for _ in range(20):
            await until_stopped(burning)
            seen.add(state(waiting))
            await asyncio.sleep(0.02)
        resting.close()
        return seen

    with programs(BURN, WAIT) as (burning, waiting):
        assert "T" not in asyncio.run(look(burning, waiting))


def test_at_its_end_nobody_stays_stopped() -> None:
    async def look(pids: list[int]) -> None:
        resting = Resting(LENT, float(os.cpu_count() or 1), lambda: pids)
        await until_stopped(pids[0])
        resting.close()
        assert all(state(pid) != "T" for pid in pids)

    with programs(BURN, BURN) as pids:
        asyncio.run(look(pids))


def test_who_is_stopped_and_no_longer_listed_goes_on_all_the_same() -> None:
    async def look(pid: int) -> None:
        listed = [pid]
        resting = Resting(LENT, float(os.cpu_count() or 1), lambda: listed)
        await until_stopped(pid)
        listed.clear()
        await until(lambda: state(pid) != "T")
        resting.close()

    with programs(BURN) as (pid,):
        asyncio.run(look(pid))


def test_a_mistake_in_one_look_stops_nobody_for_ever() -> None:
    async def look(pid: int) -> None:
        breaks = False

        def processes() -> list[int]:
            if breaks:
                raise RuntimeError("planted")
            return [pid]

        resting = Resting(LENT, float(os.cpu_count() or 1), processes)
        await until_stopped(pid)
        breaks = True
        await until(lambda: state(pid) != "T")
        await asyncio.sleep(0.3)
        breaks = False
        await until_stopped(pid)
        resting.close()

    with programs(BURN) as (pid,):
        asyncio.run(look(pid))


def test_what_is_killed_while_it_is_stopped_ends() -> None:
    async def look(pid: int) -> None:
        resting = Resting(LENT, float(os.cpu_count() or 1), lambda: [pid])
        await until_stopped(pid)
        os.kill(pid, signal.SIGKILL)
        await until(lambda: state(pid) == "Z")
        await asyncio.sleep(0.3)
        resting.close()

    with programs(BURN) as (pid,):
        asyncio.run(look(pid))
