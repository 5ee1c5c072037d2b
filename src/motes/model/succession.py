"""A cluster's keeper moves to another machine: what is signed on the way.

The line that `motes keeper accept` prints says where that machine waits, and is signed by the host that it is. The
controller's key signs the orders that it then obeys, and the notice from which hosts learn where the keeper is, and
programs on other machines, which ask for it with the verb `where` and the number of the newest that they know.
"""

from __future__ import annotations

import base64
from typing import Annotated

import msgspec

from motes.errors import BadInput
from motes.model.bounds import Epoch
from motes.model.invite import LONGEST_ADDRESS, MOST_ADDRESSES, is_address
from motes.model.release import Signed

LINE_PREFIX = "motes-keeper1-"
GREETING = b"MOTES KEEPER 1\r\n"
"""What a machine says first that waits to become the keeper; where a keeper is, nats-server says `INFO`."""
SESSION_BYTES = 16

Addresses = Annotated[
    tuple[Annotated[str, msgspec.Meta(max_length=LONGEST_ADDRESS)], ...],
    msgspec.Meta(min_length=1, max_length=MOST_ADDRESSES),
]
"""`HOST:PORT`, the likeliest first."""


class Willing(msgspec.Struct, frozen=True):
    """This host waits at these addresses to become the keeper, behind a certificate with this SHA-256."""

    host: str
    addresses: Addresses
    certificate: bytes
    session: bytes
    """New for each time that a machine is willing, so that orders of an earlier time are none."""


class Order(msgspec.Struct, frozen=True):
    """The keeper's word to a host that is willing: `take` what follows, or `commit`, be the keeper from now on."""

    do: str
    host: str
    certificate: bytes
    session: bytes
    attempt: bytes
    """New for each `take`: a `commit` is of what came by this one."""
    wire: int


class Notice(msgspec.Struct, frozen=True):
    """Where the keeper is from now on; of two the one with the higher number counts."""

    addresses: Addresses
    certificate: bytes
    serial: Epoch


class AskSuccessor(msgspec.Struct, frozen=True):
    """`successor`: the keeper is to move to `host`; answers a Successor.

    `own` are the hosts of the keeper's own machine, by name their NATS user's key: members like others from then on.
    """

    host: str
    own: dict[str, bytes]


class Successor(msgspec.Struct, frozen=True):
    """The NATS user's key of that host, this controller's generation, and which hosts are up."""

    public: bytes
    generation: int
    hosts: list[str]


def line(signed: Signed) -> str:
    """To be pasted on the keeper."""
    return LINE_PREFIX + base64.urlsafe_b64encode(msgspec.msgpack.encode(signed)).decode().rstrip("=")


def parse_line(text: str) -> Signed:
    """The other way. Raises BadInput for one that was cut short or altered so that it cannot be read."""
    encoded = "".join(text.split())
    if not encoded.startswith(LINE_PREFIX):
        raise BadInput(f"that is no line of `motes keeper accept`: it begins with {LINE_PREFIX!r}")
    encoded = encoded.removeprefix(LINE_PREFIX)
    try:
        data = base64.b64decode(encoded + "=" * (-len(encoded) % 4), altchars=b"-_", validate=True)
        return msgspec.msgpack.decode(data, type=Signed)
    except (ValueError, msgspec.DecodeError):
        raise BadInput("the line was cut short; paste the whole of what `motes keeper accept` printed") from None


def check_addresses(addresses: tuple[str, ...]) -> None:
    """Raises BadInput where one of them is none."""
    if wrong := [each for each in addresses if not is_address(each)]:
        raise BadInput(f"{wrong[0][:80]!r} is no address; write it like keeper.example:7423")
