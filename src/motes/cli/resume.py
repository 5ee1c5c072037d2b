"""`motes resume`: lend again after `motes pause`."""

from __future__ import annotations

import json

import click

from motes.home import Home
from motes.supervisor import control
from motes.supervisor.launch import running

TIMEOUT_S = 40.0


@click.command(short_help="Lend again after `motes pause`.")
@click.option("--json", "as_json", is_flag=True, help="Print an object: hosts, running.")
def command(as_json: bool) -> None:
    """Start this machine's hosts again.

    Where nothing of Motes runs, `motes up` will start them.

    \b
    Example:
      motes resume
    """
    home = Home()
    home.paused_file.unlink(missing_ok=True)
    runs = running(home) is not None
    names = sorted(home.offers())
    for name in names if runs else ():
        control.ask(home, "start-host", TIMEOUT_S, name=name)
    if as_json:
        click.echo(json.dumps({"hosts": names, "running": runs}))
    else:
        click.echo("this machine lends again" if runs else "this machine lends again with: motes up")
