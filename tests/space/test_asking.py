"""Calls that real instances make: by threads, tasks and generators, answered in any order."""

from __future__ import annotations

import asyncio
import itertools
import json
from typing import Any

from tests.space.trials import Functions, Lab, trial

from motes.errors import Cancelled, LoadFailed, NotFound, Overloaded
from motes.model.call import STATUS_ITEM, STATUS_OK, Outcome, failed
from motes.model.instance import EndReason
from motes.model.release import PAYLOAD_LIMIT_BYTES
from motes.space.link import LEAST_UNREAD_BYTES, OWN_FRAMES_AT_ONCE

APP = """
import asyncio, concurrent.futures, os, struct, threading
from collections.abc import AsyncIterator, Iterator
from typing import Any
from motes import function, remote

@function
def store(key: str) -> str:
    return "not called here"

@function
def count(most: int) -> Iterator[int]:
    yield 0

far = remote("other.far")

@function(calls=[store, count, far])
def plain(how: str) -> Any:
    if how == "one":
        return store.remote("a")
    if how == "two":
        return [store.remote("a"), far.remote({"b": 1})]
    if how == "threads":
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            return list(pool.map(store.remote, map(str, range(8))))
    if how == "map":
        return list(store.map(map(str, range(6)), in_flight=3))
    if how == "left map":
        for each in store.map(map(str, range(6)), in_flight=3):
            return each
    if how == "gather":
        async def all() -> Any:
            return await asyncio.gather(*(store.aremote(str(number)) for number in range(4)))
        return asyncio.run(all())
    if how == "give up":
        async def some() -> Any:
            try:
                return await asyncio.wait_for(store.aremote("x"), 0.1)
            except TimeoutError:
                return "gave up"
        return asyncio.run(some())
    if how == "list":
        return count.remote(3)
    if how == "stream":
        return [each for each in count.stream(3)]
    if how == "left stream":
        for each in count.stream(3):
            return each
    if how == "bad":
        return far.remote(1, 2)
    if how == "catch":
        try:
            return store.remote("a")
        except Exception as error:
            return type(error).__name__ + ": " + str(error)
    if how == "behind":
        threading.Thread(target=store.remote, args=("late",)).start()
        return "done"
    if how == "slowly":
        told = []
        for ask in [store.stream(str(number)) for number in range(16)]:
            try:
                told += [len(each) for each in ask]
            except Exception as error:
                told.append(str(error))
        return told
    if how == "flood":
        os.write(3, struct.pack(">IBII", 11, 7, 1, 1) + bytes((1, 120)))
        for _ in range(4):
            os.write(3, (struct.pack(">IBII", 11, 7, 1, 1) + bytes((1, 120))) * 1000)
        return "flooded"
    if how == "raw":
        os.write(3, struct.pack(">IBII", 9, 7, 1, 1))
        return "sent"

@function(calls=[store])
def deaf() -> None:
    os.write(3, struct.pack(">IBII", 15, 7, 1, 1) + bytes((5,)) + b"store")
    while True:
        pass

@function(calls=[store, count])
async def later(how: str) -> Any:
    if how == "await":
        return [await store.remote("a"), await store.aremote("b")]
    if how == "gather":
        return await asyncio.gather(*(store.aremote(str(number)) for number in range(4)))
    if how == "thread":
        return await asyncio.to_thread(store.remote, "t")
    if how == "map":
        return [each async for each in store.amap(map(str, range(6)), in_flight=3)]
    if how == "thread map":
        return await asyncio.to_thread(lambda: list(store.map(["a", "b"])))
    if how == "stream":
        return [each async for each in count.stream(3)]
    if how == "thread stream":
        return await asyncio.to_thread(lambda: list(count.stream(3)))
    if how == "left stream":
        async for each in count.stream(3):
            return each
    if how == "give up":
        try:
            await asyncio.wait_for(store.aremote("x"), 0.1)
        except TimeoutError:
            return "gave up"

@function(calls=[store, count])
async def relayed(most: int) -> AsyncIterator[int]:
    async for each in count.stream(most):
        yield each * 10

@function(calls=[count])
def passed_on(most: int) -> Iterator[int]:
    for each in count.stream(most):
        yield each * 10

def early() -> Any:
    return store.remote("early")

@function(start=early)
def too_early() -> int:
    return 1
"""


class Answering:
    """Answers what instances ask, as `answer(name, body)` gives: one outcome, or items and then one."""

    def __init__(self, opened: Functions) -> None:
        self.opened = opened
        self.seen = 0

    async def serve(self, *, newest_first: bool = False, least: int = 1, hold: tuple[str, ...] = ()) -> None:
        while True:
            await self.opened.until(lambda: len(self.opened.asks) >= self.seen + least)
            news = self.opened.asks[self.seen :]
            self.seen = len(self.opened.asks)
            for number, ask, _, name, body in reversed(news) if newest_first else news:
                if json.loads(body or b"null") in hold:
                    continue
                if name == "count":
                    for each in range(json.loads(body)):
                        self.opened.space.inform(number, ask, Outcome(STATUS_ITEM, b"%d" % each))
                    self.opened.space.inform(number, ask, Outcome(STATUS_OK, b""))
                else:
                    answer = json.dumps(f"{name} {body.decode()}").encode()
                    self.opened.space.inform(number, ask, Outcome(STATUS_OK, answer))


async def asked(lab: Lab, function: str, how: Any, **serving: Any) -> Any:
    opened = await lab.functions(APP)
    return await asked_of(opened, function, how, **serving)


async def asked_of(opened: Functions, function: str, how: Any, **serving: Any) -> Any:
    answering = Answering(opened)
    answering.seen = len(opened.asks)
    serving_task = asyncio.create_task(answering.serve(**serving))
    try:
        return await opened.call(function, how)
    finally:
        serving_task.cancel()


@trial
async def test_a_plain_function_waits_for_each_call_that_it_makes(lab: Lab) -> None:
    opened = await lab.functions(APP)
    assert await asked_of(opened, "plain", "one") == 'store "a"'
    assert await asked_of(opened, "plain", "two") == ['store "a"', 'other.far {"b":1}']
    assert await asked_of(opened, "plain", "list") == [0, 1, 2]
    assert await asked_of(opened, "plain", "stream") == [0, 1, 2]
    assert await asked_of(opened, "plain", "map") == [f'store "{number}"' for number in range(6)]


@trial
async def test_threads_are_answered_in_any_order(lab: Lab) -> None:
    expected = [f'store "{number}"' for number in range(8)]
    assert await asked(lab, "plain", "threads", newest_first=True, least=8) == expected


@trial
async def test_an_event_loop_inside_a_plain_function_may_make_calls(lab: Lab) -> None:
    opened = await lab.functions(APP)
    expected = [f'store "{number}"' for number in range(4)]
    assert await asked_of(opened, "plain", "gather", newest_first=True, least=4) == expected


@trial
async def test_calls_that_nobody_waits_for_any_more_are_given_up(lab: Lab) -> None:
    opened = await lab.functions(APP)
    number = opened.spawn("plain")
    tag = opened.deliver(number, b'"left map"')
    await opened.until(lambda: len(opened.asks) == 3)
    opened.space.inform(number, 1, Outcome(STATUS_OK, b'"first"'))
    await opened.until(lambda: opened.outcomes(number))
    assert json.loads(opened.outcomes(number)[0].body) == "first" and tag == 1
    assert [event[1:] for event in opened.events if event[0] == "left"] == [(number, 2), (number, 3)]


@trial
async def test_a_given_up_call_does_not_keep_its_thread(lab: Lab) -> None:
    opened = await lab.functions(APP)
    number = opened.spawn("plain")
    opened.deliver(number, b'"give up"')
    await opened.until(lambda: any(event[0] == "left" for event in opened.events))
    opened.space.inform(number, 1, failed(Cancelled("given up")))
    await opened.until(lambda: opened.outcomes(number))
    assert json.loads(opened.outcomes(number)[0].body) == "gave up"


@trial
async def test_an_error_is_what_it_was(lab: Lab) -> None:
    opened = await lab.functions(APP)
    number = opened.spawn("plain")
    opened.deliver(number, b'"catch"')
    await opened.until(lambda: opened.asks)
    opened.space.inform(number, 1, failed(NotFound("no such key")))
    await opened.until(lambda: opened.outcomes(number))
    assert json.loads(opened.outcomes(number)[0].body) == "NotFound: no such key"
    assert "name its arguments" in (await opened.fail("plain", "bad")).message


@trial
async def test_a_thread_that_outlives_its_call_does_not_disturb_the_next(lab: Lab) -> None:
    opened = await lab.functions(APP)
    number = opened.spawn("plain")
    assert opened.value(await opened.ask(number, "behind")) == "done"
    await opened.until(lambda: opened.asks)
    tag = opened.deliver(number, b'"one"')
    await opened.until(lambda: len(opened.asks) == 2)
    opened.space.inform(number, 1, Outcome(STATUS_OK, b'"late"'))
    opened.space.inform(number, 2, Outcome(STATUS_OK, b'"for one"'))
    await opened.until(lambda: len(opened.outcomes(number)) == 2)
    assert json.loads(opened.outcomes(number)[1].body) == "for one" and opened.asks[1][2] == tag


@trial
async def test_an_async_function_awaits_the_calls_that_it_makes(lab: Lab) -> None:
    opened = await lab.functions(APP)
    assert await asked_of(opened, "later", "await") == ['store "a"', 'store "b"']
    expected = [f'store "{number}"' for number in range(4)]
    assert await asked_of(opened, "later", "gather", newest_first=True, least=4) == expected
    assert await asked_of(opened, "later", "thread") == 'store "t"'
    assert await asked_of(opened, "later", "map") == [f'store "{number}"' for number in range(6)]
    assert await asked_of(opened, "later", "thread map") == ['store "a"', 'store "b"']
    assert await asked_of(opened, "later", "stream") == [0, 1, 2]
    assert await asked_of(opened, "later", "thread stream") == [0, 1, 2]
    assert await asked_of(opened, "later", "give up", hold=("x",)) == "gave up"
    assert [event[1] for event in opened.events if event[0] == "left"]


@trial
async def test_streams_pass_through_functions(lab: Lab) -> None:
    for function in ("relayed", "passed_on"):
        opened = await lab.functions(APP)
        serving = asyncio.create_task(Answering(opened).serve())
        number = opened.spawn(function)
        tag = opened.deliver(number, b"5")
        await opened.until(lambda opened=opened, number=number: opened.outcomes(number))
        serving.cancel()
        assert opened.items(tag) == [b"0", b"10", b"20", b"30", b"40"]


@trial
async def test_a_stream_that_is_left_is_given_up(lab: Lab) -> None:
    for function in ("plain", "later"):
        opened = await lab.functions(APP)
        number = opened.spawn(function)
        opened.deliver(number, b'"left stream"')
        await opened.until(lambda opened=opened: opened.asks)
        opened.space.inform(number, 1, Outcome(STATUS_ITEM, b"7"))
        await opened.until(lambda opened=opened, number=number: opened.outcomes(number))
        assert opened.outcomes(number)[0].body == b"7"
        await opened.until(lambda opened=opened, number=number: ("left", number, 1) in opened.events)


@trial
async def test_before_its_first_call_an_instance_makes_none(lab: Lab) -> None:
    opened = await lab.functions(APP)
    assert "not in `start`" in (await opened.fail("too_early")).message and not opened.asks


@trial
async def test_a_frame_that_is_no_call_ends_the_instance(lab: Lab) -> None:
    opened = await lab.functions(APP)
    number = opened.spawn("plain")
    opened.deliver(number, b'"raw"')
    assert (await opened.end_of(number))[0] == EndReason.PROTOCOL


@trial
async def test_who_asks_without_end_does_not_keep_the_agent_from_others(lab: Lab) -> None:
    opened = await lab.functions(APP)
    number = opened.spawn("plain")
    opened.deliver(number, b'"flood"')
    heard = [0]
    while len(opened.asks) < 4001:
        # One turn of the event loop: everybody else has had theirs.
        await asyncio.sleep(0)
        heard.append(len(opened.asks))
    assert max(after - before for before, after in itertools.pairwise(heard)) <= 2 * OWN_FRAMES_AT_ONCE
    await opened.until(lambda: bool(opened.outcomes(number)))
    assert json.loads(opened.outcomes(number)[0].body) == "flooded"


@trial
async def test_answers_that_wait_to_be_read_are_bounded_and_kill_nobody(lab: Lab) -> None:
    opened = await lab.functions(APP)
    number = opened.spawn("plain")
    opened.deliver(number, b'"slowly"')
    await opened.until(lambda: len(opened.asks) == 16)
    large = Outcome(STATUS_OK, b'"' + b"x" * (PAYLOAD_LIMIT_BYTES - 2) + b'"')
    # In one turn, so that it cannot have read any.
    taken = [opened.space.inform(number, ask, large) for ask in range(1, 17)]
    kept = taken.count(True)
    assert LEAST_UNREAD_BYTES // PAYLOAD_LIMIT_BYTES <= kept <= LEAST_UNREAD_BYTES // PAYLOAD_LIMIT_BYTES + 2
    assert taken == [True] * kept + [False] * (16 - kept)
    for ask in range(kept + 1, 17):
        assert opened.space.inform(number, ask, failed(Overloaded("too much")))
    await opened.until(lambda: bool(opened.outcomes(number)))
    told = json.loads(opened.outcomes(number)[0].body)
    assert told == [PAYLOAD_LIMIT_BYTES - 2] * kept + ["too much"] * (16 - kept)


@trial
async def test_who_never_reads_what_it_is_told_is_ended(lab: Lab) -> None:
    opened = await lab.functions(APP)
    number = opened.spawn("deaf")
    opened.deliver(number, b"")
    await opened.until(lambda: bool(opened.asks))
    short = failed(Overloaded("x" * 3000))
    large = Outcome(STATUS_OK, b"1" * PAYLOAD_LIMIT_BYTES)
    assert not all(opened.space.inform(number, 1, large) for _ in range(20))
    for _ in range(5000):
        opened.space.inform(number, 1, short)
    assert (await opened.end_of(number))[0] == EndReason.PROTOCOL


@trial
async def test_a_declared_call_must_be_of_a_function_that_there_is(lab: Lab) -> None:
    try:
        await lab.functions("from motes import function\n@function(calls=['gone'])\ndef f() -> None: ...")
    except LoadFailed as error:
        assert "'gone', which this app does not have (it has f" in error.message
    else:
        raise AssertionError("it was loaded")
