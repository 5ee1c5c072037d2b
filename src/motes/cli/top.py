"""`motes top`: what runs, how fast, and what happens, in a terminal."""

from __future__ import annotations

import contextlib
import sys
import time
from typing import TYPE_CHECKING

import click

from motes.cli.session import with_cluster
from motes.errors import MotesError, Refused

if TYPE_CHECKING:
    from motes.client.cluster import Cluster
    from motes.live.rates import Look
    from motes.live.screen import Happened

LOG_LINES = 200
EVENTS = 300
AGAIN_S = 1.0


@click.command(short_help="Show live what runs, how fast, and what happens.")
def command() -> None:
    """Show live: hosts, workloads with calls a second, times, queues, processors and memory, and what starts and ends.

    Arrow keys choose a workload; Enter looks into it: the same figures for each host, its instances, what it prints and
    what happened to it. Tab goes to the next part, to scroll in it; Escape goes back, q ends. Times are of the last
    second, from a call's arrival at its host to its answer; CPU is in processors. It takes the owner's key.

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
    from motes.tasks import Tasks

    await _check_may_look(cluster)
    source, tasks = _Source(cluster), Tasks("top")
    tasks.spawn(source.listen())
    try:
        await Top(source).run_async()
    finally:
        tasks.cancel()
        await tasks.wait()


async def _check_may_look(cluster: Cluster) -> None:
    """Raises Refused: a screen would only repeat it. Where the cluster is away for a moment, the screen waits."""
    try:
        await cluster.hosts()
    except Refused as error:
        raise Refused(f"motes top takes the owner's key, for it shows all hosts and apps: {error.message}") from None
    except MotesError:
        return


class _Source:
    """What the screen shows, from a cluster. Texts of apps and hosts come without what a terminal would obey."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._happened: list[Happened] = []

    async def listen(self) -> None:
        """Take up what happened of late, and go on with what happens; after a break of the cluster as well."""
        import asyncio

        while True:
            with contextlib.suppress(MotesError):
                await self._follow()
            await asyncio.sleep(AGAIN_S)

    async def _follow(self) -> None:
        from motes.bus.subjects import event
        from motes.cli.events import line_of
        from motes.cli.follow import follow
        from motes.live.screen import Happened
        from motes.model.instance import Event

        async def history() -> list[Event]:
            return await self._cluster.ask("events", EVENTS, list[Event])

        happened: list[Happened] = []
        async for events in follow(self._cluster, event("*"), Event, history):
            happened += [Happened(each.app, each.workload, line_of(each, brief=True)) for each in events]
            del happened[:-EVENTS]
            self._happened = happened

    async def look(self) -> Look:
        from motes.live.rates import Look

        hosts = await self._cluster.look()
        return Look(time.monotonic(), hosts, {each.name: each for each in await self._cluster.hosts() if each.is_there})

    def happened(self) -> list[Happened]:
        return self._happened

    async def prints(self, address: str) -> list[str]:
        from motes.cli.table import clock, plain
        from motes.model.keeper import AskLogs, LogLine

        app, _, workload = address.partition(".")
        try:
            found = await self._cluster.ask("logs", AskLogs(app, workload, LOG_LINES), list[LogLine])
        except MotesError as error:
            # The app has just been removed, or the cluster is away for a moment.
            return [plain(error.message)]
        lines = [
            (f"{clock(each.at)[11:]} {each.host}[{each.pid}]", line)
            for each in found
            for line in each.text.splitlines()
        ]
        return [plain(f"{who} {line}") for who, line in lines[-LOG_LINES:]]
