"""The hours of a week, as an owner writes them: `22-07`, `22:30-07:00+12-13`, `mon-fri/19-07+sat-sun`. Pure.

A time is the wall clock's. A span that ends before it begins ends on the next day; days without a span are whole days.
"""

from __future__ import annotations

from typing import NamedTuple

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
DAY_MINUTES = 24 * 60
WEEK_MINUTES = 7 * DAY_MINUTES
MOST_SPANS = 16
EXAMPLE = "22-07, 22:30-07:00+12-13, mon-fri/19-07+sat-sun"


class Span(NamedTuple):
    """Some minutes of each week; the first minute of Monday is 0."""

    begins: int
    minutes: int

    def holds(self, minute: int) -> bool:
        """Whether this minute of the week is in it."""
        return (minute - self.begins) % WEEK_MINUTES < self.minutes


def parse_hours(text: str) -> tuple[Span, ...]:
    """The spans; empty text is none at all. Raises ValueError."""
    parts = text.split("+") if text else []
    if len(parts) > MOST_SPANS:
        raise ValueError(f"over {MOST_SPANS} spans of hours")
    return tuple(span for part in parts for span in _spans(part))


def _spans(text: str) -> list[Span]:
    days, slash, times = text.partition("/")
    if not slash and text[:1].isalpha():
        times = "00-24"
    elif not slash:
        days, times = "mon-sun", text
    first, dash, last = times.partition("-")
    begins, ends = _minute(first), _minute(last)
    if not dash:
        raise ValueError(f"{text!r} are no hours; write them like {EXAMPLE}")
    # From and to the same time is once around the clock.
    minutes = (ends - begins) % DAY_MINUTES or DAY_MINUTES
    return [Span(day * DAY_MINUTES + begins, minutes) for day in _days(days)]


def _minute(text: str) -> int:
    hour, colon, minute = text.partition(":")
    digits = hour.isascii() and hour.isdigit() and len(hour) <= 2
    fraction = not colon or (minute.isascii() and minute.isdigit() and len(minute) == 2 and int(minute) < 60)
    found = int(hour) * 60 + int(minute or 0) if digits and fraction else -1
    if not 0 <= found <= DAY_MINUTES:
        raise ValueError(f"{text!r} is no time of the day; write hours like {EXAMPLE}")
    return found


def _days(text: str) -> list[int]:
    first, dash, last = text.partition("-")
    if first not in DAYS or (dash and last not in DAYS):
        raise ValueError(f"{text!r} are no days; they are {', '.join(DAYS)}, as in {EXAMPLE}")
    begin, end = DAYS.index(first), DAYS.index(last or first)
    return [day % 7 for day in range(begin, begin + (end - begin) % 7 + 1)]
