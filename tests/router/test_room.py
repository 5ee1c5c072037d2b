"""Room for large results: in turn, and given back."""

from __future__ import annotations

import asyncio

from motes.router.room import ROOM_BYTES, Room

HALF = ROOM_BYTES // 2


def test_whoever_comes_when_it_is_full_waits_in_turn() -> None:
    async def test() -> None:
        room, order = Room(), list[str]()

        async def go(name: str, size: int) -> None:
            await room.take(size)
            order.append(name)

        waiting = [asyncio.create_task(go(name, size)) for name, size in
                   (("one", HALF), ("two", HALF), ("three", ROOM_BYTES), ("four", 1))]  # fmt: skip
        await asyncio.sleep(0)
        assert order == ["one", "two"]
        room.leave(HALF)
        await asyncio.sleep(0)
        assert order == ["one", "two"], "the small one overtook the large one, which would wait for ever"
        room.leave(HALF)
        await asyncio.sleep(0)
        assert order == ["one", "two", "three"]
        room.leave(ROOM_BYTES)
        await asyncio.gather(*waiting)
        assert order == ["one", "two", "three", "four"]

    asyncio.run(test())


def test_one_alone_has_room_however_large_it_is() -> None:
    async def test() -> None:
        room = Room()
        await asyncio.wait_for(room.take(10 * ROOM_BYTES), 1)

    asyncio.run(test())


def test_who_gives_up_waiting_leaves_the_room_to_others() -> None:
    async def test() -> None:
        room = Room()
        await room.take(ROOM_BYTES)
        first, second = (asyncio.create_task(room.take(ROOM_BYTES)) for _ in range(2))
        await asyncio.sleep(0)
        first.cancel()
        room.leave(ROOM_BYTES)
        await asyncio.wait_for(second, 1)
        # Also at the very moment at which it is given room.
        third, fourth = (asyncio.create_task(room.take(ROOM_BYTES)) for _ in range(2))
        await asyncio.sleep(0)
        room.leave(ROOM_BYTES)
        third.cancel()
        await asyncio.wait_for(fourth, 1)

    asyncio.run(test())
