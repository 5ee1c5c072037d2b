"""Ed25519 keys and what they sign.

A signature covers a tag and then the payload, so that bytes signed as one kind of thing never pass as another.
Every tag is in `Tag`. Keys are kept as 64 hexadecimal digits in a file that only its owner can read.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
from collections.abc import Collection
from enum import Enum
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from motes.errors import Untrusted
from motes.model.release import Signed

KEY_BYTES = 32


class Tag(Enum):
    """What a signature is for. A tag ends with a zero byte and contains no other, so none begins another."""

    LEASE = b"motes lease 1\x00"
    RELEASE = b"motes release 1\x00"
    REMOVAL = b"motes removal 1\x00"
    PROOF = b"motes proof 1\x00"
    BATCH = b"motes batch 1\x00"
    RECEIPT = b"motes receipt 1\x00"
    INSPECTION = b"motes inspection 1\x00"
    WILLING = b"motes willing 1\x00"
    """A host's word that it would be the keeper."""
    ORDER = b"motes order 1\x00"
    """The controller's, to that host."""
    NOTICE = b"motes notice 1\x00"
    """The controller's, to all hosts: where the keeper is."""
    SHUT = b"motes shut 1\x00"
    """The controller's, to hosts and the gateway: which callers are served no more."""


class Nkey(Enum):
    """The kinds of NATS keys and their prefix bytes, from github.com/nats-io/nkeys."""

    ACCOUNT = 0
    OPERATOR = 14 << 3
    USER = 20 << 3


_SEED_PREFIX = 18 << 3


class Key:
    """An Ed25519 key pair; `public` is its 32-byte public key, `secret` the 32 bytes that make it again."""

    def __init__(self, secret: bytes) -> None:
        if len(secret) != KEY_BYTES:
            raise Untrusted(f"a key of {len(secret)} bytes; an Ed25519 key has {KEY_BYTES}")
        self.secret = secret
        self._private = Ed25519PrivateKey.from_private_bytes(secret)
        self.public = self._private.public_key().public_bytes_raw()

    @classmethod
    def generate(cls) -> Key:
        """A new key from the kernel's random numbers."""
        return cls(os.urandom(KEY_BYTES))

    @property
    def account(self) -> bytes:
        """The public key of the account whose users this key issues: its own, but for a SigningKey."""
        return self.public

    def sign_bytes(self, data: bytes) -> bytes:
        """The bare signature over `data`, 64 bytes; for NATS. Everything of ours uses `sign`."""
        return self._private.sign(data)

    def seal(self, tag: Tag, data: bytes, size: int) -> bytes:
        """`size` bytes over `data` as a `tag` that only who holds the secret can make, and check by making them again.

        For what comes back to its maker many times a second: forty times as quick as a signature.
        """
        return hashlib.blake2b(tag.value + data, key=self.secret, digest_size=size).digest()

    def nkey(self, kind: Nkey) -> str:
        """The public key as NATS writes it, for example `UABC...`."""
        return public_nkey(kind, self.public)

    def nkey_seed(self, kind: Nkey) -> str:
        """The secret as NATS writes it, for example `SUABC...`."""
        head = bytes((_SEED_PREFIX | kind.value >> 5, (kind.value & 31) << 3))
        return _encode_nkey(head + self.secret)


class SigningKey(Key):
    """A key that may issue the users of an account which is somebody else's, who says so in the account's JWT."""

    def __init__(self, secret: bytes, account: bytes) -> None:
        super().__init__(secret)
        self._account = account

    @property
    def account(self) -> bytes:
        return self._account


def public_nkey(kind: Nkey, public: bytes) -> str:
    """A public key as NATS writes it."""
    return _encode_nkey(bytes((kind.value,)) + public)


def read_public_nkey(text: str) -> bytes:
    """The 32 bytes in it. Raises ValueError."""
    raw = base64.b32decode(text + "=" * (-len(text) % 8))
    if len(raw) != KEY_BYTES + 3:
        raise ValueError(f"{text[:80]!r} is no public key of NATS")
    return raw[1 : 1 + KEY_BYTES]


def read_account_seed(text: str) -> bytes:
    """The 32 secret bytes in an account's seed, `SA...`. Raises ValueError."""
    raw = base64.b32decode(text + "=" * (-len(text) % 8))
    if Key(raw[2 : 2 + KEY_BYTES]).nkey_seed(Nkey.ACCOUNT) != text:
        raise ValueError("no seed of an account")
    return raw[2 : 2 + KEY_BYTES]


def _encode_nkey(raw: bytes) -> str:
    checked = raw + binascii.crc_hqx(raw, 0).to_bytes(2, "little")
    return base64.b32encode(checked).decode().rstrip("=")


def sign(key: Key, tag: Tag, payload: bytes) -> Signed:
    """`payload` with `key`'s signature over it as a `tag`."""
    return Signed(payload, key.sign_bytes(tag.value + payload), key.public)


def verify(signed: Signed, tag: Tag, trusted: Collection[bytes]) -> bytes:
    """The payload of `signed`, when one of the `trusted` public keys signed it as a `tag`. Raises Untrusted."""
    if signed.signer not in trusted:
        raise Untrusted(f"a {tag.name.lower()} signed by {signed.signer.hex()[:16]}, a key that is not trusted here")
    try:
        Ed25519PublicKey.from_public_bytes(signed.signer).verify(signed.signature, tag.value + signed.payload)
    except (InvalidSignature, ValueError) as error:
        raise Untrusted(f"the signature of a {tag.name.lower()} does not hold") from error
    return signed.payload


def load_or_create(path: Path) -> Key:
    """The key in the file `path`, or a new key that is saved there. Raises Untrusted when the file is damaged."""
    try:
        text = path.read_text()
    except FileNotFoundError:
        return _create(path)
    try:
        return Key(bytes.fromhex(text))
    except (ValueError, Untrusted) as error:
        raise Untrusted(f"{path} holds no key; restore it, or start afresh in an empty MOTES_HOME") from error


def load_public(path: Path) -> bytes:
    """The 32 bytes of the public key in the file `path`. Raises Untrusted."""
    try:
        public = bytes.fromhex(path.read_text())
    except (OSError, ValueError) as error:
        raise Untrusted(f"{path} holds no public key: {error}") from error
    if len(public) != KEY_BYTES:
        raise Untrusted(f"{path} holds {len(public)} bytes; a public key has {KEY_BYTES}")
    return public


def _create(path: Path) -> Key:
    key = Key.generate()
    # First under another name: a crash in the middle must not leave half a key.
    unfinished = path.with_suffix(".new")
    unfinished.unlink(missing_ok=True)
    with open(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(key.secret.hex())
        file.flush()
        os.fsync(file.fileno())
    unfinished.rename(path)
    return key
