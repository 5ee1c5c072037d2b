"""How much is done at a time on a loop on which others wait for their turn."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from types import ModuleType
from typing import Any

import pytest


def calls_by_turn(
    monkeypatch: pytest.MonkeyPatch, module: ModuleType, name: str, work: Callable[[], Awaitable[object]]
) -> Counter[int]:
    """How often `work` calls the function `name` of the module between two turns of everything else."""
    turn, calls, function = 0, Counter[int](), getattr(module, name)

    def counted(*arguments: Any) -> Any:
        calls[turn] += 1
        return function(*arguments)

    async def others() -> None:
        nonlocal turn
        while True:
            turn += 1
            await asyncio.sleep(0)

    async def story() -> None:
        beside = asyncio.create_task(others())
        await asyncio.sleep(0)
        await work()
        beside.cancel()

    monkeypatch.setattr(module, name, counted)
    asyncio.run(story())
    return calls
