"""What a user of the cluster shows to NATS. Stdlib only."""

from __future__ import annotations

import base64
from typing import NamedTuple


class Credentials(NamedTuple):
    """A user's name, NATS user JWT and nkey seed (`SU...`), as `users/<user>.json` holds them."""

    user: str
    jwt: str
    seed: str

    @property
    def secret(self) -> bytes:
        """The 32 bytes of the Ed25519 key: an nkey seed is two bytes of kind, the key and two of checksum."""
        return base64.b32decode(self.seed + "=" * (-len(self.seed) % 8))[2:34]

    def __repr__(self) -> str:
        """Without the secret, so that no log line or traceback holds it."""
        return f"Credentials(user={self.user!r})"
