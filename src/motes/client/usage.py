"""What ran where, from receipts whose signatures are checked here: the keeper's, or those that a host has kept."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING, Any

import msgspec

from motes.grants.kept import FOLDER, read_all
from motes.grants.trail import Entry, Trail
from motes.model.receipt import AskUsage, UsagePage

if TYPE_CHECKING:
    from motes.client.cluster import Cluster
    from motes.home import Home

PAGE_TIMEOUT_S = 10.0


class Total(msgspec.Struct):
    """All that one app used on one host, for one owner."""

    app: str
    host: str
    owner: str
    """The public key, in hexadecimal."""
    began_at: float
    """Unix times, by the host's clock."""
    ended_at: float
    batches: int = 0
    calls: int = 0
    starts: int = 0
    instance_s: float = 0.0
    cpu_s: float = 0.0
    memory_byte_s: float = 0.0
    in_bytes: int = 0
    out_bytes: int = 0


class Totals:
    """Adds up receipts that count."""

    def __init__(self) -> None:
        self._found: dict[tuple[str, str, str], Total] = {}

    def add(self, entry: Entry) -> None:
        """One more; nothing for one that does not count."""
        batch, spent = entry.batch, entry.batch.spent
        if not entry.counts:
            return
        key = batch.app, batch.host, batch.owner.hex()
        total = self._found.setdefault(key, Total(*key, batch.began_at, batch.ended_at))
        total.began_at = min(total.began_at, batch.began_at)
        total.ended_at = max(total.ended_at, batch.ended_at)
        total.batches += 1
        for field in spent.__struct_fields__:
            setattr(total, field, getattr(total, field) + getattr(spent, field))

    def sorted(self) -> list[Total]:
        """By app and host."""
        return [self._found[key] for key in sorted(self._found)]


def record(entry: Entry) -> dict[str, Any]:
    """One receipt as plain data, with all that a third party needs to check it; bytes in hexadecimal."""
    batch, receipt = entry.batch, entry.receipt
    return {
        "host": batch.host,
        "boot": batch.boot,
        "number": batch.number,
        "before": batch.before.hex(),
        "app": batch.app,
        "owner": batch.owner.hex(),
        "began_at": batch.began_at,
        "ended_at": batch.ended_at,
        **msgspec.to_builtins(msgspec.structs.asdict(batch.spent)),
        "heard_at": receipt.heard_at,
        "counts": entry.counts,
        "refused": receipt.refused,
        "missing": receipt.missing,
        "batch_payload": receipt.batch.payload.hex(),
        "batch_signature": receipt.batch.signature.hex(),
        "batch_signer": receipt.batch.signer.hex(),
        "receipt_payload": entry.signed.payload.hex(),
        "receipt_signature": entry.signed.signature.hex(),
        "receipt_signer": entry.signed.signer.hex(),
    }


async def of_cluster(cluster: Cluster, trail: Trail, since: float, host: str) -> AsyncIterator[Entry]:
    """What the keeper has heard since a Unix time, of one host or, with "", of all; `trail` says what does not hold."""
    first = 0
    while True:
        page = await cluster.ask("usage", AskUsage(since, host, first), UsagePage, PAGE_TIMEOUT_S)
        for name, data in page.receipts:
            entry = trail.read(name, data)
            if entry is not None:
                yield entry
        if not page.next:
            return
        first = page.next


def of_home(home: Home, trail: Trail, since: float, host: str) -> Iterator[Entry]:
    """The same of what the hosts of this machine have kept."""
    for folder in sorted(home.hosts.glob(f"{host or '*'}/{FOLDER}")):
        for data in read_all(folder):
            entry = trail.read(folder.parent.name, data)
            if entry is not None and entry.receipt.heard_at >= since:
                yield entry
