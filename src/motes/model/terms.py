"""When a machine's owner lends it: the hours, and whether it must be idle or on its charger. Pure.

What it lends is an Offer; both are said in the same words, and kept together in the home's hosts.json.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from motes.model.host import Offer
from motes.model.hours import Span, parse_hours

ALWAYS = "always"
CONDITIONS = ("idle", "charging")


class Terms(msgspec.Struct, frozen=True):
    """When a host lends. Without any it lends always, as long as the machine itself is not short of memory."""

    hours: tuple[Span, ...] = ()
    """None: at all hours."""
    idle: bool = False
    """Only while its owner is away from it and nothing else keeps it busy."""
    charging: bool = False
    """Only on mains."""


def offer_of(entry: Mapping[str, Any]) -> Offer:
    """The offer in a host's entry of hosts.json. Raises ValueError with the words of what no host can lend."""
    try:
        return msgspec.convert(dict(entry), Offer)
    except msgspec.ValidationError as error:
        raise ValueError(str(error)) from None


def terms_of(entry: Mapping[str, Any]) -> Terms:
    """The terms in the same entry, whose other keys are no business of theirs. Raises ValueError."""
    when = _conditions(str(entry.get("when", "")))
    return Terms(parse_hours(str(entry.get("hours", ""))), "idle" in when, "charging" in when)


def normal_hours(text: str) -> str:
    """`hours=...` as hosts.json keeps it; `always` is empty. Raises ValueError."""
    written = text.strip().lower()
    if not written:
        raise ValueError("no hours")
    written = "" if written == ALWAYS else written
    parse_hours(written)
    return written


def normal_when(text: str) -> str:
    """`when=...` as hosts.json keeps it; `always` is empty. Raises ValueError."""
    written = text.strip().lower()
    if not written:
        raise ValueError("no condition")
    return "+".join(_conditions("" if written == ALWAYS else written))


def _conditions(text: str) -> list[str]:
    found = set(text.split("+")) if text else set()
    if not found <= set(CONDITIONS):
        raise ValueError(f"{text!r} is not when to lend; write {ALWAYS}, {', '.join(CONDITIONS)} or both with a +")
    return [each for each in CONDITIONS if each in found]
