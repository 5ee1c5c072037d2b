"""What a host says it spent, signed, and the keeper's word on it.

Every BATCH_INTERVAL_S a host cuts its accounts: one Batch for each app that used something. It signs it with the key of
its NATS user. The keeper checks it, says when it heard it and whether it counts, and signs that: a Receipt, which both
sides keep. The batches of one key are a chain: each has a number, and the SHA-256 of the one before, so that one that
is missing or was altered is noticed (motes.grants.trail).
"""

from __future__ import annotations

from typing import Annotated

import msgspec

from motes.model.bounds import ByteSeconds, Count, Epoch, Number, Short, Size
from motes.model.host import PROOF_BYTES
from motes.model.release import Signed

BATCH_INTERVAL_S = 10.0
SIGNED_BATCH_BYTES = 2**10
"""The most that a signed batch may take; names as long as they may be leave it well below."""
MOST_IN_PAGE = 500

PublicKey = Annotated[bytes, msgspec.Meta(min_length=32, max_length=32)]
Digest = Annotated[bytes, msgspec.Meta(max_length=32)]
Remark = Annotated[str, msgspec.Meta(max_length=300)]


class Permit(msgspec.Struct, frozen=True, array_like=True):
    """A lease of the app's that the host was given: by its proof a later keeper knows it again."""

    workload: Short = ""
    ceiling: Count = 0
    epoch: Epoch = 0
    proof: Annotated[bytes, msgspec.Meta(max_length=PROOF_BYTES)] = b""


class Spent(msgspec.Struct, frozen=True, array_like=True):
    """What one app used on one host in some time."""

    calls: Size = 0
    """Answered, well or not."""
    starts: Size = 0
    """Of instances."""
    instance_s: Number = 0.0
    """How long its instances were there, all together."""
    cpu_s: Number = 0.0
    """Of its instances, and of what loads its code."""
    memory_byte_s: ByteSeconds = 0.0
    """Of the same: bytes times seconds, looked at every 250 ms."""
    in_bytes: Size = 0
    """Of the calls' bodies, and to daemons through the connection of their host."""
    out_bytes: Size = 0
    """Of their answers, of the items of streams, and what came back from daemons so."""


class Batch(msgspec.Struct, frozen=True, array_like=True):
    """What an app spent on a host, as the host says."""

    host: Short
    boot: Short
    """Of the agent, as in its reports."""
    number: Epoch
    """Of the batches of this host's key, from 1."""
    before: Digest
    """The SHA-256 of the payload before it; empty: it is the first."""
    app: Short
    owner: PublicKey
    """Whose app it is: who signed the release."""
    began_at: Number
    """Unix time, seconds, by the host's clock."""
    ended_at: Number
    spent: Spent
    permit: Permit = Permit()

    @property
    def seconds(self) -> float:
        return self.ended_at - self.began_at


class Receipt(msgspec.Struct, frozen=True, array_like=True):
    """The keeper's word on a batch that it has heard."""

    batch: Signed
    heard_at: Number
    """Unix time, seconds, by the keeper's clock."""
    refused: Remark = ""
    """Why it does not count; empty: it counts."""
    missing: Remark = ""
    """What the keeper has not heard of this host before it; empty: nothing is missing."""


class AskUsage(msgspec.Struct, frozen=True):
    """`usage`: the receipts since a time, of one host or of all; a UsagePage."""

    since: Number = 0.0
    """Unix time, seconds, by the keeper's clock."""
    host: Short = ""
    first: Epoch = 0
    """The `next` of the page before; 0: the first page."""


class UsagePage(msgspec.Struct, frozen=True):
    """Some receipts, the oldest first."""

    receipts: list[tuple[str, bytes]]
    """The host under whose name it is kept, and a Signed with a Receipt in it, as MessagePack."""
    next: int = 0
    """Where the next page begins; 0: there is none."""
