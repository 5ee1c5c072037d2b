"""A file of credentials: NATS clients find in it what they look for, and motes everything."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from motes.errors import BadInput
from motes.grants import jwt, keys, roles
from motes.grants.creds import Creds, parse

CLIENTS = re.compile(r"\s*(?:(?:-{3,}[^\n]*-{3,}\n)(.+)(?:\n\s*-{3,}[^\n]*-{3,}\n))")
"""How NATS clients in Go and JavaScript read such a file: the first match is the token, the second the key."""


def made(owner: bool = False) -> Creds:
    found = jwt.credentials(keys.Key.generate(), roles.caller("shop"))
    return Creds(found, ("10.0.0.1:7423", "[::1]:7423"), bytes(range(32)), owner=bytes(32) if owner else b"")


@pytest.mark.parametrize("owner", [False, True])
def test_what_is_written_is_read_again(owner: bool) -> None:
    creds = made(owner)
    assert parse(creds.text()) == creds


def test_other_clients_find_the_token_and_the_key_as_in_any_such_file() -> None:
    creds = made(owner=True)
    assert CLIENTS.findall(creds.text())[:2] == [creds.credentials.jwt, creds.credentials.seed]


def test_no_traceback_shows_a_secret() -> None:
    creds = made(owner=True)._replace(owner=b"secret" * 5 + b"!!")
    assert "secret" not in repr(creds) and creds.credentials.seed not in repr(creds)


@pytest.mark.parametrize(
    ("what", "instead"),
    [
        ("10.0.0.1:7423", "10.0.0.1:7423,tls://evil:1"),
        ("10.0.0.1:7423", "nats://10.0.0.1:7423"),
        (bytes(range(32)).hex(), "00"),
        (bytes(range(32)).hex(), "zz"),
        ('"addresses"', '"addresses": 5, "x"'),
        (bytes(32).hex(), "00" * 31),
    ],
)
def test_what_was_altered_is_refused(what: str, instead: str) -> None:
    text = made(owner=True).text()
    assert what in text
    with pytest.raises(BadInput, match="credentials"):
        parse(text.replace(what, instead))


@pytest.mark.parametrize("text", ["---BEGIN A---" + " " * 40_000 + "x", "-" * 60_000, "---BEGIN A---\n" * 4_000])
def test_what_is_no_such_file_is_refused_and_not_searched_for_ever(text: str) -> None:
    """In a process that can be ended: the file may be an enemy's."""
    program = "import sys; from motes.grants.creds import parse; parse(sys.stdin.read())"
    done = subprocess.run([sys.executable, "-c", program], input=text, capture_output=True, text=True, timeout=60)
    assert "BadInput" in done.stderr
