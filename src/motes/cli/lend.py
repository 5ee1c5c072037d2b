"""`motes lend`: what this machine lends and when, said and changed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import click

from motes.errors import BadInput, NotFound, Unavailable
from motes.home import Home

TIMEOUT_S = 15.0
STOPPED, PAUSED = "it does not run (motes up)", "this machine is paused (motes resume)"
UNKNOWN: dict[str, Any] = {"keeper": None, "sources": []}
"""What nobody says of a host that does not run."""


@click.command(short_help="Say or change what this machine lends, when, and to which apps.")
@click.argument("words", nargs=-1, metavar="[KEY=VALUE]...")
@click.option("--host", help="Which host, where this machine has several.")
@click.option("--json", "as_json", is_flag=True, help="Print an object: host, lends, running, away, keeper, sources.")
def command(words: tuple[str, ...], host: str | None, as_json: bool) -> None:
    """Change what this machine lends, at once and for good. Without words: say its terms, and what is so now.

    \b
    cpus=2  memory=1GiB  disk=5GiB  spaces=200    how much
    hours=22-07    these hours only; also 22:30-07:00+12-13, mon-fri/19-07+sat-sun, always
    when=idle      while nobody is at it; also charging, idle+charging, always
    serve=shop     these apps only; also shop+mail, owner (all of the cluster's owner, and nobody else's)
    priority=idle  only what your own programs leave, from its next start on; also normal
    labels=gpu+attic  machine=nas                 what it is, for who chooses hosts
    KEY=default    as if it had never been said

    When the hours end, the charger is pulled or you come back, calls have three seconds to finish; then it is yours.

    \b
    Example:
      motes lend memory=2GiB hours=22-07 when=idle+charging
    """
    from motes.cli import lent
    from motes.cli.table import plain

    home = Home()
    name = _which(home.offers(), host)
    if words:
        with home.changing_offers() as offers:
            name = _which(offers, name)
            offers[name] = lent.changed(offers[name], words)
    entry = home.offers()[name]
    lent.refuse_unfit(entry)
    told = {"host": name, "lends": entry, **now(home, name)}
    if as_json:
        click.echo(json.dumps(told))
        return
    click.echo(f"host {name} lends {lent.described(told['lends'])}")
    click.echo("now: it lends" if not told["away"] else f"now: it lends nothing: {plain(told['away'])}")
    for source in told["sources"]:
        click.echo(plain(f"      {source['name']}: {source['says']}"))


def _which(offers: Mapping[str, Any], host: str | None) -> str:
    """Raises NotFound and BadInput."""
    names = sorted(offers)
    if not names:
        raise NotFound("this machine has no host yet (start a cluster: motes up; or join one: motes join)")
    if host is None and len(names) > 1:
        raise BadInput(f"this machine has several hosts; say which with --host: {', '.join(names)}")
    if host is not None and host not in names:
        raise NotFound(f"no host {host!r} on this machine; there are: {', '.join(names)}")
    return host or names[0]


def now(home: Home, name: str) -> dict[str, Any]:
    """Whether the host runs, why it lends nothing, how it stands with its keeper, and by which sources.

    It has taken on what was changed.
    """
    from motes.supervisor import control
    from motes.supervisor.launch import running

    if home.paused_file.exists() or running(home) is None:
        return {"running": False, "away": PAUSED if home.paused_file.exists() else STOPPED, **UNKNOWN}
    try:
        told = control.ask(home, "lend", TIMEOUT_S, name=name)
    except Unavailable as error:
        return {"running": False, "away": error.message, **UNKNOWN}
    return {"running": True, **{key: told.get(key, value) for key, value in {"away": "", **UNKNOWN}.items()}}
