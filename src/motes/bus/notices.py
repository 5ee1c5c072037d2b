"""What the server itself says, on `$SYS.ACCOUNT.<account>.DISCONNECT`: a connection has ended, or begun."""

from __future__ import annotations

import base64
import json


def disconnects(account: str) -> str:
    """Where the ends of this account's connections are told.

    Of no other: who was not let in shows there as a user of `$G`, under any name that it cares to give itself.
    """
    return f"$SYS.ACCOUNT.{account}.DISCONNECT"


def connects(account: str) -> str:
    """Where the beginnings of this account's connections are told."""
    return f"$SYS.ACCOUNT.{account}.CONNECT"


def ended_connection(notice: bytes) -> int:
    """The number of the connection that has ended, as the server told it to that client; 0 when it is not said."""
    try:
        return int(json.loads(notice)["client"]["id"])
    except (ValueError, LookupError, TypeError):
        return 0


def user_in(notice: bytes) -> str:
    """Whose connection it is: the name in its JWT, or empty when it was no user's.

    The notice's own `name` is whatever the client called itself, and `name_tag` is the account's name.
    """
    try:
        claims = json.loads(notice)["client"]["jwt"].split(".")[1]
        return str(json.loads(base64.urlsafe_b64decode(claims + "=" * (-len(claims) % 4)))["name"])
    except (ValueError, LookupError, TypeError, AttributeError):
        return ""
