"""`motes rm`: forget an app."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from motes.cli.session import with_cluster

if TYPE_CHECKING:
    from motes.client.cluster import Cluster


@click.command(short_help="Remove an app.")
@click.argument("app")
@click.option("--json", "as_json", is_flag=True, help="Print an object: app, removed.")
def command(app: str, as_json: bool) -> None:
    """Remove APP: its instances end when their calls are done, then its code and its logs are deleted.

    \b
    Example:
      motes rm hello
    """

    async def work(cluster: Cluster) -> None:
        from motes.client.deploy import remove

        await remove(cluster, app)

    with_cluster(work)
    click.echo(json.dumps({"app": app, "removed": True}) if as_json else f"app {app!r} is removed")
