"""`motes invite`: one line that lets another machine join this cluster."""

from __future__ import annotations

import ipaddress
import json
import shutil
import socket
import struct
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from motes.cli.amounts import DURATION
from motes.cli.session import with_cluster
from motes.errors import BadInput, Refused
from motes.home import ANY_ADDRESS, Home, Keeper, Listen, addresses_in

if TYPE_CHECKING:
    from motes.client.cluster import Cluster
    from motes.model.invite import Invite

_GET_ADDRESS = 0x8915  # SIOCGIFADDR
_INTERFACES = Path("/proc/net/if_inet6")
_GLOBAL, _PASSING, _UNUSABLE = 0x00, 0x01, 0x08 | 0x20 | 0x40
"""A scope, and flags of addresses: temporary; a duplicate, out of date, and not yet known to be free."""


@click.command(short_help="Let another machine join this cluster.")
@click.option("--expires", type=DURATION, default="1h", show_default=True, help="How long it is good for.")
@click.option(
    "--uses", default=1, show_default=True, type=click.IntRange(1), help="How many machines may join with it."
)
@click.option("--address", "more", multiple=True, metavar="HOST:PORT", help="One more address of this keeper.")
@click.option("--json", "as_json", is_flag=True, help="Print an object: invite, addresses, expires_at, uses.")
def command(expires: float, uses: int, more: tuple[str, ...], as_json: bool) -> None:
    """Print one line with which another machine joins: motes join LINE

    Whoever has the line may lend a machine to this cluster, and sees what runs on that machine.

    \b
    Example:
      motes invite --expires 15m
    """
    from motes.model.invite import MOST_ADDRESSES, WEB_SCHEME, is_address

    listed, certificate = way_in(Home())
    if wrong := [each for each in more if not is_address(each)]:
        like = f"keeper.example:{listed[0].rpartition(':')[2]}"
        raise BadInput(f"--address {wrong[0][:80]!r} is no address; write it like {like} or {WEB_SCHEME}{like}")
    addresses = tuple(dict.fromkeys((*more, *listed)))[:MOST_ADDRESSES]
    invite = with_cluster(lambda cluster: invited(cluster, addresses, certificate, expires, uses))
    told = {"invite": invite.line(), "addresses": addresses, "expires_at": invite.expires_at, "uses": uses}
    if as_json:
        click.echo(json.dumps(told))
        return
    until = time.strftime("%Y-%m-%d %H:%M", time.localtime(invite.expires_at))
    machines = "one machine" if uses == 1 else f"{uses} machines"
    click.echo(f"on the other machine, until {until}, for {machines}, at {', '.join(addresses)}:\n")
    click.echo(f"motes join {invite.line()}")
    if sys.stdout.isatty():
        show(invite.line(), shutil.get_terminal_size().columns)


async def invited(
    cluster: Cluster, addresses: tuple[str, ...], certificate: bytes, expires_s: float, uses: int
) -> Invite:
    """An invite that the keeper makes. Raises BadInput and Refused."""
    from motes.model.invite import Invite
    from motes.model.keeper import AskInvite, Invited

    made = await cluster.ask("invite", AskInvite(expires_s, uses), Invited)
    return Invite(
        addresses,
        certificate,
        made.account,
        made.secret,
        made.issued_at,
        made.expires_at,
        made.signature,
        made.issuer,
    )


def way_in(home: Home) -> tuple[tuple[str, ...], bytes]:
    """The keeper's addresses, and its certificate's fingerprint. Raises Refused where it listens for nobody."""
    from motes.bus import tls

    home.cluster()
    if home.client_file.exists():
        return _way_to(home.keeper())
    home.refuse_joined("invites and keys are made there")
    if home.foreign() is not None:
        return _way_to(home.keeper())
    listen = home.listen()
    if listen is None:
        raise Refused("no other machine can reach this cluster; start it so: motes up --listen 0.0.0.0")
    own = (*addresses_of(listen), *web_addresses_of(home.listen_web()))
    likely = sorted(own, key=lambda each: "127.0.0.1:" in each)
    return tuple(dict.fromkeys((*home.moved_to(), *likely))), tls.fingerprint_of(home.tls_certificate)


def _way_to(keeper: Keeper) -> tuple[tuple[str, ...], bytes]:
    if not keeper.certificate:
        raise Refused(
            f"no other machine can reach the NATS at {keeper.servers}; have it listen for others with TLS, and say it"
            " anew: motes up --nats tls://HOST:PORT --creds FILE"
        )
    from motes.model.invite import MOST_ADDRESSES

    # It keeps more of them, of keepers that have moved often, than fit in what others are given.
    return addresses_in(keeper.servers)[:MOST_ADDRESSES], keeper.certificate


def show(line: str, columns: int) -> None:
    """The line as a picture, for a telephone; or why there is none."""
    if drawn := picture(line, columns):
        click.echo(f"\n{drawn}", nl=False)
    else:
        click.echo("no QR code: the line is too long for this terminal", err=True)


def picture(line: str, columns: int) -> str:
    """The line as a QR code in half blocks; nothing where it is too much for one, or for the terminal's columns."""
    import io

    import segno

    try:
        code = segno.make(line, error="l", micro=False)
    except segno.DataOverflowError:
        return ""  # It carries the certificates of authorities.
    drawn = io.StringIO()
    code.terminal(drawn, border=2, compact=True)
    return drawn.getvalue() if code.symbol_size(border=2)[0] <= columns else ""


def addresses_of(listen: Listen) -> tuple[str, ...]:
    """Where another machine may find this one: `HOST:PORT`, the loopback last."""
    if listen.host not in ANY_ADDRESS:
        return (f"{listen.host}:{listen.port}",)
    found = [address for _, name in socket.if_nameindex() if (address := _address_of(name))]
    outside = [each for each in found if not each.startswith("127.")]
    # Who listens on every IPv6 address listens on every other as well.
    listens_to_all = listen.host != "0.0.0.0" and _INTERFACES.exists()
    sixth = [f"[{each}]" for each in ipv6_addresses(_INTERFACES.read_text())] if listens_to_all else []
    return tuple(f"{each}:{listen.port}" for each in (*outside, *sixth, "127.0.0.1"))


def ipv6_addresses(table: str) -> list[str]:
    """Of a table like /proc/net/if_inet6, the addresses at which others find this machine; those that last come first.

    Not those of one link: they mean nothing without the name that the other machine gives its end of it.
    """
    found: list[tuple[int, str]] = []
    for line in table.splitlines():
        digits, _, _, scope, flags, _ = line.split()
        if int(scope, 16) == _GLOBAL and not int(flags, 16) & _UNUSABLE:
            found.append((int(flags, 16) & _PASSING, str(ipaddress.IPv6Address(bytes.fromhex(digits)))))
    return [address for _, address in sorted(found, key=lambda each: each[0])]


def web_addresses_of(listen: Listen | None) -> tuple[str, ...]:
    """The same over WebSocket, `wss://HOST:PORT`."""
    return () if listen is None else tuple(f"wss://{each}" for each in addresses_of(listen))


def _address_of(interface: str) -> str:
    import fcntl  # Not there on every system; nor are keepers.

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        try:
            answer = fcntl.ioctl(asking, _GET_ADDRESS, struct.pack("256s", interface.encode()[:15]))
        except OSError:
            return ""
    return socket.inet_ntoa(answer[20:24])
