"""`motes pause`: lend nothing of this machine until `motes resume`."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor

import click

from motes.errors import Unavailable
from motes.home import Home
from motes.supervisor import control

TIMEOUT_S = 10.0


@click.command(short_help="Lend nothing of this machine until `motes resume`.")
@click.option("--json", "as_json", is_flag=True, help="Print an object: hosts.")
def command(as_json: bool) -> None:
    """Have this machine for oneself within five seconds: its hosts take no more calls, and end.

    Calls that run get three seconds to finish; of the rest, those of idempotent functions run again on other hosts. It
    holds over restarts, until `motes resume`. A keeper's control goes on, and with it the other machines.

    \b
    Example:
      motes pause
    """
    home = Home()
    home.create()
    # First: a supervisor that starts at this moment must see it.
    home.write_text(home.paused_file, "")
    names = sorted(home.offers())
    with ThreadPoolExecutor(max(len(names), 1)) as together:
        list(together.map(lambda name: _stop(home, name), names))
    click.echo(json.dumps({"hosts": names}) if as_json else "this machine lends nothing until: motes resume")


def _stop(home: Home, name: str) -> None:
    try:
        control.ask(home, "stop-host", TIMEOUT_S, name=name, why="paused")
    except Unavailable:
        return  # It does not run.
