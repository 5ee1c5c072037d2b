"""What the two sides of a tunnel hold each other to."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from motes.router import tunnel
from motes.router.tunnel import Broken, Flow, Pool

NAME = bytes(range(16))


@given(st.integers(1, 7), st.binary(min_size=16, max_size=16), st.integers(0, 2**64 - 1), st.binary(max_size=100))
def test_a_message_is_read_as_it_was_written(kind: int, name: bytes, number: int, body: bytes) -> None:
    assert tunnel.unpack(tunnel.pack(kind, name, number, body)) == (kind, name, number, body)


@pytest.mark.parametrize("size", range(25))
def test_a_message_without_its_head_is_none(size: int) -> None:
    with pytest.raises(ValueError, match="head"):
        tunnel.unpack(bytes(size))


def test_a_message_with_more_in_it_than_any_has_is_none() -> None:
    """Else a host could keep the gateway busy with reading one."""
    assert tunnel.MOST_STREAMS * 24 <= tunnel.MESSAGE_BYTES, "all streams can be told of in one"
    tunnel.unpack(tunnel.pack(tunnel.ALIVE, body=bytes(tunnel.MESSAGE_BYTES)))
    with pytest.raises(ValueError, match="too much"):
        tunnel.unpack(tunnel.pack(tunnel.ALIVE, body=bytes(tunnel.MESSAGE_BYTES + 1)))


@given(st.lists(st.tuples(st.binary(min_size=16, max_size=16), st.integers(0, 2**64 - 1)), max_size=5))
def test_amounts_are_read_as_they_were_written(amounts: list[tuple[bytes, int]]) -> None:
    assert tunnel.unpack_amounts(memoryview(tunnel.pack_amounts(amounts))) == amounts


def test_half_an_amount_is_none() -> None:
    with pytest.raises(ValueError, match="half"):
        tunnel.unpack_amounts(memoryview(bytes(25)))


def test_names_are_read_one_after_the_other() -> None:
    assert tunnel.unpack_names(memoryview(NAME + bytes(16))) == {NAME, bytes(16)}
    assert tunnel.unpack_names(memoryview(b"")) == set()


@pytest.mark.parametrize("streams", [0, 1, 63, 64, 65, 500, 1000])
def test_what_may_wait_is_divided_among_the_streams_and_bounded_in_all(streams: int) -> None:
    pool = Pool()
    pool.streams = streams
    window = pool.window(0)
    assert tunnel.FIRST_WINDOW_BYTES <= window <= tunnel.MOST_WINDOW_BYTES
    assert window * streams <= tunnel.POOL_BYTES


def test_as_much_is_sent_as_was_granted() -> None:
    flow = Flow(Pool())
    assert flow.room == tunnel.FIRST_WINDOW_BYTES
    assert [flow.send(1000), flow.send(24)] == [0, 1000]
    assert flow.room == tunnel.FIRST_WINDOW_BYTES - 1024
    flow.allow(2 * tunnel.FIRST_WINDOW_BYTES)
    assert flow.room == 2 * tunnel.FIRST_WINDOW_BYTES - 1024
    flow.allow(0)
    assert flow.room == 2 * tunnel.FIRST_WINDOW_BYTES - 1024, "a grant that is late takes nothing back"
    flow.has_ended = True
    assert flow.room == 0


def test_what_is_used_is_granted_again_when_it_is_worth_a_message() -> None:
    flow, window = Flow(crowded()), tunnel.FIRST_WINDOW_BYTES
    flow.take(0, window)
    assert flow.use(window // 4 - 1) == 0
    assert flow.use(1) == window + window // 4
    flow.take(window, window // 4)
    flow.end(window + window // 4)
    assert flow.use(window) == 0, "nobody sends any more"


def crowded() -> Pool:
    """Of so many streams that each has its first window and no more."""
    pool = Pool()
    pool.streams = tunnel.MOST_STREAMS * 2
    return pool


def test_streams_that_come_one_after_the_other_are_not_granted_more_than_there_is() -> None:
    """Each of them was alone, or nearly, when it asked."""
    pool = Pool()
    flows = [Flow(pool)]
    for _ in range(tunnel.MOST_STREAMS):
        flows[-1].take(0, tunnel.FIRST_WINDOW_BYTES)
        flows[-1].use(tunnel.FIRST_WINDOW_BYTES)
        flows.append(Flow(pool))
    granted = sum(flow._granted - flow._used for flow in flows)
    assert granted == pool.granted <= tunnel.POOL_BYTES + len(flows) * tunnel.FIRST_WINDOW_BYTES
    assert all(flow._granted - flow._used >= tunnel.FIRST_WINDOW_BYTES for flow in flows), "all go on"
    for flow in flows:
        flow.close()
    assert (pool.granted, pool.streams) == (0, 0)
    alone = Flow(pool)
    alone.take(0, 1)
    assert alone.use(1) == tunnel.MOST_WINDOW_BYTES + 1, "what has ended leaves its part to others"


def test_who_sends_no_more_needs_no_grant() -> None:
    pool = Pool()
    flow = Flow(pool)
    flow.take(0, 10)
    flow.use(1)
    flow.end(10)
    assert pool.granted == 9
    flow.use(9)
    assert pool.granted == 0


def test_with_more_streams_less_is_granted_and_nothing_taken_back() -> None:
    pool = Pool()
    flow = Flow(pool)
    flow.take(0, 1)
    assert flow.use(1) == tunnel.MOST_WINDOW_BYTES + 1
    pool.streams = tunnel.MOST_STREAMS
    flow.take(1, 100_000)
    assert flow.use(100_000) == 0
    flow.take(100_001, tunnel.MOST_WINDOW_BYTES + 1 - 100_001)


def first_then(*deeds: Any) -> Flow:
    flow = Flow(Pool())
    for deed in deeds:
        deed(flow)
    return flow


@pytest.mark.parametrize(
    ("before", "deed"),
    [
        ((), lambda flow: flow.take(1, 1)),
        ((lambda flow: flow.take(0, 10),), lambda flow: flow.take(0, 10)),
        ((lambda flow: flow.take(0, 10),), lambda flow: flow.take(11, 10)),
        ((), lambda flow: flow.take(0, tunnel.FIRST_WINDOW_BYTES + 1)),
        ((), lambda flow: flow.take(0, 0)),
        ((lambda flow: flow.end(0),), lambda flow: flow.take(0, 1)),
        ((), lambda flow: flow.end(1)),
        ((lambda flow: flow.take(0, 10),), lambda flow: flow.end(0)),
        ((lambda flow: flow.end(0),), lambda flow: flow.end(0)),
    ],
    ids=[
        "hole",
        "twice",
        "later hole",
        "too much",
        "nothing",
        "after the end",
        "a lost piece",
        "early",
        "twice the end",
    ],
)
def test_who_does_not_keep_to_it_is_found_out(before: Any, deed: Any) -> None:
    flow = first_then(*before)
    with pytest.raises(Broken):
        deed(flow)
