"""Receipts read in the order in which they were kept: what was altered, left out or put in twice is noticed.

No I/O: the same for what the keeper has and for what a host has kept.
"""

from __future__ import annotations

import msgspec

from motes.errors import Untrusted
from motes.grants.receipts import digest, read_receipt, read_signed
from motes.model.receipt import Batch, Receipt
from motes.model.release import Signed


class Entry(msgspec.Struct, frozen=True):
    """One receipt that holds."""

    signed: Signed
    receipt: Receipt
    batch: Batch
    counts: bool
    """Whether it is to be added up: the keeper has not refused it, and it was not there before."""


class Trail:
    """`problems` has a line for each thing that was noticed."""

    def __init__(self, keeper: bytes) -> None:
        self._keeper = keeper
        self._last: dict[tuple[str, bytes], tuple[int, bytes]] = {}
        """By host and key, the number of the last batch and what the next one has to name it by."""
        self.problems: list[str] = []

    def read(self, host: str, data: bytes) -> Entry | None:
        """The receipt that is kept for this host as `data`; None for one that does not hold."""
        try:
            signed = read_signed(data)
            receipt, batch = read_receipt(signed, self._keeper)
            if batch.host != host:
                raise Untrusted(f"it is of host {batch.host}")
        except Untrusted as error:
            # What came after an altered one cannot be said to follow it, nor not to.
            self._last = {key: last for key, last in self._last.items() if key[0] != host}
            self.problems.append(f"a receipt of host {host} was altered: {error.message}")
            return None
        is_new = self._follow(host, receipt, batch)
        return Entry(signed, receipt, batch, counts=is_new and not receipt.refused)

    def _follow(self, host: str, receipt: Receipt, batch: Batch) -> bool:
        """Whether the batch comes after the last of its key; notes what is missing between."""
        chain = host, receipt.batch.signer
        if chain not in self._last and receipt.missing:
            # What was there before is not read, and the keeper has said it when it heard this one.
            self.problems.append(f"before batch {batch.number} of host {host} are missing: {receipt.missing}")
        number, before = self._last.get(chain, (batch.number - 1, batch.before))
        if batch.number <= number:
            self.problems.append(f"batch {batch.number} of host {host} is there twice, or was altered")
            return False
        if batch.number > number + 1:
            self.problems.append(f"batches {number + 1} to {batch.number - 1} of host {host} are missing")
        elif batch.before != before:
            self.problems.append(f"batch {number} of host {host} is not the one that {batch.number} follows")
        self._last[chain] = batch.number, digest(receipt.batch)
        return True
