"""`motes creds`: callers' keys, for NATS clients in other languages: made, listed, withdrawn."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import click

from motes.cli.session import with_cluster
from motes.errors import BadInput

_OF_THE_GROUP = ("-h", "--help")


class Creds(click.Group):
    """Where a name stands for `make` with that name."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if args and args[0] not in (*self.commands, *_OF_THE_GROUP):
            args = ["make", *args]
        return super().parse_args(ctx, args)


@click.group(cls=Creds, short_help="Make, list and withdraw callers' keys for NATS clients in other languages.")
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
@click.argument("name")
@click.option(
    "--output", type=click.Path(dir_okay=False, path_type=Path), help="The file to write. Default: NAME.creds."
)
@click.option("--json", "as_json", is_flag=True, help="Print an object: user, file, nats, inbox_prefix.")
def make(name: str, output: Path | None, as_json: bool) -> None:
    """Make a user NAME of the cluster, and write its key to a file.

    Any NATS client takes the file. Let it wait for answers in the user's own inbox, by its option for the prefix.
    A subject that ends with NAME, as fn.hello.greet.shop, calls in its own name (see reuse="caller").

    \b
    Example:
      motes creds make shop
      nats --creds shop.creds --inbox-prefix _INBOX.shop request fn.hello.greet '"Ada"'
    """
    from motes.bus import subjects
    from motes.home import Home

    home = Home()
    home.cluster()
    home.refuse_joined("keys are made there")
    file = output or Path(f"{name}.creds")
    _write(file, lambda: _new_key(name))
    told = {
        "user": name,
        "file": str(file),
        "nats": home.nats_url(),
        "inbox_prefix": subjects.inbox(name),
    }
    if as_json:
        click.echo(json.dumps(told))
    else:
        click.echo(
            f"{file} holds the key of {name!r}; connect to {told['nats']} with inbox prefix {told['inbox_prefix']}"
        )


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
    with_cluster(lambda cluster: cluster.ask("caller-withdraw", name, bool))
    click.echo(json.dumps({"name": name}) if as_json else f"the keys of {name!r} open nothing any more")


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


def _new_key(name: str) -> str:
    """A new key of the caller, as the text of a `.creds` file; its secret goes nowhere else."""
    from motes.grants import jwt, keys
    from motes.model.credentials import Credentials
    from motes.model.keeper import AskToken

    key = keys.Key.generate()
    token = with_cluster(lambda cluster: cluster.ask("caller-admit", AskToken(name, key.public), str))
    return jwt.creds_text(Credentials(name, token, key.nkey_seed(keys.Nkey.USER)))
