"""`motes down`: stop the cluster of this machine."""

from __future__ import annotations

import json

import click

from motes.errors import Unavailable
from motes.home import Home
from motes.supervisor import control

TIMEOUT_S = 40.0


@click.command(short_help="Stop the cluster of this machine.")
@click.option("--json", "as_json", is_flag=True, help="Print an object: home, stopped.")
def command(as_json: bool) -> None:
    """Stop the cluster of this machine; what is deployed stays for the next `motes up`.

    Returns when every process has ended. When none runs, this says so.

    \b
    Example:
      motes down
    """
    home = Home()
    try:
        control.ask_to_end(home, TIMEOUT_S)
        stopped = True
    except Unavailable:
        stopped = False
        # What a killed supervisor left behind.
        home.supervisor_socket.unlink(missing_ok=True)
        home.cluster_file.unlink(missing_ok=True)
    if as_json:
        click.echo(json.dumps({"home": str(home.path), "stopped": stopped}))
    else:
        click.echo("motes is down" if stopped else f"no cluster ran in {home.path}")
