"""The file that lets a cluster issue users of an account that is somebody else's."""

from __future__ import annotations

import base64
import json

import pytest

from motes.errors import BadInput
from motes.grants import jwt, roles
from motes.grants.issuing import read_signing_key, read_user
from motes.grants.keys import Key, Nkey, SigningKey

ACCOUNT, SIGNING = Key(b"a" * 32), Key(b"s" * 32)
SEED, PUBLIC, ID = SIGNING.nkey_seed(Nkey.ACCOUNT), SIGNING.nkey(Nkey.ACCOUNT), ACCOUNT.nkey(Nkey.ACCOUNT)
USER = jwt.creds_text(jwt.credentials(ACCOUNT, roles.KEEPER))


@pytest.mark.parametrize(
    "text",
    [
        f'{SEED}\n{PUBLIC}\n\n"{ID}"\n',
        f"{ID} {SEED}",
        f"-----BEGIN ACCOUNT SEED-----\n{SEED}\n------\n{USER}",
        f"{SEED}\n{jwt.creds_text(jwt.credentials(SigningKey(SIGNING.secret, ACCOUNT.public), roles.KEEPER))}",
    ],
)
def test_the_account_is_named_by_its_key_or_by_one_of_its_users(text: str) -> None:
    found = read_signing_key(text)
    assert (found.secret, found.account) == (SIGNING.secret, ACCOUNT.public)


def test_the_accounts_own_key_will_do_too() -> None:
    own = read_signing_key(f"{ACCOUNT.nkey_seed(Nkey.ACCOUNT)}\n{ID}")
    assert own.public == own.account == ACCOUNT.public


@pytest.mark.parametrize(
    "text", ["", ID, SEED, f"{SEED} {ID} {Key(b'x' * 32).nkey(Nkey.ACCOUNT)}", f"{SEED[:-1]}A {ID}", USER]
)
def test_of_what_is_missing_or_too_much_it_says_how_to_make_it(text: str) -> None:
    with pytest.raises(BadInput, match="nsc generate nkey --account"):
        read_signing_key(text)


def test_a_user_says_for_which_account_he_was_issued_where_that_is_another_key() -> None:
    claims = [
        json.loads(base64.urlsafe_b64decode(jwt.credentials(key, roles.host("b")).jwt.split(".")[1] + "=="))
        for key in (ACCOUNT, SigningKey(SIGNING.secret, ACCOUNT.public))
    ]
    assert [each["iss"] for each in claims] == [ID, PUBLIC]
    assert [each["nats"].get("issuer_account") for each in claims] == [None, ID]


def test_a_user_of_somebody_elses_gets_a_name_of_ours() -> None:
    assert read_user(USER, "system").user == "system"
    for text in ("", USER + USER, ID):
        with pytest.raises(BadInput, match="nsc generate creds"):
            read_user(text, "system")
