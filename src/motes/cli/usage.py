"""`motes usage`: what ran where, whose, and what it used."""

from __future__ import annotations

import csv
import sys
import time
from collections import Counter
from typing import TYPE_CHECKING, Protocol

import click

from motes.cli.amounts import DURATION_OR_NONE
from motes.cli.table import plain, print_json, print_table
from motes.errors import BadInput, Untrusted
from motes.home import Home
from motes.model.names import is_name
from motes.model.units import format_bytes, format_seconds

if TYPE_CHECKING:
    from motes.client.cluster import Cluster
    from motes.client.usage import Total
    from motes.grants.trail import Entry, Trail

COLUMNS = ("app", "host", "calls", "starts", "time", "cpu s", "memory", "in", "out", "owner")
MOST_SHOWN = 20
"""Of what does not hold."""
_SHORT = 8
"""Digits of a key that tell it from others."""


class Sink(Protocol):
    """Where receipts go."""

    def add(self, entry: Entry) -> None: ...
    def end(self) -> None: ...


@click.command(short_help="Show what ran where, whose, and what it used.")
@click.option("--app", help="Of this app only.")
@click.option("--host", help="On this host only.")
@click.option(
    "--since",
    type=DURATION_OR_NONE,
    default="1d",
    show_default=True,
    help="Of this long ago until now, as in 30min, 12h or 7d.",
)
@click.option(
    "--format",
    "kind",
    type=click.Choice(["table", "jsonl", "csv"]),
    default="table",
    show_default=True,
    help="Sums in a table, or every receipt with its signatures: an object a line, or CSV.",
)
@click.option(
    "--json",
    "as_json",
    is_flag=True,
    help="Print a list of sums: app, host, owner, began_at, ended_at, batches, calls, starts, instance_s, cpu_s, "
    "memory_byte_s, in_bytes, out_bytes.",
)
def command(app: str | None, host: str | None, since: float, kind: str, as_json: bool) -> None:
    """Show what each app used on each host: calls, starts of instances, how long these were there, CPU seconds, memory
    times seconds, bytes of calls and of their answers, and whose app it is.

    Every ten seconds a host signs what it spent, and the keeper what it heard; both keep it. Each signature is checked
    here. What was altered or is missing is said, and then the exit code is 8. On a machine that has joined a cluster
    this shows what ran there, from its own receipts.

    \b
    Example:
      motes usage --since 7d
      motes usage --app hello --format csv > hello.csv
    """
    home, since_at = Home(), max(time.time() - since, 0.0)
    if app is not None and not is_name(app):
        raise BadInput(f"{app!r} names no app")
    if host is not None and not is_name(host):
        raise BadInput(f"{host!r} names no host")
    sink: Sink = _sink(kind, as_json)
    reading = Reading(app, sink)
    if home.keeper_file.exists() and not home.client_file.exists():
        reading.of_home(home, since_at, host or "")
    else:
        from motes.cli.session import with_cluster

        with_cluster(lambda cluster: reading.of_cluster(cluster, since_at, host or ""))
    sink.end()
    reading.complain()


class Reading:
    """Reads receipts into a sink, and remembers what to say of them."""

    def __init__(self, app: str | None, sink: Sink) -> None:
        self._app = app
        self._sink = sink
        self._refused: Counter[tuple[str, str]] = Counter()
        self._problems: list[str] = []

    async def of_cluster(self, cluster: Cluster, since: float, host: str) -> None:
        from motes.client.usage import of_cluster

        trail = self._begin(cluster.home)
        async for entry in of_cluster(cluster, trail, since, host):
            self._take(entry)
        self._problems += trail.problems

    def of_home(self, home: Home, since: float, host: str) -> None:
        from motes.client.usage import of_home

        trail = self._begin(home)
        for entry in of_home(home, trail, since, host):
            self._take(entry)
        self._problems += trail.problems

    def _begin(self, home: Home) -> Trail:
        from motes.grants.keys import load_public
        from motes.grants.trail import Trail

        return Trail(load_public(home.public_key("controller")))

    def _take(self, entry: Entry) -> None:
        if self._app in (None, entry.batch.app):
            self._sink.add(entry)
            if entry.receipt.refused:
                self._refused[entry.batch.host, entry.receipt.refused] += 1

    def complain(self) -> None:
        """Say what does not count, and what does not hold. Raises Untrusted for the latter."""
        for (host, why), count in self._refused.most_common(MOST_SHOWN):
            what = "a batch" if count == 1 else f"{count} batches"
            click.echo(plain(f"{what} of host {host} did not count: {why}"), err=True)
        for problem in self._problems[:MOST_SHOWN]:
            click.echo(plain(problem), err=True)
        if count := len(self._problems):
            what = "something does not hold" if count == 1 else f"{count} things do not hold"
            raise Untrusted(f"{what} in these receipts; what was altered is left out of the figures")


class TableSink:
    """Sums for people, or as JSON."""

    def __init__(self, as_json: bool) -> None:
        from motes.client.usage import Totals

        self._as_json = as_json
        self._totals = Totals()

    def add(self, entry: Entry) -> None:
        self._totals.add(entry)

    def end(self) -> None:
        totals = self._totals.sorted()
        if self._as_json:
            print_json(totals)
        else:
            print_table(COLUMNS, [_row(each) for each in totals], "nothing was used in that time")


class LinesSink:
    """Each receipt as an object a line."""

    def add(self, entry: Entry) -> None:
        from motes.client.usage import record

        print_json(record(entry))

    def end(self) -> None: ...


class CsvSink:
    """Each receipt as a row under a header."""

    def __init__(self) -> None:
        self._writer: csv.DictWriter[str] | None = None

    def add(self, entry: Entry) -> None:
        from motes.client.usage import record

        found = record(entry)
        if self._writer is None:
            self._writer = csv.DictWriter(sys.stdout, list(found))
            self._writer.writeheader()
        self._writer.writerow(found)

    def end(self) -> None: ...


def _sink(kind: str, as_json: bool) -> Sink:
    if kind == "table" or as_json:
        return TableSink(as_json)
    return LinesSink() if kind == "jsonl" else CsvSink()


def _row(total: Total) -> tuple[str, ...]:
    return (
        total.app,
        total.host,
        str(total.calls),
        str(total.starts),
        format_seconds(round(total.instance_s, 1)),
        f"{total.cpu_s:.2f}",
        f"{format_bytes(total.memory_byte_s)} s",
        format_bytes(total.in_bytes),
        format_bytes(total.out_bytes),
        total.owner[:_SHORT],
    )
