"""Whether a host lends just now, and why not: from its owner's terms and the machine's signs.

What always holds:
- whatever the owner's terms do not allow is seen at the first look, and said in words that do not change from look to
  look; only other programs' load must last for BUSY_S;
- what was withdrawn is not lent again before `hold_s`, which grows while that happens again and again, so that nothing
  flaps; new terms forget it, for they are the owner's own word;
- what nothing on the machine can tell is taken for the owner's being there.
"""

from __future__ import annotations

import msgspec

from motes.model.terms import Terms

IDLE_S = 300.0
"""The owner is away when nobody has touched the machine for this long."""
BUSY_SHARE, BUSY_S = 0.5, 1.5
"""Other programs that keep this share of all processors busy for this long are the owner's being there ..."""
QUIET_SHARE, QUIET_S = 0.25, 60.0
"""... until they have taken less than this for so long."""
SHORT_SHARE, SHORT_LEAST_BYTES, SHORT_MOST_BYTES = 0.04, 64 * 2**20, 512 * 2**20
"""Memory is short when less than this share of it is to be had, but for very small and very large machines."""
ENOUGH = 2
"""It is short no more when there is so many times as much."""
HOLD_S, HOLD_MOST_S = 10.0, 600.0
"""How long a host stays withdrawn at least: doubled each time, until it has lent for HOLD_MOST_S on end."""

SHORT_OF_MEMORY = "the machine is short of memory"
OTHER_HOURS = "these are not its hours"
NO_CHARGER = "it is not on its charger"
OWNER_HERE = "its owner is here"
OTHERS_BUSY = "its other programs have not been quiet for a minute"
NOTHING_SAYS = "nothing on it says whether its owner is here"
SETTLING = "it waits a moment, so as not to come and go"


class Signs(msgspec.Struct, frozen=True):
    """What the machine shows. None: nothing on it says so."""

    minute: int = 0
    """Of the week, by the wall clock; the first of Monday is 0."""
    idle_s: float | None = None
    """Since somebody touched it."""
    load: float | None = None
    """The share of all processors that other programs keep busy."""
    charging: bool | None = None
    free_bytes: int | None = None
    """Memory that programs can still get."""
    memory_bytes: int = 0
    """In all."""


class Lending:
    """One host's state: `why` is empty while it lends, else the reason why it does not."""

    def __init__(self) -> None:
        self.why = SETTLING
        self.hold_s = HOLD_S
        self._terms: Terms | None = None
        self._withdrawn_at = float("-inf")
        self._lends_since = float("-inf")
        self._busy_since: float | None = None
        self._quiet_since: float | None = None

    @property
    def lends(self) -> bool:
        return not self.why

    def look(self, terms: Terms, signs: Signs, now: float) -> str:
        """Decide by what is so now: returns `why`."""
        if terms != self._terms:
            self._terms, self.hold_s, self._withdrawn_at = terms, HOLD_S, float("-inf")
            self._busy_since = self._quiet_since = None
        reasons = (
            self._memory(signs),
            _hours(terms, signs),
            NO_CHARGER if terms.charging and not signs.charging else "",
            _owner(signs) if terms.idle else "",
            self._others(signs, now) if terms.idle else "",
        )
        why = next(filter(None, reasons), "")
        if self.lends and why:
            self._withdraw(now)
        elif not self.lends and not why:
            if now - self._withdrawn_at < self.hold_s:
                why = SETTLING
            else:
                self._lends_since = now
        self.why = why
        return why

    def _withdraw(self, now: float) -> None:
        has_settled = now - self._lends_since >= HOLD_MOST_S
        again = self._withdrawn_at > float("-inf") and not has_settled
        self.hold_s = min(self.hold_s * 2, HOLD_MOST_S) if again else HOLD_S
        self._withdrawn_at = now

    def _memory(self, signs: Signs) -> str:
        if signs.free_bytes is None:
            return ""
        short_bytes = min(max(SHORT_SHARE * signs.memory_bytes, SHORT_LEAST_BYTES), SHORT_MOST_BYTES)
        was_short = self.why == SHORT_OF_MEMORY
        return SHORT_OF_MEMORY if signs.free_bytes < short_bytes * (ENOUGH if was_short else 1) else ""

    def _others(self, signs: Signs, now: float) -> str:
        """Other programs' load; between the two shares everything stays as it is."""
        load = signs.load
        if load is None:
            return ""
        self._busy_since = None if load < BUSY_SHARE else now if self._busy_since is None else self._busy_since
        self._quiet_since = None if load >= QUIET_SHARE else now if self._quiet_since is None else self._quiet_since
        if self.lends:
            return OTHERS_BUSY if self._busy_since is not None and now - self._busy_since >= BUSY_S else ""
        return OTHERS_BUSY if self._quiet_since is None or now - self._quiet_since < QUIET_S else ""


def _hours(terms: Terms, signs: Signs) -> str:
    return "" if not terms.hours or any(span.holds(signs.minute) for span in terms.hours) else OTHER_HOURS


def _owner(signs: Signs) -> str:
    if signs.idle_s is None:
        return NOTHING_SAYS if signs.load is None else ""
    return OWNER_HERE if signs.idle_s < IDLE_S else ""
