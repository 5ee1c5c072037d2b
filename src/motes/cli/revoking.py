"""What is left for the operator of a NATS to say when somebody was removed; nothing where the keeper runs its own."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from motes.errors import NotFound

if TYPE_CHECKING:
    from motes.client.cluster import Cluster


async def remove(cluster: Cluster, verb: str, name: str, user: str) -> list[str]:
    """Remove by that verb, and return what the operator has to say so that NATS lets `user` in no more."""
    await cluster.ask(verb, name, bool)
    try:
        return await cluster.ask("revocations", user, list[str])
    except NotFound:
        return []  # A keeper of an earlier version, with a NATS of its own.


def tell(name: str, told: str, revoke: list[str], as_json: bool) -> None:
    """Say that it is done, and what is left."""
    if as_json:
        click.echo(json.dumps({"name": name, **({"revoke": revoke} if revoke else {})}))
        return
    click.echo(told)
    if revoke:
        click.echo("the NATS is not the keeper's own, and goes on letting the key in until its operator says:")
        click.echo("\n".join(f"    {line}" for line in revoke))
