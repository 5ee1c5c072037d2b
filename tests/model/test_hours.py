"""Hours as an owner writes them: over midnight, in several spans, on some days of the week."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from motes.model.hours import DAYS, WEEK_MINUTES, parse_hours


def at(day: str, time: str) -> int:
    hour, _, minute = time.partition(":")
    return DAYS.index(day) * 24 * 60 + int(hour) * 60 + int(minute)


def holds(text: str, day: str, time: str) -> bool:
    return any(span.holds(at(day, time)) for span in parse_hours(text))


@pytest.mark.parametrize("day", DAYS)
def test_a_span_over_midnight_holds_on_both_sides_of_it(day: str) -> None:
    assert holds("22-07", day, "22:00") and holds("22-07", day, "23:59")
    assert holds("22-07", day, "00:00") and holds("22-07", day, "06:59")
    assert not holds("22-07", day, "07:00") and not holds("22-07", day, "21:59")


def test_several_spans_with_minutes() -> None:
    text = "22:30-07:00+12-13"
    assert [holds(text, "wed", time) for time in ("22:29", "22:30", "12:59", "13:00")] == [False, True, True, False]


def test_days_of_the_week_and_the_night_after_them() -> None:
    text = "fri/20-02+sat-sun"
    assert holds(text, "fri", "20:00") and not holds(text, "fri", "19:59") and not holds(text, "thu", "23:00")
    assert holds(text, "sat", "01:00") and holds(text, "sun", "23:59") and not holds(text, "mon", "00:00")
    # The night of Sunday is over only on Monday, which is the first day.
    assert holds("sun/22-07", "mon", "06:59") and not holds("sun/22-07", "sun", "06:59")
    assert holds("sat-mon/8-9", "mon", "08:30") and not holds("sat-mon/8-9", "tue", "08:30")


def test_from_a_time_to_the_same_is_all_day() -> None:
    assert all(holds("07-07", "mon", time) and holds("00-24", "mon", time) for time in ("00:00", "07:00", "23:59"))


@pytest.mark.parametrize(
    "text",
    [
        *("7", "22-", "-7", "25-26", "22-07:60", "22-7:5", "22:-07", "a-b", "mon/", "funday", "mon-/22-07", "22-07+"),
        *("+", "22--07", "22-07-08", "\u0662\u0662-07", "1e1-12", " 22-07", "+".join(["22-07"] * 17)),
    ],
)
def test_what_are_no_hours_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_hours(text)


@given(st.integers(0, 23), st.integers(0, 59), st.integers(0, 24 * 60 - 1), st.integers(0, WEEK_MINUTES - 1))
def test_a_span_holds_as_many_minutes_of_each_day_as_it_is_long(hour: int, minute: int, long: int, when: int) -> None:
    end = hour * 60 + minute + long
    text = f"{hour}:{minute:02}-{end // 60 % 24:02}:{end % 60:02}"
    spans = parse_hours(text)
    day = when - when % (24 * 60)
    held = sum(any(span.holds(day + each) for span in spans) for each in range(24 * 60))
    assert held == (long or 24 * 60)
