"""Work that goes on beside: waited for, or not, it does not end by that."""

from __future__ import annotations

import asyncio

from motes.tasks import Tasks


def test_who_gives_up_waiting_ends_nothing_that_is_waited_for() -> None:
    async def story() -> None:
        tasks, may_end, ended = Tasks("test"), asyncio.Event(), []

        async def work() -> None:
            await may_end.wait()
            ended.append("well")

        tasks.spawn(work())
        waiting = asyncio.ensure_future(tasks.wait())
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.wait((waiting,))
        may_end.set()
        await tasks.wait()
        assert ended == ["well"] and len(tasks) == 0
        await tasks.wait()

    asyncio.run(asyncio.wait_for(story(), 10.0))
