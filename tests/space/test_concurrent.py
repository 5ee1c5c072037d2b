"""Async functions that work on many calls at a time in one real instance, and what `start` does in it."""

from __future__ import annotations

import asyncio
import json

import pytest
from tests.space.trials import Lab, trial

from motes.errors import LoadFailed
from motes.model.instance import EndReason

MEETING = """
import asyncio, os, time
from motes import function

here, everybody = 0, None

@function(concurrency=50)
async def meet(count: int) -> list:
    \"\"\"Answers once so many calls are here at a time.\"\"\"
    global here, everybody
    everybody = everybody or asyncio.Event()
    here += 1
    if here == count:
        everybody.set()
    await everybody.wait()
    return [os.getpid(), here]

@function(concurrency=5)
async def stopped(seconds: float) -> str:
    try:
        await asyncio.sleep(seconds)
    except asyncio.CancelledError:
        print("was cancelled", flush=True)
        raise
    return "slept"

@function(concurrency=5)
async def large(size: int) -> str:
    return "x" * size

@function(concurrency=5)
async def fails(how: str) -> int:
    if how == "raise":
        raise KeyError("no")
    if how == "exit":
        os._exit(7)
    if how == "system exit":
        raise SystemExit(9)
    if how == "memory":
        return len(bytearray(10**10))
    await asyncio.sleep(0.05)
    return 1
"""


@trial
async def test_calls_meet_in_one_process(lab: Lab) -> None:
    app = await lab.functions(MEETING)
    number = app.spawn("meet")
    outcomes = await asyncio.gather(*(app.ask(number, 20) for _ in range(20)))
    assert len({app.value(outcome)[0] for outcome in outcomes}) == 1


@trial
async def test_a_call_that_is_stopped_is_cancelled_and_answered_and_the_others_are_not(lab: Lab) -> None:
    app = await lab.functions(MEETING)
    number = app.spawn("stopped")
    other = asyncio.ensure_future(app.ask(number, 1.0))
    await asyncio.sleep(0)
    for begins_first in (False, True):
        tag = app.next_tag
        stuck = asyncio.ensure_future(app.ask(number, 1000.0))
        await asyncio.sleep(0)
        if begins_first:
            # An answer to what came after it.
            await app.ask(number, 0.0)
        app.space.stop(number, tag)
        app.space.stop(number, tag + 100)
        assert (await stuck).status != 0
        assert ("was cancelled" in app.printed(number)) is begins_first
    assert app.value(await other) == "slept"


@trial
async def test_large_answers_that_are_on_their_way_together_arrive_whole(lab: Lab) -> None:
    app = await lab.functions(MEETING)
    number = app.spawn("large")
    sizes = [7 * 2**20, 1, 3 * 2**20, 100, 2**20]
    answers = await asyncio.gather(*(app.ask(number, size) for size in sizes))
    assert [len(app.value(answer)) for answer in answers] == sizes


@trial
async def test_what_one_call_does_wrong_is_its_own_unless_it_ends_the_process(lab: Lab) -> None:
    app = await lab.functions(MEETING)
    number = app.spawn("fails")
    good, bad, input_ = await asyncio.gather(app.ask(number, "no"), app.ask(number, "raise"), app.ask(number, 5))
    assert app.value(good) == 1
    assert bad.error().code == "function_error" and "KeyError" in bad.error().message
    assert input_.error().code == "bad_input"
    limited = await app.ask(number, "memory")
    assert limited.error().detail["reason"] == "memory_limit"
    assert (await app.end_of(number))[0] == EndReason.MEMORY_LIMIT
    for how, code in (("exit", "exit code 7"), ("system exit", "exit code 9")):
        number = app.spawn("fails")
        app.deliver(number, json.dumps(how).encode())
        assert await app.end_of(number) == (EndReason.EXITED, code), how


@trial
async def test_only_async_functions_can_share_an_instance(lab: Lab) -> None:
    with pytest.raises(LoadFailed, match=r"'f': concurrency=2 is for `async def` only"):
        await lab.functions("from motes import function\n@function(concurrency=2)\ndef f(): ...\n")


STARTED = """
import os
from motes import function

runs = []

def open_model():
    runs.append(os.getpid())
    return {"made in": os.getpid()}

async def open_later():
    return "later"

def broken():
    raise ValueError("no model there")

@function(start=open_model)
def predict() -> list:
    return [runs, predict.started["made in"], os.getpid()]

@function(start=open_later)
async def late() -> str:
    return late.started

@function(start=open_later, concurrency=3)
async def late_too() -> str:
    return late_too.started

@function(start=broken)
def never() -> int:
    return 1
"""


@trial
async def test_start_runs_once_in_each_instance_and_never_in_the_zygote(lab: Lab) -> None:
    app = await lab.functions(STARTED)
    one, two = app.spawn("predict"), app.spawn("predict")
    first, again, other = [app.value(await app.ask(number)) for number in (one, one, two)]
    assert first == again and first[0] == [first[1]] == [first[2]]
    assert other[0] == [other[2]] and other[2] != first[2]
    assert await app.call("late") == "later" and await app.call("late_too") == "later"


@trial
async def test_a_start_that_fails_is_told_to_the_first_call_and_the_instance_ends(lab: Lab) -> None:
    app = await lab.functions(STARTED)
    number = app.spawn("never")
    outcome = await app.ask(number)
    assert outcome.error().code == "function_error" and "no model there" in outcome.error().message
    assert "broken" in outcome.error().detail["traceback"]
    assert (await app.end_of(number))[0] == EndReason.EXITED
