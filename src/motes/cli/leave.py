"""`motes leave`: take this machine out of the cluster that it joined."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import shutil

import click

from motes.errors import MotesError, NotFound, Refused, Unavailable
from motes.home import Home
from motes.model.names import HOST_PREFIX
from motes.supervisor import control

DOWN_TIMEOUT_S = 40.0
QUIT_TIMEOUT_S = 5.0
REVOKED = "Revoked"
"""How nats-server ends the connection of a user that is let in no more."""
REFUSED = "Authorization Violation"
"""How it answers one who comes later."""


@click.command(short_help="Take this machine out of the cluster that it joined.")
@click.option("--json", "as_json", is_flag=True, help="Print an object: name, told.")
def command(as_json: bool) -> None:
    """End what runs here, tell the keeper, and forget the cluster: its key, and all code that came from it.

    When the keeper cannot be told, this machine leaves all the same, and the keeper's owner removes what it remembers:
    motes host rm NAME

    \b
    Example:
      motes leave
    """
    home = Home()
    if not home.keeper_file.exists():
        raise Refused(f"{home.path} has joined no cluster (a cluster of this machine's own is ended by: motes down)")
    # It may not run.
    with contextlib.suppress(Unavailable):
        control.ask_to_end(home, DOWN_TIMEOUT_S)
    # More than one where the keeper was once.
    names = sorted(home.offers())
    told = all([asyncio.run(_tell(home, name)) for name in names])
    _forget(home, names)
    name = ", ".join(names)
    if as_json:
        click.echo(json.dumps({"name": name, "told": told}))
    else:
        untold = "" if told else f"; the keeper could not be told (there: motes host rm {name})"
        click.echo(f"this machine has left{untold}")


def _forget(home: Home, names: list[str]) -> None:
    """Leave nothing of the cluster on this machine's disk; where the keeper is last, so that all may be done again."""
    from motes.bundle.unpack import discard

    for name in names:
        discard(home.host(name))  # The code in it is read-only, for its owner too.
        shutil.rmtree(home.host_run(name), ignore_errors=True)
        for file in (home.user(HOST_PREFIX + name), home.log(f"agent-{name}")):
            file.unlink(missing_ok=True)
    shutil.rmtree(home.arriving, ignore_errors=True)
    keys = (home.key("host"), *map(home.public_key, ("controller", "owner")))
    for file in (*keys, home.hosts_file, home.moved_file, home.keeper_file):
        file.unlink(missing_ok=True)


async def _tell(home: Home, name: str) -> bool:
    """Whether the keeper knows: it may be away, or have removed this host before."""
    from motes.bus import subjects
    from motes.bus.connection import Connection
    from motes.model.keeper import decode_answer

    # That its key opens nothing any more is what was asked for.
    logging.getLogger("motes.bus").setLevel(logging.ERROR)
    try:
        keeper = home.keeper()
        user = home.credentials(HOST_PREFIX + name)
        connection = await Connection.open(keeper.servers, user, certificate=keeper.certificate)
    except MotesError as error:
        return REFUSED in error.message
    try:
        answer = await connection.request(subjects.keeper(user.user, "quit"), b"\xc0", QUIT_TIMEOUT_S)
        return decode_answer(answer, bool)
    except NotFound:
        return True  # It was removed before, and the NATS is not the keeper's own.
    except MotesError:
        # The keeper ends this very connection when it has seen to it.
        return REVOKED in connection.refused
    finally:
        await connection.close()
