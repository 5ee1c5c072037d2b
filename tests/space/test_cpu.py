"""CPU time of a space is the kernel's count: of what lives there, and of all that has ended, however quickly."""

from __future__ import annotations

import asyncio

from tests.space import masks
from tests.space.trials import Lab, on, trial

from motes.model.instance import EndReason
from motes.space.daemon_space import LOOK_S, DaemonSpace
from motes.space.view import View

SPIN = """
    import os, time
    from motes import function

    def spin(seconds: float) -> None:
        began = time.process_time()
        while time.process_time() - began < seconds: pass

    @function
    def work(seconds: float) -> None:
        spin(seconds)

    @function
    def vanish(seconds: float) -> None:
        spin(seconds)
        os._exit(3)
"""
USED_S, FUZZY_S = 0.2, 0.02
"""The kernel tells of the dead in hundredths of a second."""


async def reaches(space: object, wanted_s: float) -> float:
    """The zygote has to bury who ended before its time is known; waits for that."""
    while (found := space.cpu_s()) < wanted_s:  # type: ignore[attr-defined]  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    return float(found)


@on(masks.NO_LANDLOCK, masks.NO_NAMESPACES)
@trial
async def test_an_instance_that_ends_by_itself_between_two_looks_is_counted(lab: Lab) -> None:
    app = await lab.functions(SPIN)
    before = app.space.cpu_s()
    for count in range(1, 4):
        number = app.spawn("vanish")
        app.deliver(number, b"%f" % USED_S)
        await app.end_of(number)
        await reaches(app.space, before + count * (USED_S - FUZZY_S))
    assert app.space.cpu_s() < before + 3 * USED_S + 1.0


@trial
async def test_an_instance_that_is_killed_keeps_what_it_used_and_time_never_goes_back(lab: Lab) -> None:
    app = await lab.functions(SPIN)
    number = app.spawn("work")
    app.value(await app.ask(number, USED_S))
    seen = [app.space.cpu_s()]
    app.space.end(number, EndReason.IDLE)
    await app.end_of(number)
    for _ in range(20):
        seen.append(app.space.cpu_s())
        await asyncio.sleep(0.005)
    assert seen == sorted(seen) and seen[-1] >= USED_S
    await app.space.close()
    assert app.space.cpu_s() >= seen[-1]


@trial
async def test_what_loads_the_code_is_counted_too(lab: Lab) -> None:
    app = await lab.functions(SPIN + "\n    spin(0.3)\n")
    assert app.space.cpu_s() >= 0.3


@trial
async def test_what_module_code_forks_is_counted_while_it_lives_and_when_it_has_ended(lab: Lab) -> None:
    app = await lab.functions(
        SPIN
        + """
    if os.fork() == 0:
        if os.fork() == 0:
            spin(0.5)
        os._exit(0)
    os.wait()
"""
    )
    await reaches(app.space, 0.5 - FUZZY_S)


CHILDREN = """
    import os, time
    for _ in range(2):
        if os.fork() == 0:
            began = time.process_time()
            while time.process_time() - began < 0.2: pass
            os._exit(0)
        os.wait()
    print("done", flush=True)
    time.sleep(1000)
"""


class Told:
    """What a daemon's space tells."""

    def __init__(self) -> None:
        self.has_printed = asyncio.Event()

    def output(self, number: int, data: bytes) -> None:
        self.has_printed.set()

    def closed(self, reason: EndReason, detail: str) -> None: ...


@trial
async def test_a_daemons_children_that_have_ended_are_counted(lab: Lab) -> None:
    told = Told()
    view = View(code=lab.app(CHILDREN), system=True, processes=8)
    space = await DaemonSpace.open(view, ["python", "app.py"], None, told)
    await told.has_printed.wait()
    assert space.cpu_s() >= 0.4 - FUZZY_S
    await space.close(0)
    assert space.cpu_s() >= 0.4 - FUZZY_S


@trial
async def test_a_daemons_last_words_are_counted(lab: Lab) -> None:
    source = """
    import signal, sys, time
    def stop(*_):
        began = time.process_time()
        while time.process_time() - began < 0.3: pass
        sys.exit(0)
    signal.signal(signal.SIGTERM, stop)
    print("ready", flush=True)
    while True: time.sleep(0.1)
    """
    told = Told()
    view = View(code=lab.app(source), system=True, processes=8)
    space = await DaemonSpace.open(view, ["python", "app.py"], None, told)
    await told.has_printed.wait()
    await space.close(20.0)
    assert space.cpu_s() >= 0.3 - 2 * LOOK_S - FUZZY_S
