"""One line that lets a machine join: where the keeper is, how it is recognised, and a key that is good for a while.

Stdlib only. The line is `motes1-` and, in base64, fields of 4 bytes each way or of known size; nothing in it is secret
but the key, and that is worthless once it was used or the time is over. Where the cluster lives in a NATS that somebody
else runs, it is `motes2-`: behind the signature who signed, and with its length by what the server is known.
"""

from __future__ import annotations

import base64
import binascii
import re
import struct
from typing import NamedTuple

from motes.errors import BadInput
from motes.model.certificate import FINGERPRINT_BYTES, is_known

PREFIX = "motes1-"
FOREIGN_PREFIX = "motes2-"
WEB_SCHEME = "wss://"
MOST_ADDRESSES = 32
LONGEST_ADDRESS = 255
_KEY_BYTES, _SIGNATURE_BYTES, _CHECK_BYTES, _LENGTH_BYTES = 32, 64, 4, 2
_HOST = re.compile(r"[0-9A-Za-z._-]+|\[[0-9A-Fa-f:.]+(%[0-9A-Za-z._-]+)?\]")
_TIMES = struct.Struct(">II")


class Invite(NamedTuple):
    """What the line says."""

    addresses: tuple[str, ...]
    """`HOST:PORT`, the likeliest first."""
    certificate: bytes
    """By what the certificate is known that the server shows; see motes.model.certificate."""
    account: bytes
    """The public key of the cluster's account, which signed the guest's token."""
    secret: bytes
    """The guest's own key."""
    issued_at: int
    expires_at: int
    """Unix times, seconds."""
    signature: bytes
    """Over the guest's token (motes.grants.jwt)."""
    issuer: bytes = b""
    """The public key that made it; empty where that is the account's own."""

    def line(self) -> str:
        """To be pasted."""
        listed = b"".join(bytes((len(each),)) + each for each in map(str.encode, self.addresses))
        fixed = self.account + self.secret + _TIMES.pack(self.issued_at, self.expires_at)
        is_foreign = bool(self.issuer) or len(self.certificate) != FINGERPRINT_BYTES
        if is_foreign:
            known = len(self.certificate).to_bytes(_LENGTH_BYTES) + self.certificate
            data = fixed + self.signature + (self.issuer or self.account) + known + listed
        else:
            data = self.certificate + fixed + self.signature + listed
        checked = data + binascii.crc32(data).to_bytes(_CHECK_BYTES)
        prefix = FOREIGN_PREFIX if is_foreign else PREFIX
        return prefix + base64.urlsafe_b64encode(checked).decode().rstrip("=")


def parse(line: str) -> Invite:
    """The Invite in a line that `motes invite` printed. Raises BadInput for one that was cut short or altered."""
    text = "".join(line.split())
    if not text.startswith((PREFIX, FOREIGN_PREFIX)):
        raise BadInput(f"that is no invite: it begins with {PREFIX!r} (make one where the keeper runs: motes invite)")
    encoded = text[len(PREFIX) :]
    try:
        data = base64.b64decode(encoded + "=" * (-len(encoded) % 4), altchars=b"-_", validate=True)
    except ValueError:
        data = b""
    body, check = data[:-_CHECK_BYTES], data[-_CHECK_BYTES:]
    if not body or binascii.crc32(body).to_bytes(_CHECK_BYTES) != check:
        raise BadInput("the invite was cut short or altered; paste the whole line that `motes invite` printed")
    return _fields(body, is_foreign=text.startswith(FOREIGN_PREFIX))


def is_address(text: str) -> bool:
    """Whether this may be `HOST:PORT`, an IPv6 address in brackets; or the same of a WebSocket, `wss://HOST:PORT`."""
    host, _, port = text.removeprefix(WEB_SCHEME).rpartition(":")
    is_short = 0 < len(text) <= LONGEST_ADDRESS and port.isascii() and port.isdigit() and 0 < int(port) < 65536
    return is_short and _HOST.fullmatch(host) is not None


class _Fields:
    """What is still to be read of a line."""

    def __init__(self, body: bytes) -> None:
        self._rest = body
        self.is_short = False

    def take(self, size: int) -> bytes:
        found, self._rest = self._rest[:size], self._rest[size:]
        self.is_short = self.is_short or len(found) < size
        return found

    def __bool__(self) -> bool:
        return bool(self._rest)


def _fields(body: bytes, is_foreign: bool) -> Invite:
    fields = _Fields(body)
    certificate = b"" if is_foreign else fields.take(FINGERPRINT_BYTES)
    account, secret, times, signature = map(fields.take, (_KEY_BYTES, _KEY_BYTES, _TIMES.size, _SIGNATURE_BYTES))
    issuer = b""
    if is_foreign:
        issuer = fields.take(_KEY_BYTES)
        certificate = fields.take(int.from_bytes(fields.take(_LENGTH_BYTES)))
    addresses = []
    while fields:
        addresses.append(fields.take(fields.take(1)[0]).decode(errors="replace"))
    if fields.is_short or not addresses or not is_known(certificate):
        raise BadInput("the invite names no address, or nothing to know the keeper by; make another: motes invite")
    if len(addresses) > MOST_ADDRESSES or not all(map(is_address, addresses)):
        raise BadInput("the invite names addresses that are none; make another: motes invite")
    issued_at, expires_at = _TIMES.unpack(times)
    issuer = b"" if issuer == account else issuer
    return Invite(tuple(addresses), certificate, account, secret, issued_at, expires_at, signature, issuer)
