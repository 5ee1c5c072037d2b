"""NATS JWTs (version 2, `ed25519-nkey`): an operator vouches for accounts, an account for users.

The claims are those of github.com/nats-io/jwt/v2; -1 is "no limit" there.
"""

from __future__ import annotations

import base64
import hashlib
import json
import time
from collections.abc import Mapping
from typing import Any

from motes.errors import NotFound
from motes.grants.keys import Key, Nkey, public_nkey, read_public_nkey
from motes.grants.roles import NO_LIMIT, Role
from motes.model.credentials import Credentials
from motes.model.invite import Invite

JETSTREAM_DISK_BYTES = 16 * 2**30
JETSTREAM_MEMORY_BYTES = 64 * 2**20
_STREAMS = 64
_CONSUMERS = 256


def operator_token(operator: Key, system: Key) -> str:
    """The operator's own JWT; `system` is the key of the server's account."""
    claims = {"type": "operator", "version": 2, "system_account": system.nkey(Nkey.ACCOUNT)}
    return _token(operator, Nkey.OPERATOR, operator.nkey(Nkey.OPERATOR), "motes", claims)


def account_token(
    operator: Key, account: Key, name: str, *, jetstream: bool, revoked: Mapping[bytes, int] | None = None
) -> str:
    """An account's JWT; `jetstream` gives it storage.

    `revoked` has public keys of users, each with a Unix time: what was issued to it until then is worth nothing.
    """
    limits: dict[str, Any] = dict.fromkeys(("subs", "data", "payload", "imports", "exports", "conn", "leaf"), NO_LIMIT)
    limits["wildcards"] = True
    if jetstream:
        limits["mem_storage"] = JETSTREAM_MEMORY_BYTES
        limits["disk_storage"] = JETSTREAM_DISK_BYTES
        limits["streams"] = _STREAMS
        limits["consumer"] = _CONSUMERS
    claims = {
        "type": "account",
        "version": 2,
        "limits": limits,
        "default_permissions": {"pub": {"deny": [">"]}, "sub": {"deny": [">"]}},
    }
    if revoked:
        claims["revocations"] = {public_nkey(Nkey.USER, public): at for public, at in revoked.items()}
    return _token(operator, Nkey.OPERATOR, account.nkey(Nkey.ACCOUNT), name, claims)


def credentials(account: Key, role: Role) -> Credentials:
    """New credentials, with a new key, for the user of `role` in `account`."""
    user = Key.generate()
    return Credentials(role.user, user_token(account, role, user.public), user.nkey_seed(Nkey.USER))


def user_token(account: Key, role: Role, public: bytes, issued_at: int | None = None) -> str:
    """The JWT of a user of `account` who holds the secret of the key `public`; whoever issues it need not."""
    at = int(time.time()) if issued_at is None else issued_at
    return _signed(_user_body(account.account, account.public, role, public, at, None), account)


def guest_signature(account: Key, role: Role, guest: Key, issued_at: int, expires_at: int) -> bytes:
    """The account's signature over a guest's token, which can be made again from what an invite holds."""
    body = _user_body(account.account, account.public, role, guest.public, issued_at, expires_at)
    return account.sign_bytes(_unsigned(body))


def guest_credentials(invite: Invite, role: Role) -> Credentials:
    """What the bearer of an invite shows to NATS. A signature that does not hold, NATS refuses."""
    guest = Key(invite.secret)
    issuer = invite.issuer or invite.account
    unsigned = _unsigned(_user_body(invite.account, issuer, role, guest.public, invite.issued_at, invite.expires_at))
    token = f"{unsigned.decode()}.{_url64(invite.signature)}"
    return Credentials(role.user, token, guest.nkey_seed(Nkey.USER))


def _user_body(
    account: bytes, issuer: bytes, role: Role, public: bytes, issued_at: int, expires_at: int | None
) -> dict[str, Any]:
    subject = public_nkey(Nkey.USER, public)
    claims = role.claims()
    if issuer != account:
        claims["issuer_account"] = public_nkey(Nkey.ACCOUNT, account)
    body = _body(public_nkey(Nkey.ACCOUNT, issuer), subject, role.user, issued_at, claims)
    return body if expires_at is None else {**body, "exp": expires_at}


def public_key_of(token: str) -> bytes:
    """The key of the user whose JWT this is: 32 bytes. Raises NotFound for what is none."""
    try:
        claims = token.split(".")[1]
        found = json.loads(base64.urlsafe_b64decode(claims + "=" * (-len(claims) % 4)))
        return read_public_nkey(str(found["sub"]))
    except (ValueError, LookupError, TypeError) as error:
        raise NotFound(f"a user's JWT that is none: {error}") from error


def creds_text(credentials: Credentials) -> str:
    """Credentials as the file that NATS clients take (`.creds`)."""
    return (
        f"-----BEGIN NATS USER JWT-----\n{credentials.jwt}\n------END NATS USER JWT------\n\n"
        f"-----BEGIN USER NKEY SEED-----\n{credentials.seed}\n------END USER NKEY SEED------\n"
    )


def _token(issuer: Key, kind: Nkey, subject: str, name: str, claims: dict[str, Any]) -> str:
    return _signed(_body(issuer.nkey(kind), subject, name, int(time.time()), claims), issuer)


def _body(issuer: str, subject: str, name: str, issued_at: int, claims: dict[str, Any]) -> dict[str, Any]:
    return {"iat": issued_at, "iss": issuer, "name": name, "sub": subject, "nats": claims}


def _signed(body: dict[str, Any], issuer: Key) -> str:
    unsigned = _unsigned(body)
    return f"{unsigned.decode()}.{_url64(issuer.sign_bytes(unsigned))}"


def _unsigned(body: dict[str, Any]) -> bytes:
    named = {**body, "jti": base64.b32encode(hashlib.sha256(_json(body)).digest()).decode().rstrip("=")}
    return f"{_url64(_json({'typ': 'JWT', 'alg': 'ed25519-nkey'}))}.{_url64(_json(named))}".encode()


def _json(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":"), sort_keys=True).encode()


def _url64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")
