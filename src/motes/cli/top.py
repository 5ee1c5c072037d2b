"""`motes top`: what runs, how fast, and what happens, in a terminal."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

import click

from motes.cli.session import with_cluster

if TYPE_CHECKING:
    from motes.bus.connection import Message
    from motes.client.cluster import Cluster
    from motes.live.rates import Look

LOG_LINES = 200


@click.command(short_help="Show live what runs, how fast, and what happens.")
def command() -> None:
    """Show live: hosts, workloads with calls a second, times, queues, processors and memory, and what starts and ends.

    Arrow keys choose a workload, Enter shows its instances and what it prints, Escape goes back, q ends. Times are of
    the last second, from a call's arrival at its host to its answer.

    \b
    Example:
      motes top
      NO_COLOR=1 motes top
    """
    if not sys.stdout.isatty() or not sys.stdin.isatty():
        raise click.UsageError("motes top needs a terminal; for programs there are: motes ps --json, GET /metrics")
    with_cluster(_show)


async def _show(cluster: Cluster) -> None:
    from motes.live.screen import Top

    source = _Source(cluster)
    await source.start()
    await Top(source).run_async()


class _Source:
    """What the screen shows, from a cluster. Texts of apps and hosts come without what a terminal would obey."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._happened: list[str] = []

    async def start(self) -> None:
        """Hear events from now on. Raises Unavailable."""
        from motes.bus.subjects import event

        await self._cluster.connection.subscribe(event("*"), self._on_event)

    def _on_event(self, message: Message) -> None:
        import msgspec

        from motes.cli.events import line_of
        from motes.model.instance import Event

        try:
            self._happened.append(line_of(msgspec.json.decode(message.data, type=Event)))
        except msgspec.DecodeError:
            return
        del self._happened[:-LOG_LINES]

    async def look(self) -> Look:
        from motes.live.rates import Look

        hosts = await self._cluster.look()
        return Look(time.monotonic(), hosts, {each.name: each for each in await self._cluster.hosts()})

    async def events(self) -> list[str]:
        happened, self._happened = self._happened, []
        return happened

    async def logs(self, address: str) -> list[str]:
        from motes.cli.table import plain
        from motes.errors import NotFound
        from motes.model.keeper import AskLogs, LogLine

        app, _, workload = address.partition(".")
        try:
            found = await self._cluster.ask("logs", AskLogs(app, workload, LOG_LINES), list[LogLine])
        except NotFound:
            return []
        return [plain(line) for each in found for line in each.text.splitlines()]
