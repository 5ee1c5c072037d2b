"""What most commands do: open the running cluster, do one thing with it, close it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeVar

from motes.home import Home

if TYPE_CHECKING:
    from motes.client.cluster import Cluster

T = TypeVar("T")


def with_cluster(work: Callable[[Cluster], Awaitable[T]]) -> T:
    """What `work` returns for the cluster of this machine's user. Raises Unavailable when none runs."""
    home = Home()
    # First: without a cluster nothing needs to be imported to say so.
    home.cluster()
    import asyncio

    async def run() -> T:
        from motes.client.cluster import connect

        async with connect(home.path) as cluster:
            return await work(cluster)

    return asyncio.run(run())
