"""`motes creds`: callers' keys, for other machines and for NATS clients in other languages: made, listed, withdrawn."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from motes.cli.session import with_cluster
from motes.errors import BadInput

if TYPE_CHECKING:
    from motes.grants.creds import Creds
    from motes.home import Home

_OF_THE_GROUP = ("-h", "--help")
_WARNING = """\
{file} is the owner's key: who has it may deploy, remove and run anything on every host of this cluster, for ever.
Bring it to a machine of your own only, and delete it once `motes context add NAME --creds {file}` has taken it."""


class CredsGroup(click.Group):
    """Where a name stands for `make` with that name."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if args and args[0] not in (*self.commands, *_OF_THE_GROUP):
            args = ["make", *args]
        return super().parse_args(ctx, args)


@click.group(
    cls=CredsGroup, short_help="Make, list and withdraw callers' keys, for other machines and other languages."
)
def command() -> None:
    """Make, list and withdraw the keys of callers: users of the cluster that may call every function and nothing else.

    `motes creds NAME` makes one: it is short for `motes creds make NAME`.

    \b
    Example:
      motes creds shop
      motes creds ls
      motes creds rm shop
    """


@command.command()
@click.argument("name", required=False)
@click.option("--owner", is_flag=True, help="Write the owner's own key, to command this cluster from elsewhere.")
@click.option(
    "--output", type=click.Path(dir_okay=False, path_type=Path), help="The file to write. Default: NAME.creds."
)
@click.option(
    "--json", "as_json", is_flag=True, help="Print an object: user, file, nats, inbox_prefix, addresses, tls."
)
def make(name: str | None, owner: bool, output: Path | None, as_json: bool) -> None:
    """Make a user NAME of the cluster, and write its key to a file.

    Any NATS client takes the file. Let it wait for answers in the user's own inbox, by its option for the prefix.
    A subject that ends with NAME, as fn.hello.greet.shop, calls in its own name (see reuse="caller").

    Where the cluster listens for others (motes up --listen), motes on another machine takes the file too: motes context
    add. Clients of other makes connect from there to the tls:// addresses and trust the keeper's certificate; to a
    nats:// address they would send all in the clear. With --owner in place of NAME it is the owner's own key, whose
    holder may do everything.

    \b
    Example:
      motes creds make shop
      nats --creds shop.creds --inbox-prefix _INBOX.shop request fn.hello.greet '"Ada"'
      motes creds make --owner
    """
    from motes.bus import subjects
    from motes.home import Home
    from motes.model.names import OWN_USER

    home = Home()
    home.cluster()
    if owner == (name is not None):
        raise click.UsageError("name the caller, or say --owner")
    if owner:
        home.refuse_client()
    if not home.client_file.exists():
        home.refuse_joined("keys are made there")
    user = OWN_USER if name is None else name
    file = output or Path(f"{name or 'owner'}.creds")
    way = _way_in(home)

    def text() -> str:
        return (_owners_key(home) if owner else _new_key(user))._replace(**way).text()

    _write(file, text)
    if owner:
        click.echo(_WARNING.format(file=file), err=True)
    told = {
        "user": user,
        "file": str(file),
        "nats": home.keeper().servers,
        "inbox_prefix": subjects.inbox(user),
        "addresses": way.get("addresses", ()),
        "tls": _over_tls(home, way.get("addresses", ())),
    }
    if as_json:
        click.echo(json.dumps(told))
        return
    click.echo(f"{file} holds the key of {user!r}; connect to {told['nats']} with inbox prefix {told['inbox_prefix']}")
    if way:
        click.echo(f"on another machine: motes context add NAME --creds {file}")
        tls = told["tls"]
        click.echo(
            f"with a client of another make: {','.join(tls['servers'])}, never nats://, which sends all in the clear;"
        )
        click.echo(f"it trusts {tls['certificate']} for the name {tls['server_name']!r}")


@command.command()
@click.option("--json", "as_json", is_flag=True, help="Print a list of objects: name, keys, last_at.")
def ls(as_json: bool) -> None:
    """List the callers that have keys: how many each, and when the last was made.

    \b
    Example:
      motes creds ls
    """
    from motes.cli.table import print_json, print_table
    from motes.model.keeper import KnownCaller

    found = with_cluster(lambda cluster: cluster.ask("callers", None, list[KnownCaller]))
    if as_json:
        print_json(found)
        return
    rows = [
        (each.name, str(each.keys), time.strftime("%Y-%m-%d %H:%M", time.localtime(each.last_at))) for each in found
    ]
    print_table(("caller", "keys", "last made"), rows, "no caller has a key; make one with: motes creds NAME")


@command.command()
@click.argument("name")
@click.option("--json", "as_json", is_flag=True, help="Print an object: name.")
def rm(name: str, as_json: bool) -> None:
    """Withdraw every key of NAME: its connections end at once, and none of its keys opens another.

    \b
    Example:
      motes creds rm shop
    """
    from motes.cli import revoking

    left = with_cluster(lambda cluster: revoking.remove(cluster, "caller-withdraw", name, name))
    what = "are withdrawn" if left.revoke else "open nothing any more"
    revoking.tell(name, f"the keys of {name!r} {what}", left, as_json)


def _write(file: Path, text: Callable[[], str]) -> None:
    """What `text` gives, in a new file that only its owner may read; no file where it fails. Raises BadInput."""
    try:
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        raise BadInput(f"{file} cannot be written: {error.strerror}; name another with --output") from None
    try:
        with os.fdopen(descriptor, "w") as stream:
            stream.write(text())
    except BaseException:
        file.unlink(missing_ok=True)
        raise


def _way_in(home: Home) -> dict[str, Any]:
    """What another machine needs to find the keeper and to know its word; nothing where it listens for nobody."""
    from motes.cli.invite import way_in
    from motes.grants.keys import load_public

    foreign = home.foreign()
    is_reached = home.listen() is not None if foreign is None else bool(foreign.certificate)
    if not home.client_file.exists() and not is_reached:
        return {}
    addresses, certificate = way_in(home)
    return {
        "addresses": addresses,
        "certificate": certificate,
        "controller": load_public(home.public_key("controller")),
    }


def _over_tls(home: Home, addresses: Sequence[str]) -> dict[str, Any]:
    """What a NATS client of another make needs to know of TLS; nothing where the keeper listens for nobody."""
    from motes.bus import tls

    if not addresses:
        return {}
    servers = [f"tls://{each}" for each in addresses if "//" not in each]
    # From elsewhere only its hash is known: the file is to be fetched from the keeper.
    certificate = str(home.tls_certificate) if home.tls_certificate.exists() else "the keeper's keys/tls.crt"
    return {"servers": servers, "certificate": certificate, "server_name": tls.SERVER_NAME}


def _new_key(name: str) -> Creds:
    """A new key of the caller; its secret goes nowhere but into the file."""
    from motes.grants import keys
    from motes.grants.creds import Creds
    from motes.model.credentials import Credentials
    from motes.model.keeper import AskToken

    key = keys.Key.generate()
    token = with_cluster(lambda cluster: cluster.ask("caller-admit", AskToken(name, key.public), str))
    return Creds(Credentials(name, token, key.nkey_seed(keys.Nkey.USER)))


def _owners_key(home: Home) -> Creds:
    """A new key of this machine's own user, with the secret that signs what runs."""
    from motes.client.deploy import owner_key
    from motes.grants import jwt, roles
    from motes.grants.creds import Creds
    from motes.grants.issuing import issuer_of
    from motes.model.names import OWN_USER

    # First: after the keeper moved here, the one is here and the other is where it came from.
    secret = owner_key(home).secret
    user = jwt.credentials(issuer_of(home), roles.caller(OWN_USER))
    return Creds(user, owner=secret)
