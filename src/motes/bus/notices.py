"""What the servers say of connections in their own account, and the words by which they list and end them.

From nats-server's server/events.go and monitor.go. A user is known by its JWT alone: `user`, `authorized_user` and
`name` are what the client cares to call itself, also where the server lets it in by its JWT.
"""

from __future__ import annotations

import base64
import datetime
from typing import NamedTuple

import msgspec

LIST = "$SYS.REQ.SERVER.PING.CONNZ"
"""Each server answers with its own connections."""

_EARLIEST = datetime.datetime.min.replace(tzinfo=datetime.UTC)


def disconnects(account: str) -> str:
    """Where the ends of this account's connections are told.

    Of no other: who was not let in shows there as a user of `$G`, under any name that it cares to give itself.
    """
    return f"$SYS.ACCOUNT.{account}.DISCONNECT"


def connects(account: str) -> str:
    """Where the beginnings of this account's connections are told."""
    return f"$SYS.ACCOUNT.{account}.CONNECT"


def kick(server: str) -> str:
    """By what a server is asked to end a connection. It does nothing where no answer is asked for."""
    return f"$SYS.REQ.SERVER.{server}.KICK"


class Session(NamedTuple):
    """One connection of a user. All of it is the server's word, or signed by who issued the user."""

    server: str
    """The server's id."""
    number: int
    """What that server calls it, and tells its client; 0 when it is not said."""
    began_at: datetime.datetime
    user: str
    """The name in its JWT; empty when it is no user's."""
    key: str = ""
    """The user's public key, as NATS writes it."""
    issued_at: int = 0
    """When its JWT was made, Unix time in seconds."""


def told(notice: bytes) -> Session:
    """Whose connection has begun or ended; what it does not say is empty."""
    try:
        found = _notice.decode(notice)
    except msgspec.DecodeError:
        return Session("", 0, _EARLIEST, "")
    return _session(found.server.id, found.client)


def question(account: str, limit: int, offset: int) -> bytes:
    """For LIST: at each server `limit` of this account's connections, the oldest first, after `offset` others."""
    return msgspec.json.encode({"acc": account, "auth": True, "limit": limit, "offset": offset})


def listed(answer: bytes) -> tuple[str, list[Session]]:
    """The id of the server that answers, and what it lists. Raises msgspec.DecodeError."""
    found = _list.decode(answer)
    return found.server.id, [_session(found.server.id, each) for each in found.data.connections or ()]


class _Client(msgspec.Struct):
    id: int = 0
    cid: int = 0
    """The same in a list."""
    start: datetime.datetime = _EARLIEST
    jwt: str = ""


class _Server(msgspec.Struct):
    id: str


class _Notice(msgspec.Struct):
    server: _Server
    client: _Client


class _Page(msgspec.Struct):
    connections: list[_Client] | None = None


class _List(msgspec.Struct):
    server: _Server
    data: _Page


class _Claims(msgspec.Struct):
    name: str = ""
    sub: str = ""
    iat: int = 0


_notice = msgspec.json.Decoder(_Notice)
_list = msgspec.json.Decoder(_List)
_claims = msgspec.json.Decoder(_Claims)


def _session(server: str, client: _Client) -> Session:
    number, claims = client.id or client.cid, _Claims()
    try:
        body = client.jwt.split(".")[1]
        claims = _claims.decode(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
    except (ValueError, LookupError):  # A msgspec.DecodeError is a ValueError.
        pass
    return Session(server, number, client.start, claims.name, claims.sub, claims.iat)
