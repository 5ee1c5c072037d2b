"""What makes a machine a cluster's keeper, apart from its streams: keys, certificate and accounts.

The same certificate goes along, so that the fingerprint that every host and invite knows stays the right one. The
owner's signing key does not: it stays where the owner is, and no keeper can forge a release.
"""

from __future__ import annotations

import json
from pathlib import Path

import msgspec

from motes.bus import server, tls
from motes.errors import Refused, Untrusted
from motes.grants import jwt, keys, roles
from motes.home import Home
from motes.supervisor import succession

Accounts = dict[str, str | dict[str, str]]


class Luggage(msgspec.Struct, frozen=True):
    """Every field is known by name: nothing in it says where it is to be written."""

    operator: str
    system: str
    account: str
    controller: str
    """Seeds, in hexadecimal."""
    tls_key: str
    tls_certificate: str
    """PEM."""
    operator_token: str
    system_account: str
    tokens: dict[str, str]
    """By account its newest JWT, with who was removed."""

    def accounts(self) -> Accounts:
        """As motes.bus.server.Accounts takes them."""
        return {"operator": self.operator_token, "system": self.system_account, "tokens": self.tokens}


def pack(home: Home) -> Luggage:
    """A keeper's. Raises Refused where something is missing."""
    try:
        config = json.loads(home.nats_config.read_text())
        tokens = {name: _newest(home.nats_accounts, name, token) for name, token in config["resolver_preload"].items()}
        seeds = {name: home.key(name).read_text().strip() for name in succession.SECRETS}
        return Luggage(
            **seeds,
            tls_key=home.tls_key.read_text(),
            tls_certificate=home.tls_certificate.read_text(),
            operator_token=config["operator"],
            system_account=config["system_account"],
            tokens=tokens,
        )
    except (OSError, ValueError, KeyError) as error:
        raise Refused(f"{home.path} is no keeper's home that others have joined: {error}") from error


def _newest(folder: Path, account: str, preloaded: str) -> str:
    """What nats-server was told last: it has the list of those who were removed."""
    try:
        return (folder / f"{account}.jwt").read_text().strip()
    except FileNotFoundError:
        return preloaded


def check(luggage: Luggage, home: Home) -> None:
    """Raises Untrusted unless it is that of the cluster which this machine has joined."""
    try:
        controller = keys.Key(bytes.fromhex(luggage.controller))
        certificate = tls.fingerprint_of_text(luggage.tls_certificate)
    except ValueError as error:
        raise Untrusted(f"what came is no keeper's: {error}") from error
    if controller.public != keys.load_public(home.public_key("controller")) or certificate != home.keeper().certificate:
        raise Untrusted("what came is another cluster's, not that of the one that this machine has joined")


def unpack(luggage: Luggage, came: Home) -> None:
    """Make `came` a keeper's home, but for most users, which get new keys at its start. Raises Unavailable."""
    came.create()
    for name in succession.SECRETS:
        came.write_text(came.key(name), getattr(luggage, name))
    came.write_text(came.tls_key, luggage.tls_key)
    came.write_text(came.tls_certificate, luggage.tls_certificate)
    came.save_credentials(jwt.credentials(keys.load_or_create(came.key("account")), roles.KEEPER))
    server.write_config(came, server.Accounts(luggage.operator_token, luggage.system_account, luggage.tokens))
