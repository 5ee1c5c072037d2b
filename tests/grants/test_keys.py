from __future__ import annotations

import base64
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from motes.errors import Untrusted
from motes.grants.keys import Key, Nkey, Tag, load_or_create, sign, verify
from motes.grants.roles import SYSTEM
from motes.model.credentials import Credentials
from motes.model.release import Signed


@given(st.binary(max_size=200))
def test_what_is_signed_is_what_is_verified(payload: bytes) -> None:
    key = Key(b"k" * 32)
    assert verify(sign(key, Tag.LEASE, payload), Tag.LEASE, {key.public}) == payload


@given(st.binary(max_size=60), st.integers(min_value=0), st.integers(min_value=0, max_value=7))
def test_a_flipped_bit_anywhere_is_noticed(payload: bytes, position: int, bit: int) -> None:
    key = Key(b"k" * 32)
    signed = sign(key, Tag.RELEASE, payload)
    both = bytearray(signed.signature + payload)
    both[position % len(both)] ^= 1 << bit
    with pytest.raises(Untrusted):
        verify(Signed(bytes(both[64:]), bytes(both[:64]), key.public), Tag.RELEASE, {key.public})


def test_a_signed_lease_never_passes_as_a_release() -> None:
    key = Key.generate()
    with pytest.raises(Untrusted, match="release"):
        verify(sign(key, Tag.LEASE, b"x"), Tag.RELEASE, {key.public})


def test_a_payload_that_begins_with_a_tag_gains_nothing() -> None:
    key = Key.generate()
    bare = key.sign_bytes(b"x")
    with pytest.raises(Untrusted):
        verify(Signed(b"x", bare, key.public), Tag.LEASE, {key.public})
    assert len({tag.value for tag in Tag}) == len(Tag)
    assert all(tag.value.index(b"\x00") == len(tag.value) - 1 for tag in Tag)


def test_a_signer_that_nobody_trusts_is_refused_though_its_signature_holds() -> None:
    with pytest.raises(Untrusted, match="not trusted"):
        verify(sign(Key.generate(), Tag.LEASE, b"x"), Tag.LEASE, {Key.generate().public})


@pytest.mark.parametrize("signature", [b"", b"short", b"x" * 64, b"x" * 65])
def test_a_signature_of_any_shape_is_refused_and_not_a_crash(signature: bytes) -> None:
    key = Key.generate()
    with pytest.raises(Untrusted):
        verify(Signed(b"x", signature, key.public), Tag.LEASE, {key.public})


def test_a_key_that_is_no_point_of_the_curve_is_refused() -> None:
    with pytest.raises(Untrusted):
        verify(Signed(b"x", b"x" * 64, b"short"), Tag.LEASE, {b"short"})


def test_a_key_is_kept_in_a_file_that_only_its_owner_reads(tmp_path: Path) -> None:
    first = load_or_create(tmp_path / "owner.seed")
    assert load_or_create(tmp_path / "owner.seed").public == first.public
    assert stat.S_IMODE((tmp_path / "owner.seed").stat().st_mode) == 0o600
    assert [each.name for each in tmp_path.iterdir()] == ["owner.seed"]


@pytest.mark.parametrize("content", ["", "00", "zz" * 32, "é" * 64])
def test_a_damaged_key_file_is_said_and_never_replaced(tmp_path: Path, content: str) -> None:
    path = tmp_path / "owner.seed"
    path.write_text(content)
    with pytest.raises(Untrusted, match=r"owner\.seed"):
        load_or_create(path)
    assert path.read_text() == content


def test_nkeys_are_written_as_nats_writes_them() -> None:
    """A pair made by `nk -gen user`, from the documentation of github.com/nats-io/nkeys."""
    seed = "SUACSSL3UAHUDXKFSNVUZRF5UHPMWZ6BFDTJ7M6USDXIEDNPPQYYYCU3VY"
    key = Key(Credentials("x", "", seed).secret)
    assert key.nkey_seed(Nkey.USER) == seed
    assert key.nkey(Nkey.USER) == "UDXU4RCSJNZOIQHZNWXHXORDPRTGNJAHAHFRGZNEEJCPQTT2M7NLCNF4"
    assert [Key(b"k" * 32).nkey(kind)[0] for kind in (Nkey.ACCOUNT, Nkey.OPERATOR, Nkey.USER)] == ["A", "O", "U"]


def test_credentials_do_not_show_their_secret() -> None:
    key = Key.generate()
    credentials = Credentials(SYSTEM.user, "token", key.nkey_seed(Nkey.USER))
    assert credentials.secret == key.secret
    shown = f"{credentials} {credentials!r}"
    assert credentials.seed not in shown and base64.b32encode(key.secret).decode() not in shown
