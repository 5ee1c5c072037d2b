"""Whom a machine serves, in its owner's words: all apps of the cluster's owner, or some of them. Pure.

It only narrows: what no owner whom the host believes has signed runs nowhere, whatever is served.
"""

from __future__ import annotations

from collections.abc import Sequence

from motes.errors import Refused
from motes.model.names import MOST_SERVED, is_name

OWNER = "owner"
NO_APPS = frozenset({OWNER, "all", "anyone", "anybody", "everyone", "everybody"})
"""Words that mean somebody, and so no app."""
MOST_SHOWN = 4


def parse_served(text: str) -> list[str]:
    """`serve=...` as an Offer has it: the apps by name, none for `owner`. Raises Refused, or ValueError."""
    if text == OWNER:
        return []
    parts = text.split("+")
    if any(part in NO_APPS or _is_key(part) for part in parts):
        raise Refused(
            f"serve={text[:80]}: a machine serves the owner of its cluster and nobody else, as long as there is no wall"
            f" between owners; write serve={OWNER} for all of his apps, or serve=APP+APP for some"
        )
    names = sorted(set(parts))
    if len(names) > MOST_SERVED or not all(map(is_name, names)):
        raise ValueError(f"{text[:80]!r} is not up to {MOST_SERVED} names of apps")
    return names


def in_words(served: Sequence[str]) -> str:
    """The apps that a host says it serves, the first of many."""
    names = [name for name in served if is_name(name)]
    more = f" and {len(names) - MOST_SHOWN} more" if len(names) > MOST_SHOWN else ""
    return ", ".join(names[:MOST_SHOWN]) + more


def _is_key(text: str) -> bool:
    """An owner's key, as `motes usage` shows one, or as NATS writes it."""
    is_hexadecimal = len(text) == 64 and all(digit in "0123456789abcdef" for digit in text.lower())
    return is_hexadecimal or (len(text) == 56 and text.isalnum() and text.isupper())
