"""Who was let into the cluster, as the keeper remembers it: the invites, the hosts that joined, the callers."""

from __future__ import annotations

import msgspec


class Promise(msgspec.Struct):
    """An invite as it is remembered: it is used up when `joined` holds as many hosts as it has uses."""

    expires_at: int
    uses: int
    joined: dict[str, str] = {}
    """By host name, the public key in hexadecimal."""
    ended_by: str = ""
    """The host that had joined with it and was removed: nobody else comes in by it."""


class Member(msgspec.Struct, frozen=True):
    """A host that has joined."""

    public: str
    """Its NATS user's key, in hexadecimal."""
    joined_at: float
    """Unix time, seconds; its token was issued in this second."""
    invite: str
    left_at: int = 0
    """When it left or was removed, Unix time in seconds: what its key was given until then is worth nothing."""
    earlier: dict[str, int] = {}
    """The same of those who had this name before, by key."""
    seen_at: float = 0.0
    """When it was last there, as far as that is known, in Unix time."""
    paused: bool = False
    """Whether it went then because its owner paused it."""

    def revoked(self) -> dict[str, int]:
        """Keys that are worth nothing any more, each with when it became so."""
        return {**self.earlier, self.public: self.left_at} if self.left_at else self.earlier


class CallerKeys(msgspec.Struct, frozen=True):
    """The keys that were made for one caller: by public key in hexadecimal, Unix times in seconds."""

    issued: dict[str, int] = {}
    withdrawn: dict[str, int] = {}
    """What these were given until then is worth nothing."""

    def revoked(self) -> dict[str, int]:
        return self.withdrawn


def revocation_time(now: float, issued_at: float) -> int:
    """When to say that a key became worthless: after its token was issued, also where the clock went back since.

    nats-server compares the two, and lets in who has a token that is newer.
    """
    return max(int(now), int(issued_at) + 1)


def issue_time(now: float, revoked_at: int) -> int:
    """The same for a new token of a key that was revoked before."""
    return max(int(now), revoked_at + 1)
