"""What is left when somebody was removed and the NATS is not the keeper's own; where it is, nothing."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, NamedTuple

import click

from motes.errors import NotFound

if TYPE_CHECKING:
    from motes.client.cluster import Cluster

_ENDED = (
    "its connections are ended, and again whenever it comes back; the NATS is not the keeper's own, and goes on letting"
    " the key in until its operator says:"
)
_NOT_ENDED = (
    "nobody serves it any more, but its connections are not ended (see motes up --system-creds): the NATS is not the"
    " keeper's own, and goes on letting the key in until its operator says:"
)


class Left(NamedTuple):
    """What is left of somebody who was removed."""

    ended: bool
    """Whether the connections that there were have ended."""
    revoke: list[str]
    """What the operator has to say so that NATS lets the key in no more."""


async def remove(cluster: Cluster, verb: str, name: str, user: str) -> Left:
    """Remove by that verb, and return what is left of `user`."""
    ended = await cluster.ask(verb, name, bool)
    try:
        return Left(ended, await cluster.ask("revocations", user, list[str]))
    except NotFound:
        return Left(ended, [])  # A keeper of an earlier version, with a NATS of its own.


def tell(name: str, told: str, left: Left, as_json: bool) -> None:
    """Say that it is done, and what is left."""
    if as_json:
        click.echo(json.dumps({"name": name, **(left._asdict() if left.revoke else {})}))
        return
    click.echo(told)
    if left.revoke:
        click.echo(_ENDED if left.ended else _NOT_ENDED)
        click.echo("\n".join(f"    {line}" for line in left.revoke))
