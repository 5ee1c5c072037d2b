"""`motes ps`: the running instances."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from motes.cli.session import with_cluster
from motes.cli.table import age, memory, print_json, print_table

if TYPE_CHECKING:
    from motes.client.cluster import Cluster
    from motes.model.instance import InstanceReport

COLUMNS = ("instance", "host", "pid", "state", "age", "calls", "cpu s", "memory", "release")
_SHORT = 7
"""Digits of a release that tell it from its neighbours."""


@click.command(short_help="List the running instances.")
@click.option(
    "--json",
    "as_json",
    is_flag=True,
    help="Print a list of objects: app, workload, release, host, pid, state, started_at, calls, cpu_s, memory_bytes.",
)
def command(as_json: bool) -> None:
    """List the running instances of every app, with what they have used.

    The pid is the one that the host sees; STATE is one of starting, idle, busy, draining, ended. Functions that nobody
    calls have no instance.

    \b
    Example:
      motes ps
      motes ps --json
    """
    instances = with_cluster(_instances)
    if as_json:
        print_json(instances)
    else:
        print_table(COLUMNS, [_row(each) for each in instances], "no instance runs; functions start when called")


async def _instances(cluster: Cluster) -> list[InstanceReport]:
    found = await cluster.instances()
    return sorted(found, key=lambda each: (each.app, each.workload, each.host, each.started_at))


def _row(instance: InstanceReport) -> tuple[str, ...]:
    return (
        f"{instance.app}.{instance.workload}",
        instance.host,
        str(instance.pid or "-"),
        str(instance.state),
        age(instance.started_at),
        str(instance.calls),
        f"{instance.cpu_s:.2f}",
        memory(instance.memory_bytes),
        instance.release[:_SHORT],
    )
