"""`motes lend`: what this machine lends and when, said and changed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import click

from motes.errors import BadInput, NotFound, Unavailable
from motes.home import Home

TIMEOUT_S = 15.0
DEFAULT = "default"
"""A key with this value is as if it had never been said."""
STOPPED, PAUSED = "it does not run (motes up)", "this machine is paused (motes resume)"
UNKNOWN: dict[str, Any] = {"keeper": None, "sources": []}
"""What nobody says of a host that does not run."""
_WORDS = {"cpus": "cpus", "memory_bytes": "memory", "disk_bytes": "disk", "spaces": "spaces"}


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
    home = Home()
    name = _which(home.offers(), host)
    if words:
        with home.changing_offers() as offers:
            name = _which(offers, name)
            offers[name] = changed(offers[name], words)
    entry = home.offers()[name]
    refuse_unfit(entry)
    told = {"host": name, "lends": entry, **now(home, name)}
    if as_json:
        click.echo(json.dumps(told))
        return
    from motes.cli.table import plain

    click.echo(f"host {name} lends {described(told['lends'])}")
    click.echo("now: it lends" if not told["away"] else f"now: it lends nothing: {plain(told['away'])}")
    for source in told["sources"]:
        click.echo(plain(f"      {source['name']}: {source['says']}"))


def changed(entry: Mapping[str, Any], words: tuple[str, ...]) -> dict[str, Any]:
    """The entry of hosts.json after `words`. Raises BadInput and Refused."""
    from motes.cli.host import LENT, LENT_EXAMPLE, parse_lend
    from motes.supervisor import founding

    parts = [part.strip() for word in words for part in word.split(",")]
    forgotten = [key for part in parts if (key := part.removesuffix(f"={DEFAULT}")) != part]
    if unknown := [key for key in forgotten if key not in LENT]:
        raise BadInput(f"{unknown[0]!r} is nothing that is lent; write: {LENT_EXAMPLE}")
    said = parse_lend(",".join(part for part in parts if part.removesuffix(f"={DEFAULT}") == part))
    kept = {key: value for key, value in entry.items() if key not in {LENT[key][0] for key in forgotten}}
    found = {**founding.default_offer(), **kept, **said}
    refuse_unfit(found)
    return found


def refuse_unfit(entry: Mapping[str, Any]) -> None:
    """Raises BadInput for an entry that no host can lend by, as one that an earlier version took."""
    from motes.cli.host import LENT
    from motes.model.terms import offer_of, terms_of

    wrong = []
    for key, (field, _) in LENT.items():
        part = {field: entry[field]} if field in entry else {}
        try:
            offer_of(part)
            terms_of(part)
        except ValueError:
            wrong.append(key)
    if wrong:
        kept = ", ".join(f"{key}={str(entry[LENT[key][0]])[:80]}" for key in wrong)
        mend = " ".join(f"{key}={DEFAULT}" for key in wrong)
        raise BadInput(f"this host was to lend {kept}, which no host can; say it anew, or: motes lend {mend}")


def described(entry: Mapping[str, Any]) -> str:
    """An entry in the words with which it is changed."""
    from motes.model.served import OWNER
    from motes.model.units import format_bytes

    def amount(field: str) -> str:
        value = entry[field]
        return format_bytes(value).replace(" ", "") if field.endswith("_bytes") else f"{value:g}"

    found = [f"{word}={amount(field)}" for field, word in _WORDS.items() if entry.get(field)]
    found += [f"{key}={entry.get(key) or 'always'}" for key in ("hours", "when")]
    found += [f"serve={'+'.join(entry.get('serve') or (OWNER,))}"]
    found += ["priority=idle"] if entry.get("idle_class") else []
    found += [f"labels={'+'.join(entry['labels'])}"] if entry.get("labels") else []
    return " ".join(found + ([f"machine={entry['machine']}"] if entry.get("machine") else []))


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
