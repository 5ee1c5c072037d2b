"""`motes context`: which cluster the commands act on."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from motes import contexts
from motes.errors import BadInput, Refused
from motes.files import replace
from motes.home import Home

if TYPE_CHECKING:
    from collections.abc import Iterator

    from motes.grants.creds import Creds

COLUMNS = ("", "context", "where", "as")


@click.group(short_help="Choose the cluster that commands act on, also on other machines.")
def command() -> None:
    """Choose the cluster that commands and programs act on.

    The first of these counts: --context, $MOTES_CONTEXT, $MOTES_HOME, what `motes context use` chose, this machine's
    own cluster.

    \b
    Example:
      motes creds shop                                  # on the keeper, which listens; bring the file here
      motes context add work --creds shop.creds
      motes --context work call hello.greet Ada
      motes context use work
    """
    _sweep()


@command.command()
@click.option("--json", "as_json", is_flag=True, help="Print a list of objects: name, chosen, by, where, user, owner.")
def ls(as_json: bool) -> None:
    """List the contexts; the one in force has a star.

    \b
    Example:
      motes context ls
    """
    from motes.cli.table import print_json, print_table

    chosen = contexts.chosen()
    found = [_told(name, chosen) for name in (contexts.LOCAL, *contexts.names())]
    if as_json:
        print_json(found)
        return
    rows = [("*" if each["chosen"] else "", each["name"], each["where"], each["user"]) for each in found]
    print_table(COLUMNS, rows, "")


def _told(name: str, chosen: contexts.Chosen) -> dict[str, Any]:
    home = Home(contexts.home_of(name))
    is_chosen = name == chosen.name
    owner = home.key("owner").exists()
    told: dict[str, Any] = {"name": name, "chosen": is_chosen, "by": chosen.by if is_chosen else "", "owner": owner}
    if not home.client_file.exists():
        return {**told, "where": str(home.path), "user": home.own_user()}
    return {**told, "where": home.keeper().servers, "user": home.own_user() + (" (owner)" if owner else "")}


@command.command()
@click.argument("name")
@click.option("--json", "as_json", is_flag=True, help="Print an object: name, chosen.")
def use(name: str, as_json: bool) -> None:
    """Act on the cluster NAME from now on; `local` is this machine's own.

    \b
    Example:
      motes context use work
      motes context use local
    """
    contexts.home_of(name)
    _folder(contexts.folder())
    replace(contexts.folder() / "chosen", name + "\n")
    now = contexts.chosen()
    if as_json:
        click.echo(json.dumps({"name": name, "chosen": now.name}))
    elif now.by:
        click.echo(f"context {name} is chosen, but here ${now.by} goes first")
    else:
        click.echo(f"commands act on {name}")


@command.command()
@click.argument("name")
@click.option("--creds", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="What motes creds wrote.")
@click.option("--keeper", multiple=True, metavar="HOST:PORT", help="Where the keeper is, before what the file says.")
@click.option("--certificate", metavar="SHA256", help="Its certificate's fingerprint. Default: what the file says.")
@click.option("--home", type=click.Path(exists=True, file_okay=False, path_type=Path), help="A home on this machine.")
@click.option("--json", "as_json", is_flag=True, help="Print an object: name, where, user.")
def add(
    name: str, creds: Path | None, keeper: tuple[str, ...], certificate: str | None, home: Path | None, as_json: bool
) -> None:
    """Name a cluster: one on other machines by a file of `motes creds`, or a home on this one.

    The keeper is asked once, so what cannot work is not kept. The keys are copied; the file is not needed any more.

    \b
    Example:
      motes context add work --creds shop.creds
      motes context add work --creds shop.creds --keeper keeper.example:7423
      motes context add other --home ~/other
    """
    if (creds is None) == (home is None):
        raise click.UsageError("name either --creds FILE or --home FOLDER")
    path = contexts.path_of(name)
    if path.exists():
        raise Refused(f"there is a context {name!r} already; choose another name, or first: motes context rm {name}")
    if home is not None:
        if keeper or certificate:
            raise click.UsageError("--keeper and --certificate go with --creds")
        with _unfinished(name) as folder:
            replace(folder / "home", f"{home.absolute()}\n")
            folder.rename(path)
    elif creds is not None:
        add_client(name, _read(creds, keeper, certificate))
    told = _told(name, contexts.chosen())
    if as_json:
        click.echo(json.dumps({key: told[key] for key in ("name", "where", "user")}))
    else:
        click.echo(
            f"context {name} is {told['where']} (motes --context {name} ..., or for good: motes context use {name})"
        )


def _read(file: Path, keeper: tuple[str, ...], certificate: str | None) -> Creds:
    from motes.grants import creds
    from motes.model.certificate import is_known
    from motes.model.invite import is_address

    if file.stat().st_size > creds.MOST_BYTES:
        raise BadInput(f"{file} is no file of credentials: it has over {creds.MOST_BYTES} bytes")
    found = creds.parse(file.read_text(errors="replace"))
    if wrong := [each for each in keeper if not is_address(each)]:
        raise BadInput(f"--keeper {wrong[0][:80]!r} is no address; write it like keeper.example:7423")
    if certificate is not None:
        try:
            found = found._replace(certificate=bytes.fromhex(certificate.replace(":", "")))
        except ValueError:
            found = found._replace(certificate=b"")
    found = found._replace(addresses=(*keeper, *(each for each in found.addresses if each not in keeper)))
    if not found.addresses or not is_known(found.certificate):
        raise BadInput(
            f"{file} does not say where the keeper is, with a certificate's fingerprint of 64 digits: make it where the"
            " keeper listens for others (motes up --listen, then motes creds), or say it: --keeper, --certificate"
        )
    return found


def add_client(name: str, found: Creds) -> None:
    """Keep a way to a cluster on other machines, once its keeper has let this user in. Raises what it says."""
    import asyncio

    from motes.client.cluster import connect

    async def look(home: Home) -> None:
        async with connect(home.path) as cluster:
            await cluster.services()

    with _unfinished(name) as folder:
        home = Home(folder)
        for each in (home.keys, home.users):
            _folder(each)
        home.save_credentials(found.credentials)
        home.write_json(home.keeper_file, {"addresses": found.addresses, "certificate": found.certificate.hex()})
        home.write_json(home.client_file, {"user": found.credentials.user})
        if found.controller:
            home.write_text(home.public_key("controller"), found.controller.hex())
        if found.owner:
            home.write_text(home.key("owner"), found.owner.hex())
        asyncio.run(look(home))
        folder.rename(contexts.path_of(name))


@command.command()
@click.argument("name")
@click.option("--json", "as_json", is_flag=True, help="Print an object: name.")
def rm(name: str, as_json: bool) -> None:
    """Forget a context and the keys in it. A home on this machine stays as it is.

    \b
    Example:
      motes context rm work
    """
    contexts.home_of(name)
    path = contexts.path_of(name)
    with _unfinished(name) as folder:
        folder.rmdir()
        path.rename(folder)
    with contextlib.suppress(OSError):
        if (contexts.folder() / "chosen").read_text().strip() == name:
            (contexts.folder() / "chosen").unlink()
    click.echo(json.dumps({"name": name}) if as_json else f"context {name} is forgotten")


def _folder(path: Path) -> None:
    """For the owner only, as all from the folder of contexts down, whatever the umask says."""
    own = contexts.folder()
    for each in (own, own / "contexts", path):
        each.mkdir(mode=0o700, parents=True, exist_ok=True)
        each.chmod(0o700)


@contextlib.contextmanager
def _unfinished(name: str) -> Iterator[Path]:
    """The folder of a context that is to be, or was: what of it is there in the end goes.

    Nobody finds half of one: a name that begins with a dot is no context's.
    """
    path = contexts.path_of(name).with_name(f".{name}.{os.getpid()}")
    _folder(path.parent)
    with _held(path.parent):
        _folder(path)
        try:
            yield path
        finally:
            shutil.rmtree(path, ignore_errors=True)


def _sweep() -> None:
    """Remove what a command left that was killed: there may be keys in it. Not while another one is at work."""
    folder = contexts.folder() / "contexts"
    if folder.is_dir():
        with _held(folder, alone=True) as is_alone:
            for left in folder.glob(".*") if is_alone else ():
                shutil.rmtree(left, ignore_errors=True)


@contextlib.contextmanager
def _held(folder: Path, alone: bool = False) -> Iterator[bool]:
    """With the folder, beside others or alone; or not: others are there, or the system or the disk knows no locks."""
    try:
        import fcntl

        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except (ImportError, OSError):
        yield False
        return
    try:
        is_held = False
        with contextlib.suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB if alone else fcntl.LOCK_SH)
            is_held = True
        yield is_held
    finally:
        os.close(descriptor)
