"""A host and a keeper that sign what they say, for tests."""

from __future__ import annotations

import msgspec

from motes.grants.keys import Key
from motes.grants.receipts import digest, sign_batch, sign_receipt
from motes.model.receipt import Batch, Permit, Receipt, Spent
from motes.model.release import Signed

OWNER = Key(b"o" * 32)
KEEPER = Key(b"k" * 32)


class Accounts:
    """One host's chain of batches."""

    def __init__(self, host: str = "a", secret: bytes = b"h" * 32) -> None:
        self.host = host
        self.key = Key(secret)
        self.number, self.before = 0, b""

    def batch(self, **other: object) -> Signed:
        """The next one, or one that is other than it should be."""
        self.number += 1
        batch = Batch(
            host=self.host,
            boot="b",
            number=self.number,
            before=self.before,
            app="app",
            owner=OWNER.public,
            began_at=1000.0 + 10 * self.number,
            ended_at=1010.0 + 10 * self.number,
            spent=Spent(calls=1, cpu_s=0.5),
            permit=Permit("f", 1, 1, b"proof"),
        )
        signed = sign_batch(self.key, msgspec.structs.replace(batch, **other))
        self.before = digest(signed)
        return signed

    def receipt(self, **other: object) -> bytes:
        """The keeper's, for the next one."""
        return received(self.batch(**other))


def received(batch: Signed, refused: str = "", missing: str = "", keeper: Key = KEEPER) -> bytes:
    return msgspec.msgpack.encode(sign_receipt(keeper, Receipt(batch, 2000.0, refused, missing)))
