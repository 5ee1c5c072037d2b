"""`motes keeper`: have another machine be the keeper."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import click

from motes.cli.amounts import DURATION_OR_NONE
from motes.errors import BadInput, Refused, TimedOut, Unavailable
from motes.home import ANY_ADDRESS, Home, Listen

READY_TIMEOUT_S = 60.0
_POLL_S = 0.05
_IN_FOREIGN = (
    "the streams of this cluster lie in a NATS that the keeper does not run, and stay there; only the keys would move:"
    " copy the keeper's home to the other machine, `motes down` here, `motes up` there"
)


@click.group(short_help="Have another machine be the keeper.")
def command() -> None:
    """Move the cluster's control, keys and streams to another machine, while apps go on.

    \b
    Example:
      motes keeper accept --listen 0.0.0.0     on the machine that is to be the keeper; it prints the other command
      motes keeper move server motes-keeper1-...
    """


@command.command()
@click.option("--listen", default="0.0.0.0", show_default=True, metavar="HOST:PORT", help="Where it will be reached.")
@click.option("--listen-ws", metavar="HOST:PORT", help="And where over WebSocket. Port: 7424 if not said.")
@click.option("--address", "more", multiple=True, metavar="HOST:PORT", help="One more address of this machine.")
@click.option("--http", default="127.0.0.1:8080", show_default=True, metavar="HOST:PORT", help="As of `motes up`.")
@click.option("--json", "as_json", is_flag=True, help="Print objects: host, addresses, line; then http.")
def accept(listen: str, listen_ws: str | None, more: tuple[str, ...], http: str, as_json: bool) -> None:
    """Let this machine, which has joined, become its cluster's keeper: wait until `motes keeper move` was given there.

    What it prints is to be pasted on the keeper. Ctrl-C ends it, and nothing has happened. Given again after it was
    killed it goes on where it was.

    \b
    Example:
      motes keeper accept --listen 0.0.0.0:7423 --address keeper.example:7423
    """
    from motes.cli.invite import addresses_of, web_addresses_of
    from motes.cli.up import parse_listen, parse_web
    from motes.model.certificate import is_pinned
    from motes.model.succession import check_addresses
    from motes.supervisor import succession
    from motes.supervisor.address import choose_http

    home = Home()
    http = choose_http(http)
    state = succession.arrival(home)
    if state.get("stage") != succession.COMMITTED:
        if home.keeper_file.exists() and not is_pinned(home.keeper().certificate):
            raise Refused(_IN_FOREIGN)
        if not home.keeper_file.exists():
            raise Refused(f"{home.path} has joined no cluster; a machine joins first: motes join INVITE")
        asked = Listen(*parse_listen(listen))
        web = Listen(*parse_web(listen_ws)) if listen_ws else None
        found = (*more, *addresses_of(asked), *web_addresses_of(web))
        # This machine's own loopback leads nowhere from another.
        addresses = tuple(each for each in found if asked.host not in ANY_ADDRESS or "127.0.0.1:" not in each)
        check_addresses(addresses)
        _wait_for_the_keeper(home, asked, web, addresses, as_json)
    facts = _become(home, http)
    click.echo(json.dumps({"http": facts["http"]}) if as_json else f"this machine is the keeper now: {facts['http']}")


def _wait_for_the_keeper(
    home: Home, listen: Listen, web: Listen | None, addresses: tuple[str, ...], as_json: bool
) -> None:
    from motes.moving.taking import Taking
    from motes.supervisor import succession

    _forward_no_more(home)
    (host, *_) = home.offers()

    def listening() -> None:
        line = taking.line()
        if as_json:
            click.echo(json.dumps({"host": host, "addresses": addresses, "line": line}))
        else:
            click.echo(f"at {', '.join(addresses)}; on the keeper:\n\nmotes keeper move {host} {line}\n")

    with succession.taking(home):
        taking = Taking(home, host, listen, web, addresses, lambda what: click.echo(what, err=True))
        asyncio.run(taking.serve(listening))


def _forward_no_more(home: Home) -> None:
    """The keeper was here before, and this machine forwards to it at the address that it is to have itself."""
    from motes.supervisor import control, forward

    if not home.moved_file.exists():
        return
    if not forward.read(home).is_done:
        raise Refused("the keeper is on its way from this machine to another; first let it arrive: motes keeper move")
    home.moved_file.unlink()
    deadline = time.monotonic() + READY_TIMEOUT_S
    while time.monotonic() < deadline:
        try:
            processes = control.ask(home, "status", READY_TIMEOUT_S)["processes"]
        except Unavailable:
            return
        if "forward" not in {each["name"] for each in processes}:
            return
        time.sleep(_POLL_S)


def _become(home: Home, http: str) -> dict[str, Any]:
    """Put what came in its place, and start it; the agents of this machine go on."""
    from motes.supervisor import control, founding
    from motes.supervisor.launch import launch, running

    founding.found(home)
    if running(home) is None:
        return launch(home, http).facts
    control.ask(home, "rise", READY_TIMEOUT_S, http=http)
    deadline = time.monotonic() + READY_TIMEOUT_S
    while time.monotonic() < deadline:
        status = control.ask(home, "status", READY_TIMEOUT_S)
        states = {each["name"]: each["state"] for each in status["processes"]}
        if all(states.get(name) == "running" for name in ("nats-server", "controller", "gateway")):
            return status
        time.sleep(_POLL_S)
    raise TimedOut(f"the keeper does not start here; see {home.logs}", timeout_s=READY_TIMEOUT_S)


@command.command()
@click.argument("host")
@click.argument("line", required=False)
@click.option(
    "--forward", "forward_s", type=DURATION_OR_NONE, default="7d", show_default=True, help="How long to forward."
)
@click.option("--json", "as_json", is_flag=True, help="Print an object: host, address, missing.")
def move(host: str, line: str | None, forward_s: float, as_json: bool) -> None:
    """Move the keeper from this machine to HOST, with the LINE that `motes keeper accept` shows there.

    Stored code, logs, events and receipts go first. While the rest moves, about a second, nothing can be deployed;
    calls are interrupted for as long. This machine then lends its hosts to the cluster, keeps its owner's signing key,
    and forwards from its old address. Given again, it says how far it has come.

    \b
    Example:
      motes keeper move server motes-keeper1-...
    """
    from motes.moving.giving import Giving, wait
    from motes.supervisor import forward

    home = Home()
    home.cluster()
    if home.foreign() is not None:
        raise Refused(_IN_FOREIGN)
    if home.moved_file.exists() and home.keeper_file.exists():
        missing = asyncio.run(wait(home, []))
    else:
        home.refuse_joined("give this command there")
        if line is None:
            raise BadInput(f"the line of host {host!r} is missing; it is shown there by: motes keeper accept")
        if home.listen() is None:
            raise Refused("no other machine has joined this cluster")
        giving = Giving(home, host, line, forward_s, lambda what: click.echo(what, err=True))
        missing = asyncio.run(giving.give())
    address = forward.read(home).address
    if as_json:
        click.echo(json.dumps({"host": host, "address": address, "missing": missing}))
        return
    told = f"the keeper is at {address} now; this machine may sleep"
    later = f" (not there yet, and found later: {', '.join(missing)})" if missing else ""
    click.echo(told + later)
