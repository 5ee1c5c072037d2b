"""With which key a home issues the users of its cluster's account, and what the owner of a foreign NATS gives for it.

There the account is the user's own, whose operator signs it. It lets a cluster issue users by listing another key in
its JWT, a signing key. FILE of `motes up --nats URL --creds FILE` is text, as nsc prints it, in which stand:
    SA...    the signing key's seed
    A...     the account's public key; or the JWT of some user of it, as in a .creds file
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterable

from motes.errors import BadInput
from motes.grants.keys import Key, Nkey, SigningKey, load_or_create, public_nkey, read_account_seed, read_public_nkey
from motes.home import Home
from motes.model.credentials import Credentials
from motes.model.names import is_name

HOW = (
    "make it so: nsc generate nkey --account > FILE; nsc describe account MOTES --field sub >> FILE; nsc edit account"
    " MOTES --sk, with the A... in the second line of FILE; nsc push --account MOTES (docs/OPTIONS.md, A NATS of your"
    " own)"
)
MOST_BYTES = 64 * 2**10
_SEED = re.compile(r"\bSA[A-Z2-7]{56}\b")
_PUBLIC = re.compile(r"\bA[A-Z2-7]{55}\b")
_USER = re.compile(r"BEGIN NATS USER JWT-+\s+(\S+)")
_USER_SEED = re.compile(r"\bSU[A-Z2-7]{56}\b")


def issuer_of(home: Home) -> Key:
    """The key with which this keeper issues users. Raises Untrusted and Unavailable."""
    foreign = home.foreign()
    if foreign is None:
        return load_or_create(home.key("account"))
    return SigningKey(load_or_create(home.key("signing")).secret, read_public_nkey(foreign.account))


def read_signing_key(text: str) -> SigningKey:
    """The key in such a file, and for which account it signs. Raises BadInput with what is missing."""
    seeds = set(_SEED.findall(text))
    if len(seeds) != 1:
        raise BadInput(f"the file holds {len(seeds)} seeds of accounts' keys (SA...) where one is needed; {HOW}")
    try:
        key = Key(read_account_seed(seeds.pop()))
        named = {*map(read_public_nkey, _PUBLIC.findall(text)), *map(_account_of, _USER.findall(text))}
    except (ValueError, LookupError, TypeError) as error:
        raise BadInput(f"the file holds a key that is none ({error}); {HOW}") from None
    # The account's own key would do as well, though nobody should bring it here; then it is the only one.
    accounts = named - {key.public} or {key.public}
    if not named or len(accounts) != 1:
        raise BadInput(f"the file does not say for which one account (A...) its key signs; {HOW}")
    return SigningKey(key.secret, accounts.pop())


def read_user(text: str, name: str) -> Credentials:
    """The user in a `.creds` file that somebody else has issued; here it is called `name`. Raises BadInput."""
    tokens, seeds = _USER.findall(text), _USER_SEED.findall(text)
    if len(tokens) != 1 or len(seeds) != 1:
        raise BadInput("that is no .creds file of one user; make one: nsc generate creds --account SYS --name USER")
    assert is_name(name)
    return Credentials(name, tokens[0], seeds[0])


def _account_of(token: str) -> bytes:
    """The account of the user whose JWT this is."""
    body = token.split(".")[1]
    claims = json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
    return read_public_nkey(str(claims["nats"].get("issuer_account") or claims["iss"]))


def revoking(account: bytes, users: Iterable[bytes]) -> list[str]:
    """The commands by which the account's owner has NATS refuse users' keys; none for none."""
    named = f"--account {public_nkey(Nkey.ACCOUNT, account)}"
    revoke = [f"nsc revocations add-user {named} --user-public-key {public_nkey(Nkey.USER, user)}" for user in users]
    return [*revoke, f"nsc push {named}"] if revoke else []
