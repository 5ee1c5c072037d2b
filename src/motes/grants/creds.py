"""A `.creds` file: what NATS clients take, and beside it what a client on another machine needs to find the keeper.

A NATS client reads the first two blocks and passes over the others:
    NATS USER JWT, USER NKEY SEED    the user's token and its key
    MOTES KEEPER                     the keeper's addresses, by what its certificate is known (motes.model.certificate),
                                     its controller's public key
    MOTES OWNER KEY                  the secret that signs what runs; only in the owner's own file
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from typing import NamedTuple

from motes.errors import BadInput
from motes.grants.jwt import creds_text
from motes.grants.keys import KEY_BYTES
from motes.model.certificate import is_known
from motes.model.credentials import Credentials
from motes.model.invite import MOST_ADDRESSES, is_address
from motes.model.names import is_name

MOST_BYTES = 64 * 2**10
_MARK = re.compile(r"-{3,}(BEGIN|END) ([A-Z ]+)-{3,}")
_MEND = "make another on the keeper: motes creds"


class Creds(NamedTuple):
    """What such a file says."""

    credentials: Credentials
    addresses: tuple[str, ...] = ()
    """`HOST:PORT` of the keeper; none where it listens for nobody."""
    certificate: bytes = b""
    controller: bytes = b""
    """The key with which receipts are checked."""
    owner: bytes = b""

    def __repr__(self) -> str:
        """Without the secrets, so that no log line or traceback holds them."""
        return f"Creds({self.credentials!r}, {self.addresses!r})"

    def text(self) -> str:
        found = creds_text(self.credentials)
        if self.addresses:
            keys = {"certificate": self.certificate.hex(), "controller": self.controller.hex()}
            found += _block("MOTES KEEPER", json.dumps({"addresses": self.addresses, **keys}))
        return found + (_block("MOTES OWNER KEY", self.owner.hex()) if self.owner else "")


def parse(text: str) -> Creds:
    """Raises BadInput for what is no such file, and for names, keys and addresses that cannot be such."""
    blocks = _blocks(text[:MOST_BYTES])
    try:
        jwt, seed = blocks["NATS USER JWT"], blocks["USER NKEY SEED"]
        credentials = Credentials(_user(jwt), jwt, seed)
        if not is_name(credentials.user) or len(credentials.secret) != KEY_BYTES:
            raise ValueError("no name, or no key")
        keeper = json.loads(blocks.get("MOTES KEEPER", "{}"))
        addresses = tuple(map(str, keeper.get("addresses", ())))
        certificate = bytes.fromhex(keeper.get("certificate", ""))
        controller = bytes.fromhex(keeper.get("controller", ""))
        owner = bytes.fromhex(blocks.get("MOTES OWNER KEY", ""))
    except (ValueError, KeyError, TypeError, AttributeError, binascii.Error) as error:
        raise BadInput(f"that is no file of credentials ({error}); {_MEND}") from None
    if len(addresses) > MOST_ADDRESSES or not all(map(is_address, addresses)):
        raise BadInput(f"the file of credentials names addresses that are none; {_MEND}")
    if not (certificate == b"" or is_known(certificate)) or not {len(controller), len(owner)} <= {0, KEY_BYTES}:
        raise BadInput(f"the file of credentials holds a key or a fingerprint of a wrong length; {_MEND}")
    return Creds(credentials, addresses, certificate, controller, owner)


def _blocks(text: str) -> dict[str, str]:
    """What stands between the marks, by name. Line by line: the file may be anybody's, and no search may take long."""
    found: dict[str, str] = {}
    name, lines = "", list[str]()
    for line in text.splitlines():
        mark = _MARK.fullmatch(line.strip())
        if mark is None:
            lines.append(line)
        elif mark[1] == "BEGIN":
            name, lines = mark[2], []
        elif mark[2] == name:
            found[name] = "\n".join(lines).strip()
    return found


def _user(jwt: str) -> str:
    """The name that the token is for, as far as it says so; nats-server checks it."""
    body = jwt.split(".")[1]
    return str(json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))["name"])


def _block(name: str, content: str) -> str:
    return f"\n-----BEGIN {name}-----\n{content}\n------END {name}------\n"
