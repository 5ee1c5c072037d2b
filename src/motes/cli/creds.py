"""`motes creds`: a caller's key, for NATS clients in other languages."""

from __future__ import annotations

import os
from pathlib import Path

import click


@click.command(short_help="Make a caller's key for NATS clients in other languages.")
@click.argument("name")
@click.option(
    "--output", type=click.Path(dir_okay=False, path_type=Path), help="The file to write. Default: NAME.creds."
)
@click.option("--json", "as_json", is_flag=True, help="Print an object: user, file, nats, inbox_prefix.")
def command(name: str, output: Path | None, as_json: bool) -> None:
    """Make a user NAME of the cluster that may call every function and nothing else, and write its key to a file.

    Any NATS client takes the file. Let it wait for answers in the user's own inbox, by its option for the prefix.
    A subject that ends with NAME, as fn.hello.greet.shop, calls in its own name (see reuse="caller").

    \b
    Example:
      motes creds shop
      nats --creds shop.creds --inbox-prefix _INBOX.shop request fn.hello.greet '"Ada"'
    """
    from motes.bus import subjects
    from motes.errors import BadInput
    from motes.grants import jwt, keys, roles
    from motes.home import Home
    from motes.model.names import OWN_USER

    home = Home()
    home.cluster()
    if name == OWN_USER:
        raise BadInput(f"{name!r} is this machine's own user, who may also deploy; choose another name")
    role = roles.caller(name)
    file = output or Path(f"{name}.creds")
    made = jwt.credentials(keys.load_or_create(home.key("account")), role)
    try:
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        raise BadInput(f"{file} cannot be written: {error.strerror}; name another with --output") from None
    with os.fdopen(descriptor, "w") as stream:
        stream.write(jwt.creds_text(made))
    told = {
        "user": name,
        "file": str(file),
        "nats": home.nats_url(),
        "inbox_prefix": subjects.inbox(name),
    }
    if as_json:
        from motes.cli.table import print_json

        print_json(told)
    else:
        click.echo(
            f"{file} holds the key of {name!r}; connect to {told['nats']} with inbox prefix {told['inbox_prefix']}"
        )
