"""Whose a call is, as far as nats-server vouches for it. Functions with `reuse="caller"` keep callers apart by this.

(user, on_behalf)                a call from outside: the user that published it, by the last token of its subject, and
                                 for whom that user says that it calls; the words are its own, within its own name
(user, on_behalf, "app.f", ...)  a call that `app.f` made while it worked on such a call, and so on, inwards
()                               nobody: such a call shares its instance with no other
"""

from __future__ import annotations

import hashlib

import msgspec

from motes.errors import BadInput
from motes.model.names import GATEWAY

Caller = tuple[str, ...]
NOBODY: Caller = ()
ON_BEHALF_LIMIT = 128
NAME_LIMIT = 64


def caller_of(user: str, on_behalf: str) -> Caller:
    """Who calls from outside. The gateway calls for many: what it calls for nobody in particular is nobody's."""
    return NOBODY if user == GATEWAY and not on_behalf else (user, on_behalf)


def through(caller: Caller, address: str) -> Caller:
    """Who calls when the function at `address` makes a call for `caller`: neither of the two alone."""
    return (*caller, address) if caller else NOBODY


def digest(caller: Caller) -> str:
    """32 hexadecimal digits that stand for a caller where there is little room; empty for nobody."""
    return hashlib.blake2b(msgspec.msgpack.encode(caller), digest_size=16).hexdigest() if caller else ""


def told_by_host(host: str, claim: str) -> str:
    """For whom the gateway calls when a host asks it to: as that host says, and never as anybody outside it."""
    return f"host/{host}/{claim[:32]}" if claim else ""


def told_over_http(name: str) -> str:
    """The same for a request over HTTP that names its caller."""
    return f"http/{name}"


def told_over_nats(user: str) -> str:
    """The same for a NATS client that calls `fn.<app>.<function>.<user>`."""
    return f"nats/{user}"


def checked_name(name: str) -> str:
    """A name that somebody gives a caller of theirs. Raises BadInput."""
    if not 1 <= len(name) <= NAME_LIMIT or not all("!" <= letter <= "~" for letter in name):
        raise BadInput(f"a caller's name has 1 to {NAME_LIMIT} visible ASCII characters, and no space")
    return name
