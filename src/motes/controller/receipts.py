"""Receipts for what hosts say they spent: each batch is checked, kept, and answered with the keeper's signature.

What does not hold at all (a signature, a name, a number that was there before) is refused, and nothing of it is kept.
What holds and cannot be true is kept with the reason, and does not count: so a host's chain has no hole, and its
word stays on record.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from typing import TYPE_CHECKING

import msgspec

from motes.bus import subjects
from motes.bus.connection import Message
from motes.controller.core.judging import LATE_S, SLACK, Credit, why_not
from motes.errors import BadInput, MotesError, Refused, TooLarge, Unavailable, Untrusted
from motes.grants.keys import Key, Tag, verify
from motes.grants.receipts import digest, read_batch, read_receipt, read_signed, sign_receipt
from motes.model.keeper import encode_answer, encode_error
from motes.model.names import HOST_PREFIX
from motes.model.receipt import MOST_IN_PAGE, SIGNED_BATCH_BYTES, AskUsage, Batch, Receipt, UsagePage
from motes.model.release import Signed

if TYPE_CHECKING:
    from motes.controller.service import Controller

MOST_AT_ONCE = 8
"""Batches of one host under way; an agent sends one after the other."""


class Ledger(msgspec.Struct):
    """Where one host's chain ends."""

    credit: Credit
    sequence: int = 0
    """Of its last receipt in the stream."""
    signed: Signed | None = None
    """That receipt."""
    key: bytes = b""
    number: int = 0
    digest: bytes = b""


class Receipts:
    """The keeper's side of hosts' accounts (motes.agent.receipts is the other)."""

    def __init__(self, controller: Controller, key: Key) -> None:
        self._controller = controller
        self._key = key
        self._ledgers: dict[str, Ledger] = {}
        self._turns: dict[str, asyncio.Lock] = {}
        self._under_way: Counter[str] = Counter()
        self._checking = asyncio.Lock()

    def take(self, host: str, message: Message) -> None:
        """A host, of whose name NATS is sure, sends a batch, and waits at `message.reply` for the receipt."""
        if not message.reply.startswith(f"{subjects.inbox(HOST_PREFIX + host)}."):
            return  # An answer there would reach somebody who did not ask.
        if self._under_way[host] >= MOST_AT_ONCE:
            return
        self._under_way[host] += 1
        self._controller.tasks.spawn(self._serve(host, message))

    async def _serve(self, host: str, message: Message) -> None:
        try:
            async with self._turns.setdefault(host, asyncio.Lock()):
                answer = encode_answer(await self._receipt(host, message.data))
        except MotesError as error:
            answer = encode_error(error)
        finally:
            self._under_way -= Counter((host,))
        self._controller.connection.publish(message.reply, answer)

    def forget(self) -> None:
        """Of hosts that told nothing for so long that they have all their credit again, as after a start of this
        controller: what else is here of them is in the store."""
        now = time.time()
        kept = {host: each for host, each in self._ledgers.items() if now - each.credit.at < LATE_S / SLACK}
        kept |= {host: self._ledgers[host] for host in self._under_way if host in self._ledgers}
        self._ledgers = kept
        self._turns = {host: turn for host, turn in self._turns.items() if host in kept or host in self._under_way}

    async def _receipt(self, host: str, data: bytes) -> Signed:
        if len(data) > SIGNED_BATCH_BYTES:
            raise TooLarge(f"a batch of {len(data)} bytes; it has at most {SIGNED_BATCH_BYTES}")
        signed = read_signed(data)
        batch = await self._checked(host, signed)
        ledger = self._ledgers.get(host) or await self._load(host)
        if ledger.key != signed.signer:
            ledger.key, ledger.number, ledger.digest = signed.signer, 0, b""
        elif batch.number == ledger.number and digest(signed) == ledger.digest and ledger.signed is not None:
            return ledger.signed  # The answer was lost.
        if batch.number <= ledger.number:
            last = f"the last of this host has the number {ledger.number}"
            raise Refused(f"batch {batch.number}: {last}", number=ledger.number, digest=ledger.digest.hex())
        return await self._keep(host, ledger, signed, batch)

    async def _checked(self, host: str, signed: Signed) -> Batch:
        """Raises Untrusted when it is not this host's own, and BadInput for one that nobody can read."""
        key = await self._controller.admission.key_of(host)
        # One in a turn of the loop: those of all hosts, which may come at a time, would keep everybody waiting.
        async with self._checking:
            await asyncio.sleep(0)
            try:
                batch = read_batch(signed, key)
            except Untrusted as error:
                verify(signed, Tag.BATCH, (key,))
                # It is the host's own, and stays as it is: those that follow it need not wait.
                raise BadInput(error.message) from error
        if batch.host != host:
            raise Untrusted(f"host {host} tells what host {batch.host[:80]} spent")
        # Who reads accounts in a terminal or a spreadsheet must find names there, and nothing that it would obey.
        if not all(map(subjects.is_name, (batch.boot, batch.app))):
            raise BadInput("a batch of what is no app, or of no boot")
        return batch

    async def _keep(self, host: str, ledger: Ledger, signed: Signed, batch: Batch) -> Signed:
        controller = self._controller
        known = controller.core.state.hosts.get(host)
        if known is None:
            raise Unavailable(f"host {host} has not told yet what it lends; send it again")
        # While it is full hosts keep their batches, and send them again.
        controller.disk.check()
        now = time.time()
        ledger.credit.pass_time(now)
        refused = why_not(batch, known.report.offer, controller.owners, controller.proofs.hold, ledger.credit)
        receipt = sign_receipt(self._key, Receipt(signed, now, refused[:300], _missing(ledger, batch)))
        try:
            data = msgspec.msgpack.encode(receipt)
            ledger.sequence = await controller.store.add_receipt(host, data, ledger.sequence)
        except MotesError:
            # Whether it was kept is not known, or another controller keeps them now: what is there counts.
            self._ledgers.pop(host, None)
            raise
        ledger.signed, ledger.number, ledger.digest = receipt, batch.number, digest(signed)
        return receipt

    async def _load(self, host: str) -> Ledger:
        """As it was with the last receipt that is kept."""
        sequence, data = await self._controller.store.last_receipt(host)
        ledger = Ledger(Credit(time.time()), sequence)
        if data:
            try:
                signed = read_signed(data)
                receipt, batch = read_receipt(signed, self._key.public)
            except Untrusted:
                # Somebody altered it, which `motes usage` says; the host's next batch names what should be there.
                pass
            else:
                ledger.credit.at = receipt.heard_at
                ledger.signed, ledger.key = signed, receipt.batch.signer
                ledger.number, ledger.digest = batch.number, digest(receipt.batch)
        return self._ledgers.setdefault(host, ledger)

    async def page(self, question: AskUsage) -> UsagePage:
        """Some of what is kept, as it is: who reads it checks it."""
        is_no_name = question.host and not subjects.is_name(question.host)
        if is_no_name or question.since > time.time():
            return UsagePage([])
        host = question.host or "*"
        found = await self._controller.store.receipts(host, question.since, question.first, MOST_IN_PAGE)
        receipts = [(each.subject.partition(".")[2], each.data) for each in found.messages]
        return UsagePage(receipts, found.messages[-1].sequence + 1 if found.more else 0)


def _missing(ledger: Ledger, batch: Batch) -> str:
    """What of this key's chain was not heard before the batch; empty: nothing, or nothing is kept of the host."""
    if ledger.sequence == 0:
        return ""
    if batch.number > ledger.number + 1:
        return f"batches {ledger.number + 1} to {batch.number - 1}"
    if batch.before != ledger.digest:
        return f"the batch {ledger.number} that it follows"
    return ""
