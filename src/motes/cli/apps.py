"""`motes apps`: what is deployed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from motes.cli.session import with_cluster
from motes.cli.table import age, plain, print_json, print_table

if TYPE_CHECKING:
    from motes.client.cluster import Cluster
    from motes.model.keeper import AppSummary

COLUMNS = ("app", "release", "age", "instances", "workloads")


@click.command(short_help="List the apps.")
@click.option(
    "--json",
    "as_json",
    is_flag=True,
    help="Print a list of objects: app, release, deployed_at, manifest, instances, failing, nowhere.",
)
def command(as_json: bool) -> None:
    """List the deployed apps with their functions and daemons.

    An app that fails somewhere, or that should run and no host can take, is followed by the reason.

    \b
    Example:
      motes apps
      motes apps --json
    """
    apps = with_cluster(_apps)
    if as_json:
        print_json(apps)
        return
    print_table(COLUMNS, [_row(app) for app in apps], "no app is deployed; begin with: motes deploy PATH")
    for app in apps:
        for workload, why in app.failing.items():
            click.echo(plain(f"{app.app}.{workload} fails at host {why}"))
        for why in app.nowhere.values():
            click.echo(plain(why))


async def _apps(cluster: Cluster) -> list[AppSummary]:
    from motes.model.keeper import AppSummary

    return await cluster.ask("apps", None, list[AppSummary])


def _row(app: AppSummary) -> tuple[str, ...]:
    names = ", ".join(workload.name for workload in app.manifest.workloads)
    return app.app, app.release, age(app.deployed_at), str(app.instances), names
