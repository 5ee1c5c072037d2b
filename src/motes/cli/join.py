"""`motes join`: lend this machine to the cluster that made an invite."""

from __future__ import annotations

import asyncio
import json
import socket
import sys
import time
from typing import TYPE_CHECKING

import click

from motes.errors import MotesError, Refused, TimedOut, Unavailable, Untrusted
from motes.home import Home, servers_of
from motes.model.naming import name_like

if TYPE_CHECKING:
    from motes.model.credentials import Credentials
    from motes.model.invite import Invite
    from motes.model.keeper import Admitted

JOIN_TIMEOUT_S = 10.0
LONGEST_LINE = 65536


@click.command(short_help="Join the cluster that made an invite.")
@click.argument("invite")
@click.option("--name", help="What this host is called there. Default: this machine's name.")
@click.option("--lend", default="", metavar="KEY=VALUE,...", help="What it lends, and when; see: motes lend --help")
@click.option("--json", "as_json", is_flag=True, help="Print an object: name, address, pid.")
def command(invite: str, name: str | None, lend: str, as_json: bool) -> None:
    """Join with the line that `motes invite` printed on the keeper, and lend this machine from now on.

    With - in its place the line is read from standard input, where no list of processes shows it.

    Its key is made here and never leaves. Until `motes down` it serves; `motes up` has it serve again.

    \b
    Example:
      motes join motes1-... --name laptop --lend cpus=2,memory=1GiB
    """
    from motes.cli import lent
    from motes.model import invite as invites
    from motes.supervisor import founding
    from motes.supervisor.launch import launch

    home = Home()
    _refuse_used(home)
    parsed = invites.parse(sys.stdin.read(LONGEST_LINE) if invite == "-" else invite)
    name = name or own_name()
    offer = {**founding.default_offer(), **lent.parse(lend)}
    address = asyncio.run(_join(home, parsed, name, as_json))
    home.write_json(home.hosts_file, {name: offer})
    # Last: its presence says that the rest is there.
    addresses = [address, *(each for each in parsed.addresses if each != address)]
    home.write_json(home.keeper_file, {"addresses": addresses, "certificate": parsed.certificate.hex()})
    try:
        launched = launch(home, "127.0.0.1:0")
    except (Unavailable, TimedOut) as error:
        # Its invite is used up: it must not look as if it had to join once more.
        what = f"this machine has joined, but its host does not start: {error.message}; again: motes up"
        raise type(error)(what, **error.detail) from None
    told = {"name": name, "address": address, "pid": launched.facts["pid"]}
    click.echo(json.dumps(told) if as_json else f"this machine is host {name!r} of the cluster at {address}")


def _refuse_used(home: Home) -> None:
    """Raises Refused where the home has a cluster."""
    home.refuse_client()
    if home.keeper_file.exists():
        keeper = home.keeper().servers.partition(",")[0].rpartition("//")[2]
        raise Refused(
            f"{home.path} belongs to a cluster already, the one of the keeper at {keeper}: `motes lend` says whether it"
            " lends to it, `motes up` starts it; to join another, or after it was removed there, first: motes leave"
        )
    if home.nats_config.exists() or home.foreign_file.exists():
        raise Refused(
            f"{home.path} belongs to a cluster already, one of this machine's own (motes up was given here); join from"
            " another home, with MOTES_HOME=FOLDER before this and every later command for it; or, if nothing in this"
            f" one is needed: motes down, then delete {home.path}"
        )


def own_name() -> str:
    """This machine's name, as far as it may name a host."""
    return name_like(socket.gethostname().partition(".")[0]) or "host"


async def _join(home: Home, invite: Invite, name: str, quiet: bool) -> str:
    """Be admitted, at the first address that answers: returns it. Raises the most telling of what the others said."""
    from motes.bus.connection import is_not_taken, most_telling
    from motes.cli.table import plain

    failures: list[MotesError] = []
    for address in invite.addresses:
        if not quiet:
            click.echo(f"trying {address} ...", err=True)
        try:
            await _ask(home, invite, address, name)
            return address
        except (Unavailable, Untrusted) as error:
            # In another network the same address is somebody else's.
            failures.append(error)
            if not quiet:
                click.echo(plain(f"  {_refused(invite) if is_not_taken(error) else error}"), err=True)
    if not failures:
        raise Unavailable("the invite names no address")
    failed = most_telling(failures)
    raise _refused(invite) if is_not_taken(failed) else failed


def _refused(invite: Invite) -> Refused:
    over = time.strftime("%Y-%m-%d %H:%M", time.localtime(invite.expires_at))
    return Refused(
        f"the keeper does not take this invite: it has expired ({over} here), or was not made by it"
        " (make another where it runs: motes invite)"
    )


async def _ask(home: Home, invite: Invite, address: str, name: str) -> None:
    from motes import __version__
    from motes.bus import subjects
    from motes.bus.connection import Connection
    from motes.grants import jwt, keys, roles
    from motes.model.credentials import Credentials
    from motes.model.keeper import Admitted, AskJoin, decode_answer

    role = roles.host(name)
    guest = jwt.guest_credentials(invite, roles.guest(keys.Key(invite.secret).public))
    home.create()
    key = keys.load_or_create(home.key("host"))
    connection = await Connection.open(servers_of((address,)), guest, certificate=invite.certificate)
    try:
        import msgspec

        wanted = msgspec.msgpack.encode(AskJoin(name, key.public, __version__))
        answer = await connection.request(subjects.keeper(guest.user, "join"), wanted, JOIN_TIMEOUT_S)
        admitted = decode_answer(answer, Admitted)
    finally:
        await connection.close()
    _save(home, Credentials(role.user, admitted.token, key.nkey_seed(keys.Nkey.USER)), admitted)


def _save(home: Home, credentials: Credentials, admitted: Admitted) -> None:
    home.save_credentials(credentials)
    home.write_text(home.public_key("controller"), admitted.controller.hex())
    home.write_text(home.public_key("owner"), admitted.owners[0].hex())
