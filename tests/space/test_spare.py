"""The zygote keeps one spare child, which becomes the next instance."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path
from typing import Any

from tests.space import masks
from tests.space.trials import Lab, trial

from motes.space.measure import processes_below

LACKING = (masks.NO_LANDLOCK,)

SELF = """
    import os
    from motes import function

    @function
    def who() -> list:
        return [os.getpid(), os.getcwd(), os.environ["HOME"], sorted(os.listdir("/proc/self/fd"))]

    @function
    def other() -> str:
        return "other"
"""


async def spare_of(app: Any) -> int:
    """Its process, as the host sees it; waits until there is one, and it waits for its order."""
    while True:
        known = {app.space.pid, *app.pids.values()}
        found = [pid for pid in processes_below(app.space.pid) if pid not in known]
        if found and Path(f"/proc/{found[0]}/stat").read_text().rpartition(")")[2].split()[0] == "S":
            return found[0]
        await asyncio.sleep(0.005)


async def buried(pid: int) -> None:
    """Wait until its zygote has collected it."""
    while True:
        if not Path(f"/proc/{pid}").exists():
            return
        await asyncio.sleep(0.005)


@trial
async def test_the_spare_becomes_the_next_instance_whatever_its_function(lab: Lab) -> None:
    app = await lab.functions(SELF)
    for function in ("who", "other", "who"):
        spare = await spare_of(app)
        number = app.spawn(function)
        app.value(await app.ask(number))
        assert app.pids[number] == spare


@trial
async def test_instances_from_a_spare_and_without_one_are_alike(lab: Lab) -> None:
    app = await lab.functions(SELF)
    await spare_of(app)
    numbers = [app.spawn("who") for _ in range(4)]
    told = [app.value(await app.ask(number)) for number in numbers]
    assert len({tuple(pid_and_folder[:2]) for pid_and_folder in told}) == 4
    for _, folder, home, descriptors in told:
        assert folder == home
        assert descriptors == told[0][3]


@trial
async def test_a_spare_that_died_is_no_end_of_an_instance_and_the_next_order_gets_another(lab: Lab) -> None:
    app = await lab.functions(SELF)
    spare = await spare_of(app)
    os.kill(spare, signal.SIGKILL)
    await buried(spare)
    await asyncio.sleep(0.05)
    assert len(processes_below(app.space.pid)) == 1, "none is forked in its place until somebody asks"
    assert await app.call("other") == "other"
    assert not app.ends and not app.is_closed
    await spare_of(app)


@trial
async def test_a_spare_ends_with_its_space(lab: Lab) -> None:
    app = await lab.functions(SELF)
    spare = await spare_of(app)
    await app.space.close()
    assert not Path(f"/proc/{spare}").exists()
