"""`motes up`: start the cluster of this machine."""

from __future__ import annotations

import json
import signal
import subprocess

import click

from motes.home import Home


@click.command(short_help="Start the cluster of this machine.")
@click.option(
    "--http",
    default="127.0.0.1:8080",
    show_default=True,
    metavar="HOST:PORT",
    help="Where to serve HTTP; port 0 is any free port.",
)
@click.option("--foreground", is_flag=True, help="Stay, and end the cluster at Ctrl-C.")
@click.option("--json", "as_json", is_flag=True, help="Print an object: http, nats, home, pid, already.")
def command(http: str, foreground: bool, as_json: bool) -> int:
    """Start the cluster of this machine and return when it takes calls.

    Its state lies in $MOTES_HOME; what was deployed before runs again. When it runs already, this says so.

    \b
    Example:
      motes up
      motes up --http 127.0.0.1:0 --json
    """
    from motes.supervisor.launch import END_WITH_PARENT, launch

    launched = launch(Home(), http, END_WITH_PARENT if foreground else ())
    already = launched.supervisor is None
    # Before anything is said: whoever reads it may tell this process to end at once.
    stays = _pass_signals_on(launched.supervisor) if foreground and launched.supervisor else None
    if as_json:
        click.echo(json.dumps({**launched.facts, "already": already}))
    else:
        click.echo(f"motes is up{' already' if already else ''}: {launched.facts['http']}")
    return stays.wait() if stays else 0


def _pass_signals_on(supervisor: subprocess.Popen[bytes]) -> subprocess.Popen[bytes]:
    """Whoever tells this process to end tells the supervisor."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: supervisor.terminate())
    return supervisor
