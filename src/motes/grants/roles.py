"""Which subjects each user of the cluster may use; NATS enforces it.

Hosts and callers hold no `$JS.API` subject at all: a server does not check reply subjects, so a host with a mere read
permission could have the server deliver bytes of its choice to another host's subject.
Who must answer requests may publish to inboxes, and only there: the server's own way, a permission for the reply
subject of each message that arrives, would let any caller choose a subject that the host may then publish to. An inbox
is reached only by who was told its last words, which nobody can guess.
The subject of a call ends with who makes it, and a user may publish only what ends with its own name: so an agent knows
callers. What cancels a call, or takes items of its stream, names it by an id that only its sender and its host know.
"""

from __future__ import annotations

import base64
import json
from typing import Any, NamedTuple

from motes.errors import BadInput
from motes.model import names
from motes.model.names import HOST_PREFIX, OWN_USER
from motes.model.naming import as_name

ANSWERS = ("_INBOX.*.*.call.*", "_INBOX.*.*.request.*")
"""Where routers and connections of Motes wait for answers."""

GUEST_DIGITS = 16
"""Of a guest's public key, in its name."""
NO_LIMIT = -1
GUEST_PAYLOAD_BYTES = 1024
"""Nobody knows whom an invite has reached: it may say who it is, and not much more."""
MOST_HEARD_BY_GUEST, MOST_HEARD_BY_PROGRAM, MOST_HEARD_BY_CALLER = 4, 64, 1_000
"""Subscriptions of one connection; a NATS client of some languages has one for each request under way."""
_DISCOVERY = tuple(f"$SRV.{verb}{more}" for verb in ("PING", "INFO", "STATS") for more in ("", ".*", ".*.*"))
"""How NATS clients find services and ask about them."""
_REPORTS = ("report.*.event", "report.*.log.>")
_RELAYED = ("relay.*.call.*.*", "relay.*.cancel", "relay.*.more", "relay.*.await")


class Role(NamedTuple):
    """A user, its permissions and its limits."""

    user: str
    publish: tuple[str, ...]
    subscribe: tuple[str, ...]
    subscriptions: int = NO_LIMIT
    """The most that one connection has at a time."""
    payload_bytes: int = NO_LIMIT
    """The most in one message; without a limit it is the server's."""

    def claims(self) -> dict[str, Any]:
        """What its NATS token says of its rights (github.com/nats-io/jwt/v2). How many bytes it sends nothing limits:
        NATS has a field for that, `data`, and enforces nothing by it."""
        return {
            "type": "user",
            "version": 2,
            "pub": _allow(self.publish),
            "sub": _allow(self.subscribe),
            "subs": self.subscriptions,
            "data": NO_LIMIT,
            "payload": self.payload_bytes,
            # Not as a leaf node, which would speak for others, should the server ever listen for some.
            "allowed_connection_types": ["STANDARD", "WEBSOCKET"],
        }

    def is_in(self, token: str) -> bool:
        """Whether a token says just this of its user's rights. It is not checked who signed it."""
        try:
            said = json.loads(base64.urlsafe_b64decode(token.split(".")[1] + "=="))["nats"]
            return bool({key: said[key] for key in self.claims()} == self.claims())
        except (ValueError, LookupError, TypeError):
            return False


def host(name: str) -> Role:
    """The agent of host `name`: it hears only its own subjects and speaks only in its own name."""
    user = HOST_PREFIX + as_name(name)
    if name == KEEPER.user:
        raise BadInput(f"{name!r} is the controller's own name; choose another for the host")
    return Role(
        user,
        publish=(f"beat.{name}", f"report.{name}.>", f"relay.{name}.>", f"keeper.{user}.*", *ANSWERS),
        subscribe=(f"host.{name}.>", f"_INBOX.{user}.>"),
        subscriptions=MOST_HEARD_BY_PROGRAM,
    )


def caller(user: str) -> Role:
    """Somebody who calls, and asks the controller in its own name.

    The machine's owner also asks hosts what runs there, and hears what is reported.
    """
    programs = (KEEPER.user, SYSTEM.user, GATEWAY.user, ANSWERING.user, STREAMING.user)
    if user in programs or user.startswith((HOST_PREFIX, names.GUEST_PREFIX)):
        raise BadInput(f"{user!r} is the cluster's own name for a program; choose another")
    role = _caller(as_name(user))
    return _looking(role)._replace(subscribe=(*role.subscribe, *_REPORTS)) if user == OWN_USER else role


def named_caller(user: str) -> Role:
    """The same where NATS goes on letting in who was withdrawn: all that he may say has his name, so all is refused."""
    role = caller(user)
    return role._replace(publish=tuple(subject for subject in role.publish if subject != "fn.*.*"))


def _caller(user: str) -> Role:
    return Role(
        user,
        publish=(
            f"host.*.call.*.*.{user}",
            "host.*.cancel",
            "host.*.more",
            f"keeper.{user}.*",
            "fn.*.*",
            f"fn.*.*.{user}",
            *_DISCOVERY,
        ),
        subscribe=(
            f"_INBOX.{user}.>",
            "beat.*",
            "gone.*",
            "route.*",
        ),
        subscriptions=MOST_HEARD_BY_CALLER,
    )


def _looking(role: Role) -> Role:
    """The same, who may ask hosts as well what of all apps runs there."""
    return role._replace(publish=(*role.publish, "host.*.ps"))


def guest(public: bytes) -> Role:
    """The bearer of an invite, whose key is `public`: it may ask to be admitted, and nothing else."""
    user = names.GUEST_PREFIX + public.hex()[:GUEST_DIGITS]
    return Role(
        user,
        publish=(f"keeper.{user}.join",),
        subscribe=(f"_INBOX.{user}.>",),
        subscriptions=MOST_HEARD_BY_GUEST,
        payload_bytes=GUEST_PAYLOAD_BYTES,
    )


GATEWAY = _looking(_caller(names.GATEWAY))
"""The gateway where it calls."""

ANSWERING = Role(
    names.GATEWAY_ANSWERS,
    publish=("_INBOX.*.*.>",),
    subscribe=("fn.*.*", "fn.*.*.*", *_RELAYED, "$SRV.>", "shut", f"_INBOX.{names.GATEWAY_ANSWERS}.>"),
    subscriptions=MOST_HEARD_BY_PROGRAM,
)
"""The gateway where it answers `fn.<app>.<function>`, the services protocol and hosts' functions. Whoever asks names
the subject of the answer, so this user may call nobody. And it has a connection of its own: who floods it reaches no
call over HTTP."""

STREAMING = Role(
    names.GATEWAY_STREAMS,
    publish=("host.*.open", "host.*.stream.*"),
    subscribe=("relay.*.stream.*", "gone.*", f"_INBOX.{names.GATEWAY_STREAMS}.>"),
    subscriptions=MOST_HEARD_BY_PROGRAM,
)
"""The gateway where it connects to daemons on other machines: nobody else may open a connection, or put in a word. What
goes through is much, and has a connection of its own: calls wait for none of it."""

KEEPER = Role(names.KEEPER, publish=(">",), subscribe=(">",))
"""The controller: everything in the cluster's account, and nothing outside it."""

SYSTEM = Role(
    "system",
    publish=("$SYS.REQ.CLAIMS.UPDATE", "$SYS.REQ.SERVER.PING.CONNZ", "$SYS.REQ.SERVER.*.KICK"),
    subscribe=("$SYS.ACCOUNT.*.CONNECT", "$SYS.ACCOUNT.*.DISCONNECT", "_INBOX.system.>"),
)
"""In the server's own account: hears which connections have begun and ended, says which users are to be let in no more,
and ends what a user has too many of."""


def _allow(subjects: tuple[str, ...]) -> dict[str, list[str]]:
    # An empty list of what is allowed would mean everything.
    return {"allow": list(subjects)} if subjects else {"deny": [">"]}
