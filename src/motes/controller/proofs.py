"""Proofs of leases: what a later controller, which remembers no lease, can check of what a host says that it holds.

The controller keeps no list of its leases: they are many, and change often. Each carries a seal that only the
controller's key can make; the host sends it back with its report.
"""

from __future__ import annotations

import hmac

import msgspec

from motes.grants.keys import Key, Tag
from motes.model.host import PROOF_BYTES, Held, Lease


class Proofs:
    """Seals of the key that all controllers of this cluster share."""

    def __init__(self, key: Key) -> None:
        self._key = key

    def sealed(self, lease: Lease) -> Lease:
        """The lease with its proof."""
        return msgspec.structs.replace(lease, proof=self._seal(lease.host, lease.address, lease.ceiling, lease.epoch))

    def hold(self, host: str, address: str, held: Held) -> bool:
        """Whether the host was once given this: that workload, that ceiling, with that epoch."""
        return hmac.compare_digest(held.proof, self._seal(host, address, held.ceiling, held.epoch))

    def _seal(self, host: str, address: str, ceiling: int, epoch: int) -> bytes:
        return self._key.seal(Tag.PROOF, msgspec.msgpack.encode((host, address, ceiling, epoch)), PROOF_BYTES)
