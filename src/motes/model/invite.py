"""One line that lets a machine join: where the keeper is, how it is recognised, and a key that is good for a while.

Stdlib only. The line is `motes1-` and, in base64, fields of 4 bytes each way or of known size; nothing in it is secret
but the key, and that is worthless once it was used or the time is over.
"""

from __future__ import annotations

import base64
import binascii
import re
import struct
from typing import NamedTuple

from motes.errors import BadInput

PREFIX = "motes1-"
WEB_SCHEME = "wss://"
MOST_ADDRESSES = 32
LONGEST_ADDRESS = 255
_KEY_BYTES, _SIGNATURE_BYTES, _CHECK_BYTES = 32, 64, 4
_HOST = re.compile(r"[0-9A-Za-z._-]+|\[[0-9A-Fa-f:.]+(%[0-9A-Za-z._-]+)?\]")
_TIMES = struct.Struct(">II")


class Invite(NamedTuple):
    """What the line says."""

    addresses: tuple[str, ...]
    """`HOST:PORT`, the likeliest first."""
    certificate: bytes
    """SHA-256 of the certificate that the keeper's server shows."""
    account: bytes
    """The public key of the cluster's account, which signed the guest's token."""
    secret: bytes
    """The guest's own key."""
    issued_at: int
    expires_at: int
    """Unix times, seconds."""
    signature: bytes
    """The account's, over the guest's token (motes.grants.jwt)."""

    def line(self) -> str:
        """To be pasted."""
        listed = b"".join(bytes((len(each),)) + each for each in map(str.encode, self.addresses))
        fixed = self.certificate + self.account + self.secret + _TIMES.pack(self.issued_at, self.expires_at)
        data = fixed + self.signature + listed
        checked = data + binascii.crc32(data).to_bytes(_CHECK_BYTES)
        return PREFIX + base64.urlsafe_b64encode(checked).decode().rstrip("=")


def parse(line: str) -> Invite:
    """The Invite in a line that `motes invite` printed. Raises BadInput for one that was cut short or altered."""
    text = "".join(line.split())
    if not text.startswith(PREFIX):
        raise BadInput(f"that is no invite: it begins with {PREFIX!r} (make one where the keeper runs: motes invite)")
    encoded = text.removeprefix(PREFIX)
    try:
        data = base64.b64decode(encoded + "=" * (-len(encoded) % 4), altchars=b"-_", validate=True)
    except ValueError:
        data = b""
    body, check = data[:-_CHECK_BYTES], data[-_CHECK_BYTES:]
    if not body or binascii.crc32(body).to_bytes(_CHECK_BYTES) != check:
        raise BadInput("the invite was cut short or altered; paste the whole line that `motes invite` printed")
    return _fields(body)


def is_address(text: str) -> bool:
    """Whether this may be `HOST:PORT`, an IPv6 address in brackets; or the same of a WebSocket, `wss://HOST:PORT`."""
    host, _, port = text.removeprefix(WEB_SCHEME).rpartition(":")
    is_short = 0 < len(text) <= LONGEST_ADDRESS and port.isascii() and port.isdigit() and 0 < int(port) < 65536
    return is_short and _HOST.fullmatch(host) is not None


def _fields(body: bytes) -> Invite:
    sizes = (_KEY_BYTES, _KEY_BYTES, _KEY_BYTES, _TIMES.size, _SIGNATURE_BYTES)
    parts, at = [], 0
    for size in sizes:
        parts.append(body[at : at + size])
        at += size
    certificate, account, secret, times, signature = parts
    addresses = []
    while at < len(body):
        size = body[at]
        addresses.append(body[at + 1 : at + 1 + size].decode(errors="replace"))
        at += 1 + size
    if at != len(body) or not addresses:
        raise BadInput("the invite names no address; make another: motes invite")
    if len(addresses) > MOST_ADDRESSES or not all(map(is_address, addresses)):
        raise BadInput("the invite names addresses that are none; make another: motes invite")
    issued_at, expires_at = _TIMES.unpack(times)
    return Invite(tuple(addresses), certificate, account, secret, issued_at, expires_at, signature)
