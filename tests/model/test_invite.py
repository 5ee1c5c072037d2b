"""An invite is one line: whatever it says comes out again, and what was altered on the way is noticed."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from motes.errors import BadInput
from motes.model.certificate import SYSTEM
from motes.model.invite import FOREIGN_PREFIX, MOST_ADDRESSES, PREFIX, Invite, parse

KEYS = st.binary(min_size=32, max_size=32)
TIMES = st.integers(0, 2**32 - 1)
HOSTS = st.one_of(
    st.text("abcdef0123456789.-", min_size=1, max_size=80), st.ip_addresses(v=6).map(lambda ip: f"[{ip}]")
)
ADDRESSES = st.lists(st.builds("{}:{}".format, HOSTS, st.integers(1, 65535)), min_size=1, max_size=8).map(tuple)
# What a server is known by, and who signed: of a keeper's own NATS, and of one that somebody else runs.
KNOWN = st.one_of(KEYS, st.just(SYSTEM), st.binary(min_size=65, max_size=2000))
ISSUERS = st.one_of(st.just(b""), KEYS)
INVITES = st.builds(
    Invite, ADDRESSES, KNOWN, KEYS, KEYS, TIMES, TIMES, st.binary(min_size=64, max_size=64), ISSUERS
).filter(lambda invite: invite.issuer != invite.account)


@given(INVITES)
def test_what_it_says_comes_out_again(invite: Invite) -> None:
    assert parse(invite.line()) == invite
    assert invite.line().isascii() and " " not in invite.line()


@given(INVITES, st.integers(1, 60))
def test_it_may_be_broken_into_lines_by_a_mail_or_a_terminal(invite: Invite, width: int) -> None:
    line = invite.line()
    broken = "\n ".join(line[at : at + width] for at in range(0, len(line), width))
    assert parse(f"  {broken}\r\n") == invite


@given(INVITES, st.data())
def test_one_that_was_altered_or_cut_is_refused(invite: Invite, data: st.DataObject) -> None:
    line = invite.line()
    at = data.draw(st.integers(len(PREFIX), len(line) - 2))
    other = data.draw(st.sampled_from("ABCDEFGHabcdefgh01234567-_").filter(lambda letter: letter != line[at]))
    for altered in (line[:at] + other + line[at + 1 :], line[:at], line[:at] + line[at + 1 :], line + "AAAA"):
        with pytest.raises(BadInput, match="invite"):
            parse(altered)


@given(st.text())
def test_other_text_is_refused(text: str) -> None:
    for each in (text, PREFIX + text):
        with pytest.raises(BadInput, match="invite"):
            parse(each)


def test_one_without_an_address_or_with_half_of_one_is_refused() -> None:
    import binascii

    for listed in (b"", b"\x09abc"):
        body = bytes(32 * 3 + 8 + 64) + listed
        text = base64.urlsafe_b64encode(body + binascii.crc32(body).to_bytes(4)).decode().rstrip("=")
        for prefix in (PREFIX, FOREIGN_PREFIX):
            with pytest.raises(BadInput, match="invite"):
                parse(prefix + text)


def test_one_that_says_nothing_by_which_to_know_the_server_is_refused() -> None:
    made = Invite(("there:7",), b"", bytes(32), bytes(32), 1, 2, bytes(64))
    with pytest.raises(BadInput, match="invite"):
        parse(made.line())


@pytest.mark.parametrize(
    "address", ["", "here", "here:", ":7", "here:0", "here:70000", "a,b:7", "\x1b[2Jx:7", "::1:7", "é:7"]
)
def test_one_that_names_what_is_no_address_is_refused(address: str) -> None:
    made = Invite((address, "there:7"), bytes(32), bytes(32), bytes(32), 1, 2, bytes(64))
    with pytest.raises(BadInput, match="invite"):
        parse(made.line())


def test_one_with_addresses_without_end_is_refused() -> None:
    made = Invite(("there:7",) * (MOST_ADDRESSES + 1), bytes(32), bytes(32), bytes(32), 1, 2, bytes(64))
    with pytest.raises(BadInput, match="invite"):
        parse(made.line())
