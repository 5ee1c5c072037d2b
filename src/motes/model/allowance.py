"""How much may go on in a time: a bucket of tokens."""

from __future__ import annotations

import msgspec


class Allowance(msgspec.Struct):
    """A bucket of tokens: `per_s` come back each second, up to `most`."""

    per_s: float
    most: float
    left: float
    at: float

    def has(self, now: float) -> bool:
        """Whether there is a token."""
        self.left = min(self.left + max(now - self.at, 0.0) * self.per_s, self.most)
        self.at = now
        return self.left >= 1.0

    def take(self, now: float, count: float = 1.0) -> bool:
        """Take tokens, if there is one; those that are not there are owed, so that large takers get their turn too."""
        if not self.has(now):
            return False
        self.left -= count
        return True
