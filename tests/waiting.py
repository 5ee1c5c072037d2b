"""Waiting in a test for what will be so. The test has a limit for all of itself."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


async def until(true: Callable[[], object]) -> None:
    """Until it is so."""
    while not true():  # noqa: ASYNC110
        await asyncio.sleep(0.002)
