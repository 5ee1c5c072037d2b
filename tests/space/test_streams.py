"""Generators in real instances: items as they are taken, and no further."""

from __future__ import annotations

import asyncio
import json

import pytest
from tests.space.trials import Lab, trial

from motes.errors import LoadFailed
from motes.model.call import WINDOW_ITEMS
from motes.model.instance import EndReason
from motes.space.guest.wire import ANSWER_HEAD, ITEM, ITEM_LIMIT_BYTES

COUNTING = """
import asyncio, os, struct
from typing import Any
from collections.abc import AsyncIterator, Iterator
from motes import function

@function
def plain(count: int) -> Iterator[int]:
    for number in range(count):
        print(number)
        yield number

@function
async def later(count: int) -> AsyncIterator[int]:
    for number in range(count):
        print(number)
        await asyncio.sleep(0)
        yield number

@function(concurrency=20)
async def beside(count: int) -> AsyncIterator[int]:
    for number in range(count):
        print(number)
        yield number

@function
def fails(how: str) -> Iterator[Any]:
    yield "first"
    if how == "raise":
        raise KeyError("no")
    if how == "type":
        yield object()
    if how == "large":
        yield "x" * 2**20
    if how == "memory":
        yield len(bytearray(10**10))

@function
def typed(count: int) -> Iterator[str]:
    yield count

@function
def floods(tag: int) -> Iterator[int]:
    frame = struct.pack(">IBII", 10, 5, tag, 0) + b"1"
    while True:
        os.write(3, frame)
        yield 1
"""


def produced(printed: str) -> int:
    return len(printed.split())


@trial
async def test_a_generator_runs_no_further_than_its_items_are_taken(lab: Lab) -> None:
    app = await lab.functions(COUNTING)
    for function in ("plain", "later", "beside"):
        number = app.spawn(function)
        tag = app.deliver(number, b"100")
        await app.until(lambda tag=tag: len(app.items(tag)) == WINDOW_ITEMS)
        # An instance that went on would have had time to.
        await asyncio.sleep(0.2)
        assert app.items(tag) == [b"%d" % each for each in range(WINDOW_ITEMS)], function
        assert produced(app.printed(number)) <= WINDOW_ITEMS + 1, function
        app.space.more(number, tag, 3)
        await app.until(lambda tag=tag: len(app.items(tag)) == WINDOW_ITEMS + 3)
        app.space.more(number, tag, 1000)
        await app.until(lambda number=number, tag=tag: tag in app._outcomes.get(number, {}))
        assert app.items(tag) == [b"%d" % each for each in range(100)], function
        assert app.outcomes(number)[0].body == b"", function


@trial
async def test_streams_beside_one_another_do_not_hold_each_other_up(lab: Lab) -> None:
    app = await lab.functions(COUNTING)
    number = app.spawn("beside")
    stuck = app.deliver(number, b"100")
    await app.until(lambda: len(app.items(stuck)) == WINDOW_ITEMS)
    other = app.deliver(number, b"%d" % WINDOW_ITEMS)
    await app.until(lambda: other in app._outcomes.get(number, {}))
    app.space.stop(number, stuck)
    await app.until(lambda: stuck in app._outcomes.get(number, {}))
    assert len(app.items(stuck)) == WINDOW_ITEMS


@trial
async def test_what_goes_wrong_in_the_middle_is_told_after_the_items_before(lab: Lab) -> None:
    app = await lab.functions(COUNTING)
    expected = {"raise": "function_error", "type": "bad_result", "large": "too_large", "memory": "limit_exceeded"}
    for how, code in expected.items():
        tag, number = app.next_tag, app.spawn("fails")
        outcome = await app.ask(number, how)
        assert app.items(tag) == [b'"first"'] and outcome.error().code == code, how
    assert (await app.fail("typed", 1)).code == "bad_result"
    assert (await app.fail("plain", "x")).code == "bad_input"


@trial
async def test_an_instance_that_sends_more_than_an_item_may_hold_is_ended(lab: Lab) -> None:
    app = await lab.functions("""
import os, struct
from motes import function

@function
def large(tag: int) -> None:
    data = struct.pack(">IBII", 2**20 + 10, 5, tag, 0) + b"1" * (2**20 + 1)
    while data:
        data = data[os.write(3, data):]
""")
    assert ANSWER_HEAD.format == ">IBII" and ITEM == 5 and ITEM_LIMIT_BYTES == 2**20
    number = app.spawn("large")
    app.deliver(number, json.dumps(app.next_tag).encode())
    assert (await app.end_of(number))[0] == EndReason.PROTOCOL


@trial
async def test_a_generator_says_what_its_items_are(lab: Lab) -> None:
    app = await lab.functions(COUNTING)
    found = {function.name: function for function in app.space.functions}
    assert found["plain"].streams and found["plain"].result == {"type": "integer"}
    with pytest.raises(LoadFailed, match=r"annotated like Iterator\[str\]"):
        await lab.functions("from motes import function\n@function\ndef f() -> int:\n    yield 1\n")
