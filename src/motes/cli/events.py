"""`motes events`: what started and ended, and why."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import click

from motes.cli.session import with_cluster
from motes.cli.table import clock, plain, print_json

if TYPE_CHECKING:
    from motes.client.cluster import Cluster
    from motes.model.instance import Event

TIMEOUT_S = 10.0
MAX_LIMIT = 5000


@click.command(short_help="Show what started and ended, and why.")
@click.option("-f", "--follow", "on", is_flag=True, help="Go on with what happens, until Ctrl-C.")
@click.option("--limit", default=100, show_default=True, type=click.IntRange(1, MAX_LIMIT), help="The last so many.")
@click.option(
    "--json",
    "as_json",
    is_flag=True,
    help="Print a list of objects, or with -f one object a line: at, what, reason, host, app, workload, release, pid, "
    "detail.",
)
def command(on: bool, limit: int, as_json: bool) -> None:
    """Show what started and ended on which host, each with its reason; the oldest first.

    A start's reason is one of load, floor, restart, joined, back, deployed, undrained; an end's is one of idle,
    call_done, other_caller, replaced, removed, misplaced, drained, host_stopped, withdrawn, host_lost, displaced,
    unheard, pressure, returned, exited, crashed, cancelled, time_limit, memory_limit, process_limit, file_limit,
    output_limit, space_failed, protocol, not_listening.

    Ctrl-C is how following ends, so the exit code is then 0.

    \b
    Example:
      motes events
      motes events -f --json
    """
    with contextlib.suppress(KeyboardInterrupt):
        with_cluster(lambda cluster: _show(cluster, on, limit, as_json))


async def _show(cluster: Cluster, on: bool, limit: int, as_json: bool) -> None:
    from motes.bus.subjects import event
    from motes.cli.follow import follow
    from motes.model.instance import Event

    async def history() -> list[Event]:
        return await cluster.ask("events", limit, list[Event], TIMEOUT_S)

    if not on:
        _print(await history(), as_json)
        return
    async for events in follow(cluster, event("*"), Event, history):
        for each in events:
            _print_one(each, as_json)


def _print(events: list[Event], as_json: bool) -> None:
    if as_json:
        print_json(events)
    for each in () if as_json else events:
        _print_one(each, False)


def _print_one(event: Event, as_json: bool) -> None:
    if as_json:
        print_json(event)
    else:
        click.echo(line_of(event))


def line_of(event: Event, brief: bool = False) -> str:
    """An event for people: when, what, why, of what, where; `brief` for where only today is looked at."""
    address = f"{event.app}.{event.workload}" if event.workload else event.app
    where = f"at {event.host}" if event.host else ""
    pid = f"pid {event.pid}" if event.pid else ""
    when, what = clock(event.at), f"{event.what:<14}"
    if brief:
        when, what = when.partition(" ")[2], f"{event.what.removeprefix('instance.'):<12}"
    words = (when, what, f"{event.reason:<12}", address, where, pid)
    line = " ".join(word for word in words if word) + (f": {event.detail}" if event.detail else "")
    # One line for one event: a detail may quote what an app wrote, which could look like the next one.
    return plain(line.replace("\n", "\\n"))
