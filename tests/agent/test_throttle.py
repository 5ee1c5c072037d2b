"""A host's part of a processor: what is used stays under it on the average, and nobody rests for long."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from motes.agent.core.throttle import KEPT_S, LONGEST_LOOK_S, LOOK_S, MOST_REST_S, OWED_S, Throttle


class Burning:
    """Work on `most` processors for as long as it may, looked at as the agent does."""

    def __init__(self, lent: float, most: float) -> None:
        self.throttle = Throttle(lent, most, 0.0)
        self.most, self.now, self.used_s, self.rested_s = most, 0.0, 0.0, 0.0
        self.longest_rest_s = 0.0

    def go_on(self, until: float, wants: float = 1.0) -> None:
        """With the part `wants` of all processors that it may use."""
        pause_s = LOOK_S
        while self.now < until:
            self.now += pause_s
            self.used_s += self.most * wants * pause_s
            self.throttle.note_used(self.most * wants * pause_s, self.now)
            rest_s = self.throttle.rest_s()
            self.now += rest_s
            self.rested_s += rest_s
            self.longest_rest_s = max(self.longest_rest_s, rest_s)
            if rest_s:
                self.throttle.note_used(0.0, self.now)
            pause_s = LOOK_S if rest_s else self.throttle.look_again_s()


@given(lent=st.floats(0.1, 3.0), seconds=st.floats(2.0, 20.0), wants=st.floats(0.0, 1.0))
def test_what_is_used_stays_under_what_is_lent(lent: float, seconds: float, wants: float) -> None:
    burning = Burning(lent, most=float(int(lent) + 1))
    burning.go_on(seconds, wants)
    most_at_once_s = burning.most * LOOK_S
    assert burning.used_s <= lent * (burning.now + KEPT_S) + most_at_once_s + 1e-6
    assert burning.longest_rest_s <= MOST_REST_S


def test_after_a_long_silence_no_more_than_a_second_of_it_may_be_used_at_once() -> None:
    burning = Burning(lent=0.5, most=1.0)
    burning.go_on(30.0, wants=0.0)
    before_s, began = burning.used_s, burning.now
    burning.go_on(began + 5.0)
    assert burning.used_s - before_s <= 0.5 * (burning.now - began + KEPT_S) + LOOK_S + 1e-6


def test_who_wants_it_all_gets_all_that_is_lent() -> None:
    burning = Burning(lent=0.5, most=1.0)
    burning.go_on(20.0)
    assert burning.used_s >= 0.45 * burning.now


def test_who_stays_under_it_never_rests() -> None:
    burning = Burning(lent=0.5, most=1.0)
    burning.go_on(20.0, wants=0.49)
    assert burning.rested_s == 0.0


def test_a_short_burst_after_silence_is_not_held_up_and_a_second_one_at_once_is() -> None:
    throttle = Throttle(lent=0.5, most=1.0, now=0.0)
    throttle.note_used(0.4, 0.4)
    assert throttle.rest_s() == 0.0
    throttle.note_used(0.4, 0.8)
    throttle.note_used(0.4, 1.2)
    assert throttle.rest_s() > 0.0


def test_what_was_used_beyond_because_a_look_came_late_is_rested_for() -> None:
    throttle, now = Throttle(lent=0.1, most=2.0, now=0.0), 0.2
    throttle.note_used(0.4, now)
    rested_s = 0.0
    while rest_s := throttle.rest_s():
        assert rest_s <= MOST_REST_S
        rested_s, now = rested_s + rest_s, now + rest_s
        throttle.note_used(0.0, now)
    # What was kept and what came in meanwhile is taken off.
    assert rested_s == pytest.approx((0.4 - 0.1 * (KEPT_S + 0.2)) / 0.1)


def test_what_was_used_beyond_is_not_remembered_for_ever() -> None:
    throttle = Throttle(lent=0.5, most=64.0, now=0.0)
    throttle.note_used(1000.0, 1.0)
    throttle.note_used(0.0, 1.1 + OWED_S)
    assert throttle.rest_s() == 0.0


@pytest.mark.parametrize("used_s", [0.0, 0.49])
def test_before_something_can_be_used_beyond_it_is_looked_at_again(used_s: float) -> None:
    throttle = Throttle(lent=0.5, most=1.0, now=0.0)
    throttle.note_used(used_s, 0.0)
    assert LOOK_S <= throttle.look_again_s() <= LONGEST_LOOK_S
    throttle.note_used(throttle.look_again_s() * 1.0, throttle.look_again_s())
    assert throttle.rest_s() <= LOOK_S
