"""`motes logs`: what an app has printed."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import click

from motes.cli.session import with_cluster
from motes.cli.table import clock, plain, print_json
from motes.errors import BadInput

if TYPE_CHECKING:
    from motes.client.cluster import Cluster
    from motes.model.keeper import LogLine

TIMEOUT_S = 10.0
MAX_LIMIT = 5000


@click.command(short_help="Show what an app has printed.")
@click.argument("address", metavar="APP[.WORKLOAD]")
@click.option("-f", "--follow", "on", is_flag=True, help="Go on with what is printed, until Ctrl-C.")
@click.option(
    "--limit", default=200, show_default=True, type=click.IntRange(1, MAX_LIMIT), help="The last so many lines."
)
@click.option(
    "--json",
    "as_json",
    is_flag=True,
    help="Print a list of objects, or with -f one object a line: at, host, app, workload, pid, text.",
)
def command(address: str, on: bool, limit: int, as_json: bool) -> None:
    """Show what the instances of an app, or of one of its workloads, wrote to their standard output and error.

    Logs are bounded for each app: its oldest are dropped. Ctrl-C is how following ends, so the exit code is then 0.

    \b
    Example:
      motes logs hello
      motes logs hello.greet -f
    """
    with contextlib.suppress(KeyboardInterrupt):
        with_cluster(lambda cluster: _show(cluster, address, on, limit, as_json))


async def _show(cluster: Cluster, address: str, on: bool, limit: int, as_json: bool) -> None:
    from motes.bus.subjects import is_name, log
    from motes.cli.follow import follow
    from motes.model.keeper import AskLogs, LogLine

    app, dot, workload = address.partition(".")
    if not is_name(app) or (dot and not is_name(workload)):
        raise BadInput(f"{address!r} is no address; write APP or APP.WORKLOAD, as in hello or hello.greet")
    await _check_workload(cluster, app, workload)

    async def history() -> list[LogLine]:
        return await cluster.ask("logs", AskLogs(app, workload or None, limit), list[LogLine], TIMEOUT_S)

    printer = Lines(as_json)
    if on:
        batches = follow(cluster, log("*", app, workload or "*"), LogLine, history)
        printer.add(last_lines(await anext(batches), limit))
        async for found in batches:
            printer.add(found)
    elif as_json:
        print_json(last_lines(await history(), limit))
    else:
        printer.add(last_lines(await history(), limit))
        printer.add([])


def last_lines(found: list[LogLine], limit: int) -> list[LogLine]:
    """The end of a log, at most `limit` lines of it: a message holds what was written in a short time."""
    from msgspec.structs import replace

    kept: list[LogLine] = []
    for each in reversed(found):
        lines = each.text.splitlines(keepends=True)
        kept.append(replace(each, text="".join(lines[-limit:])))
        limit -= len(lines)
        if limit <= 0:
            break
    return kept[::-1]


async def _check_workload(cluster: Cluster, app: str, workload: str) -> None:
    """Raises NotFound."""
    from motes.errors import NotFound
    from motes.model.keeper import AskRoutes
    from motes.model.routes import Routes

    names = sorted((await cluster.ask("routes", AskRoutes(app), Routes)).workloads)
    if workload and workload not in names:
        raise NotFound(f"app {app!r} has no workload {workload!r}; it has: {', '.join(names)}")


class Lines:
    """Prints what was logged, whole lines with who wrote them; the rest of a line may come with the next message."""

    def __init__(self, as_json: bool = False) -> None:
        self._as_json = as_json
        self._unfinished: dict[tuple[str, str, int], LogLine] = {}

    def add(self, found: list[LogLine]) -> None:
        """Print; with nothing new, also the lines that are not finished."""
        for each in found:
            if self._as_json:
                print_json(each)
            else:
                self._add(each)
        if not found:
            for each in self._unfinished.values():
                _print_line(each, each.text)
            self._unfinished.clear()

    def _add(self, each: LogLine) -> None:
        from msgspec.structs import replace

        writer = (each.host, each.workload, each.pid)
        begun = self._unfinished.pop(writer, None)
        *lines, rest = ((begun.text if begun else "") + each.text).split("\n")
        for line in lines:
            _print_line(each, line)
        if rest:
            self._unfinished[writer] = replace(each, text=rest)


def _print_line(found: LogLine, text: str) -> None:
    # A host's own words, but for when they came by way of the keeper: where it runs, and in what, it says itself.
    click.echo(plain(f"{clock(found.at)} {found.host} {found.workload}[{found.pid}] {text}"))
