"""What `motes host drain` asks, and how it waits."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from motes.client.cluster import Cluster

LOOK_S = 0.2
SOON_S = 1.5
"""Within this a host without work has said so, also when nobody waits for it."""


async def drain_host(cluster: Cluster, name: str, drained: bool, wait: bool) -> str:
    """Drain the host, or let it work again; returns its state afterwards, with `wait` once it is no longer draining."""
    from motes.model.keeper import AskDrain

    await cluster.ask("drain", AskDrain(name, drained), bool)
    deadline = asyncio.get_running_loop().time() + SOON_S
    while (state := await _state(cluster, name)) == "draining":
        if not drained or not (wait or asyncio.get_running_loop().time() < deadline):
            break
        await asyncio.sleep(LOOK_S)
    return state


async def _state(cluster: Cluster, name: str) -> str:
    """`off` also for one of the keeper's own machine that is not there now."""
    return {each.name: each.state for each in await cluster.hosts()}.get(name, "off")
