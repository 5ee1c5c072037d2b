"""Batches as hosts sign them, and receipts as the keeper does (motes.model.receipt)."""

from __future__ import annotations

import hashlib
from typing import TypeVar

import msgspec

from motes.errors import Untrusted
from motes.grants.keys import Key, Tag, sign, verify
from motes.model.bounds import UNREADABLE
from motes.model.receipt import Batch, Receipt
from motes.model.release import Signed

T = TypeVar("T")

_batches = msgspec.msgpack.Decoder(Batch)
_receipts = msgspec.msgpack.Decoder(Receipt)
_signed = msgspec.msgpack.Decoder(Signed)


def digest(batch: Signed) -> bytes:
    """By what the next batch names this one."""
    return hashlib.sha256(batch.payload).digest()


def sign_batch(key: Key, batch: Batch) -> Signed:
    """The batch in its host's name."""
    return sign(key, Tag.BATCH, msgspec.msgpack.encode(batch))


def sign_receipt(key: Key, receipt: Receipt) -> Signed:
    """The receipt in the keeper's name."""
    return sign(key, Tag.RECEIPT, msgspec.msgpack.encode(receipt))


def read_batch(signed: Signed, key: bytes) -> Batch:
    """The batch that the host with this public key signed. Raises Untrusted, also for what is none."""
    return _decode(_batches, verify(signed, Tag.BATCH, (key,)), "batch")


def read_signed(data: bytes) -> Signed:
    """What somebody signed; nothing is checked yet. Raises Untrusted for bytes that are none."""
    return _decode(_signed, data, "signed message")


def read_receipt(signed: Signed, keeper: bytes) -> tuple[Receipt, Batch]:
    """A receipt that the keeper with this public key signed, and the host's batch in it. Raises Untrusted.

    The keeper signs only batches of the host's own key, so that both signatures hold says whose batch it is.
    """
    receipt = _decode(_receipts, verify(signed, Tag.RECEIPT, (keeper,)), "receipt")
    return receipt, read_batch(receipt.batch, receipt.batch.signer)


def _decode(decoder: msgspec.msgpack.Decoder[T], data: bytes, what: str) -> T:
    try:
        return decoder.decode(data)
    except UNREADABLE as error:
        raise Untrusted(f"a {what} that cannot be read: {error}") from error
