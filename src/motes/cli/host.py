"""`motes host`: the hosts that this machine lends to its cluster."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from motes.cli import host_sets
from motes.cli.linux import refuse_elsewhere
from motes.errors import BadInput, MotesError, NotFound, Unavailable
from motes.home import Home
from motes.model.names import HOST_PREFIX
from motes.model.naming import as_name
from motes.model.served import in_words
from motes.model.units import format_bytes

if TYPE_CHECKING:
    from motes.client.cluster import Cluster
    from motes.model.host import HostStatus
    from motes.model.keeper import Fetching

TIMEOUT_S = 40.0
_LENDS_ONE = "it lends one host, which `motes down` stops, `motes up` starts again and `motes leave` takes away"
COLUMNS = ("host", "pid", "state", "python", "cpus", "memory", "spaces")


class Hosts(click.Group):
    """Whose `ls` only asks a cluster, from any system."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name, found, rest = super().resolve_command(ctx, args)
        refuse_elsewhere(f"host {name}")
        return name, found, rest


@click.group(cls=Hosts, short_help="List the hosts, start one here, add, drain and remove others.")
def command() -> None:
    """List the cluster's hosts, start and stop those of this machine, add, drain and remove others.

    \b
    Example:
      motes host ls
      motes host start --name b --lend cpus=2,memory=1GiB,spaces=100
      motes host stop --name b
    """


for each in (host_sets.show, host_sets.name, host_sets.unname):
    command.add_command(each)


@command.command()
@click.option("--json", "as_json", is_flag=True, help="Print a list of objects: name, pid, state, lends, used, spaces.")
def ls(as_json: bool) -> None:
    """List the cluster's hosts: what each lends, and how much of it is used now.

    STATE is one of up, away, draining, drained, silent, too old, too new, off, paused. Away is one that lends nothing
    now, by its owner's terms, and why is said below; on a drained one nothing runs. A host whose Motes does not fit the
    keeper's gets no work, and what to do is said below. One that has joined and is not there is off, or paused by its
    owner, until it leaves or is removed. It is also said which host serves some apps only, and which fetches the code
    or the packages of an app. `motes host show NAME` says more of one.

    \b
    Example:
      motes host ls
    """
    from motes.cli.session import with_cluster
    from motes.cli.table import plain, print_json, print_table

    hosts, fetching = with_cluster(_hosts)
    if as_json:
        print_json(hosts)
        return
    print_table(COLUMNS, [_row(each) for each in hosts], "no host; start one with: motes host start")
    for host in hosts:
        if host.away:
            click.echo(f"host {host.name} is away: {plain(host.away)}")
        if host.lends.serve:
            click.echo(f"host {host.name} serves only {in_words(host.lends.serve)}, as its owner says")
        if not host.is_there:
            click.echo(f"host {host.name} is {absent(host)}")
        if host.advice:
            click.echo(plain(host.advice))
    for each in fetching:
        done, total = format_bytes(each.done_bytes), format_bytes(each.total_bytes)
        click.echo(f"host {each.host} fetches {done} of {total} for an app")


async def _hosts(cluster: Cluster) -> tuple[list[HostStatus], list[Fetching]]:
    from motes.model.keeper import Fetching

    return await cluster.hosts(), await cluster.ask("fetching", None, list[Fetching])


def absent(host: HostStatus) -> str:
    """Of a host that is not there: since when, as far as the keeper knows."""
    from motes.cli.table import clock

    what = "paused by its owner" if host.state == "paused" else host.state
    return f"{what}; last seen {clock(host.seen_at)}" if host.seen_at else f"{what}; not seen since the keeper started"


def _row(host: HostStatus) -> tuple[str, ...]:
    if not host.is_there:
        return (host.name, "-", host.state, "-", "-", "-", "-")
    return (
        host.name,
        str(host.pid or "-"),
        host.state,
        host.python,
        f"{host.lends.cpus:g}",
        f"{format_bytes(host.used.get('memory_bytes', 0))} of {format_bytes(host.lends.memory_bytes)}",
        f"{host.spaces} of {host.lends.spaces}",
    )


@command.command()
@click.option("--name", help="A letter or digit, then up to 62 of A-Z a-z 0-9 _ -. Default: the next free local-N.")
@click.option(
    "--lend",
    default="",
    metavar="KEY=VALUE,...",
    help="What it lends, and when; see: motes lend --help",
)
@click.option("--python", help="The interpreter it runs with, in which motes is installed. Default: this one.")
@click.option("--json", "as_json", is_flag=True, help="Print an object: name, pid.")
def start(name: str | None, lend: str, python: str | None, as_json: bool) -> None:
    """Start one more host; it starts again with each `motes up`.

    The functions of a host run with its own Python. An app that needs another one, by its requires-python, is placed on
    the hosts that have it; packages come along for each Python that is there when the app is deployed.

    \b
    Example:
      motes host start --name b --lend cpus=2,memory=1GiB,spaces=100
      motes host start --name c --python ~/py313/bin/python
    """
    from motes.cli import lent
    from motes.supervisor import control, founding
    from motes.supervisor.interpreters import usable_interpreter

    home = Home()
    home.cluster()
    home.refuse_joined(_LENDS_ONE)
    offers = home.offers()
    name = name or next(f"local-{number}" for number in range(2, len(offers) + 3) if f"local-{number}" not in offers)
    if name in offers and (lend or python):
        raise BadInput(
            f"host {name!r} has been started; to change what it lends: motes lend --host {name} ...; for another"
            f" Python, first: motes host stop --name {name}"
        )
    offer = offers.get(name) or {**founding.default_offer(), **lent.parse(lend)}
    if python:
        offer["python"] = usable_interpreter(os.path.expanduser(python))
    _claim(home, name)
    is_new = name not in offers
    with home.changing_offers() as offers:
        offers.setdefault(name, offer)
    try:
        answer = control.ask(home, "start-host", TIMEOUT_S, name=name)
    except Unavailable:
        with home.changing_offers() as offers:
            if is_new:
                offers.pop(name, None)
        raise
    told = {"name": name, "pid": answer["pid"]}
    click.echo(json.dumps(told) if as_json else f"host {name} is up")


def _claim(home: Home, name: str) -> None:
    """Have the name for this machine. Raises Refused when another has joined as it."""
    from motes.cli.session import with_cluster
    from motes.supervisor import founding

    is_new = not home.user(HOST_PREFIX + name).exists()
    # First: from now on nobody joins as it, so the answer stays true.
    founding.admit_host(home, name)
    try:
        with_cluster(lambda cluster: cluster.ask("claim", name, bool))
    except MotesError:
        if is_new:
            home.user(HOST_PREFIX + name).unlink(missing_ok=True)
        raise


@command.command()
@click.option("--name", required=True, help="Which host.")
@click.option("--json", "as_json", is_flag=True, help="Print an object: name.")
def stop(name: str, as_json: bool) -> None:
    """Stop a host; its work moves to the others, and it does not start again by itself.

    Without a cluster that runs, the host is left out of the next `motes up`.

    \b
    Example:
      motes host stop --name b
    """
    from motes.supervisor import control
    from motes.supervisor.launch import running

    home = Home()
    home.refuse_joined(_LENDS_ONE)
    offers = home.offers()
    if name not in offers:
        home.cluster()
        raise NotFound(f"no host {name!r} on this machine; there are: {', '.join(sorted(offers)) or 'none'}")
    if running(home):
        control.ask(home, "stop-host", TIMEOUT_S, name=name)
    with home.changing_offers() as offers:
        offers.pop(name, None)
    click.echo(json.dumps({"name": name}) if as_json else f"host {name} has stopped")


@command.command()
@click.argument("name")
@click.option("--json", "as_json", is_flag=True, help="Print an object: name.")
def rm(name: str, as_json: bool) -> None:
    """Remove a host that has joined: at once, and its key opens nothing any more.

    What ran there is started on other hosts. To have the machine again, it joins with a new invite.

    \b
    Example:
      motes host rm laptop
    """
    from motes.cli import revoking
    from motes.cli.session import with_cluster

    left = with_cluster(lambda cluster: revoking.remove(cluster, "expel", name, HOST_PREFIX + name))
    revoking.tell(name, f"host {name} is removed", left, as_json)


@command.command()
@click.argument("machine", metavar="USER@MACHINE")
@click.option("--as", "role", type=click.Choice(("host", "keeper")), default="host", show_default=True, help="As what.")
@click.option("--name", help="What the host is called, or the context of the keeper. Default: the machine's name.")
@click.option("--lend", default="", metavar="KEY=VALUE,...", help="What a host lends, as for motes join.")
@click.option("--listen", default="0.0.0.0", show_default=True, metavar="HOST[:PORT]", help="Where a keeper listens.")
@click.option("--http", default="127.0.0.1:8080", show_default=True, help="Where a keeper serves HTTP, on its machine.")
@click.option("--ssh-config", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="A file for ssh -F.")
@click.option("--json", "as_json", is_flag=True, help="Print an object: name, service; of a keeper also where.")
def add(
    machine: str, role: str, name: str | None, lend: str, listen: str, http: str, ssh_config: Path | None, as_json: bool
) -> None:
    """Make another machine a host of this cluster, over ssh: install this very version there, join, start with it.

    Needed there: Linux, Python 3.11 or later with venv, and a package index. Nothing is asked of root. Done again, it
    does what is missing, and brings this version where another is. With --as keeper it becomes the keeper of a new
    cluster, whose owner's key is fetched for a context here.

    \b
    Example:
      motes host add kim@attic --name attic --lend cpus=2,memory=1GiB
      motes host add kim@server.example --as keeper --name work
    """
    from motes.cli import adding, lent
    from motes.cli.far import reached
    from motes.cli.table import plain

    lent.parse(lend)
    if name is not None:
        as_name(name)

    def say(step: str, what: str) -> None:
        click.echo(plain(f"{step}: {what}"), err=as_json)

    with reached(machine, ssh_config) as far:
        if role == "host":
            told = adding.add_host(far, name, lend, say)
        else:
            told = adding.add_keeper(far, name or adding.name_of(machine), listen, http, say)
    if as_json:
        click.echo(json.dumps(told))


@command.command()
@click.argument("name")
@click.option("--off", is_flag=True, help="Let it take work again.")
@click.option("--wait", is_flag=True, help="Return only when nothing runs there any more.")
@click.option("--json", "as_json", is_flag=True, help="Print an object: name, state.")
def drain(name: str, off: bool, wait: bool, as_json: bool) -> None:
    """Have a host take no new work; what runs there moves or ends, and nothing is lost.

    Running calls finish. A daemon, and the least of a function's `scale`, serves elsewhere before it ends here; where
    no other host can take it, it stays. It holds over restarts, until --off or `motes host rm`.

    \b
    Example:
      motes host drain laptop --wait
      motes host drain laptop --off
    """
    from motes.cli.drain import drain_host
    from motes.cli.session import with_cluster

    state = with_cluster(lambda cluster: drain_host(cluster, name, not off, wait))
    if as_json:
        click.echo(json.dumps({"name": name, "state": state}))
    elif off:
        click.echo(f"host {name} takes work again")
    else:
        left = "nothing runs there" if state == "drained" else f"it is {state} (see `motes host ls`)"
        click.echo(f"host {name} takes no new work; {left}")
