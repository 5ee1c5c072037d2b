"""`motes service`: have systemd start this machine's part of the cluster, and start it again when it fails."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from motes.supervisor.systemd import Systemd

_WHOSE = click.option(
    "--system/--user",
    "system",
    default=None,
    help="The machine's systemd, or the user's own. Default: the machine's for root, else the user's.",
)
_JSON = "Print an object: unit, installed, enabled, active, linger, home."


@click.group(short_help="Have the machine's start bring this up, by systemd.")
def command() -> None:
    """Have systemd start what `motes up` starts, a keeper or a host that has joined, whenever the machine starts.

    For a user that is a user's unit, and the user is let linger, so that it needs no login. For root it is a unit of
    the machine.

    \b
    Example:
      motes service install
      motes service status
    """


@command.command()
@click.option(
    "--http", metavar="HOST:PORT", help="Where to serve HTTP. Default: as it runs now, else as `motes up` does."
)
@_WHOSE
@click.option("--json", "as_json", is_flag=True, help=_JSON)
def install(http: str | None, system: bool | None, as_json: bool) -> None:
    """Install the service, and go over to it: what runs here now is ended in order and started by it.

    Done again, it changes nothing, or mends what is not as it should be: another interpreter, another version.
    `motes down` stops it until the next start of the machine.

    \b
    Example:
      motes service install
    """
    from motes.home import Home
    from motes.supervisor.installing import install as work

    home = Home()
    systemd = _systemd(system)
    refused = work(home, systemd, http)
    told = _told(systemd)
    if as_json:
        click.echo(json.dumps(told))
        return
    click.echo(f"{told['unit']} is installed and runs; it starts with the machine")
    if refused:
        click.echo(
            f"not without a login, though: systemd does not let {systemd.user} linger ({refused}); let an administrator"
            f" say: loginctl enable-linger {systemd.user}"
        )


@command.command()
@_WHOSE
@click.option("--json", "as_json", is_flag=True, help=_JSON)
def remove(system: bool | None, as_json: bool) -> None:
    """End what the service runs, in order, and remove the service. The home stays as it is: motes up.

    \b
    Example:
      motes service remove
    """
    from motes.supervisor.installing import remove as work

    systemd = _systemd(system)
    removed = work(systemd)
    told = _told(systemd)
    if as_json:
        click.echo(json.dumps(told))
    else:
        click.echo(f"{told['unit']} is removed" if removed else f"there is no {told['unit']}")


@command.command()
@_WHOSE
@click.option("--json", "as_json", is_flag=True, help=_JSON)
def status(system: bool | None, as_json: bool) -> None:
    """Say whether the service is installed, starts with the machine, and runs.

    \b
    Example:
      motes service status
    """
    told = _told(_systemd(system))
    if as_json:
        click.echo(json.dumps(told))
        return
    if not told["installed"]:
        click.echo(f"there is no {told['unit']} (motes service install)")
        return
    starts = "starts with the machine" if told["linger"] else "starts when you log in"
    click.echo(f"{told['unit']} for {told['home']}: {told['active']}, {starts if told['enabled'] else 'not enabled'}")


def _systemd(system: bool | None) -> Systemd:
    from motes.supervisor.systemd import Systemd

    return Systemd(system=os.geteuid() == 0 if system is None else system)


def _told(systemd: Systemd) -> dict[str, Any]:
    from motes.supervisor import unit

    text = systemd.read()
    return {
        "unit": str(systemd.file),
        "installed": bool(text),
        "enabled": systemd.is_enabled(),
        "active": systemd.state(),
        "linger": systemd.lingers(),
        "home": unit.home_in(text),
    }
