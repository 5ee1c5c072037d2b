"""The core that decides whether a host lends: what each term allows, and that nothing flaps."""

from __future__ import annotations

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from motes.agent.core.lending import (
    BUSY_S,
    HOLD_MOST_S,
    HOLD_S,
    IDLE_S,
    NO_CHARGER,
    NOTHING_SAYS,
    OTHER_HOURS,
    OTHERS_BUSY,
    OWNER_HERE,
    QUIET_S,
    SETTLING,
    SHORT_OF_MEMORY,
    Lending,
    Signs,
)
from motes.model.hours import parse_hours
from motes.model.terms import Terms

GIB = 2**30
AWAY = Signs(idle_s=IDLE_S, charging=True, free_bytes=8 * GIB, memory_bytes=16 * GIB)
ALWAYS, IDLE, CHARGING = Terms(), Terms(idle=True), Terms(charging=True)


class Looks:
    """A Lending that is asked once a second."""

    def __init__(self, terms: Terms) -> None:
        self.lending, self.terms, self.now = Lending(), terms, 1_000.0

    def see(self, seconds: float = 1.0, **signs: object) -> str:
        """What it says after so long of these signs."""
        shown = msgspec.structs.replace(AWAY, **signs)
        for _ in range(int(seconds)):
            self.now += 1.0
            self.lending.look(self.terms, shown, self.now)
        return self.lending.why


def test_without_terms_a_host_lends_always() -> None:
    assert Looks(ALWAYS).see(idle_s=0.0, charging=False, load=1.0, free_bytes=None) == ""


def test_outside_its_hours_it_lends_nothing() -> None:
    looks = Looks(Terms(hours=parse_hours("22-07")))
    assert looks.see(minute=23 * 60) == "" and looks.see(minute=7 * 60) == OTHER_HOURS
    looks.see(HOLD_S, minute=12 * 60)
    assert looks.see(minute=22 * 60) == ""


def test_the_charger_that_is_pulled_is_seen_at_once_and_so_is_one_that_nobody_knows_of() -> None:
    assert Looks(CHARGING).see() == ""
    assert Looks(CHARGING).see(charging=None) == NO_CHARGER
    looks = Looks(CHARGING)
    assert [looks.see(), looks.see(charging=False)] == ["", NO_CHARGER]


def test_an_owner_who_is_back_is_seen_at_once_and_away_only_after_minutes() -> None:
    looks = Looks(IDLE)
    assert looks.see() == "" and looks.see(idle_s=0.0) == OWNER_HERE
    assert looks.see(60.0, idle_s=IDLE_S - 1) == OWNER_HERE
    assert looks.see() == ""


def test_where_nothing_says_whether_the_owner_is_here_he_is() -> None:
    assert Looks(IDLE).see(idle_s=None) == NOTHING_SAYS
    assert Looks(IDLE).see(QUIET_S + 1, idle_s=None, load=0.0) == ""


def test_other_programs_that_work_are_the_owner_but_not_for_a_moment() -> None:
    looks = Looks(IDLE)
    assert looks.see(load=0.0) == OTHERS_BUSY, "it has not seen a quiet minute yet"
    assert looks.see(QUIET_S, load=0.0) == ""
    assert looks.see(load=0.9) == "" and looks.see(load=0.0) == "" and looks.see(load=0.9) == ""
    assert looks.see(BUSY_S + 1, load=0.9) == OTHERS_BUSY
    assert looks.see(QUIET_S - 1, load=0.0) == OTHERS_BUSY
    assert looks.see(load=0.4) == OTHERS_BUSY, "a minute that was not quiet begins again"
    assert looks.see(QUIET_S, load=0.0) == OTHERS_BUSY and looks.see(load=0.0) == ""


def test_between_busy_and_quiet_everything_stays_as_it_is() -> None:
    looks = Looks(IDLE)
    assert looks.see(QUIET_S + 1, load=0.0) == "" and looks.see(600.0, load=0.4) == ""
    looks.see(5.0, load=0.9)
    assert looks.see(600.0, load=0.4) == OTHERS_BUSY


def test_a_machine_short_of_memory_lends_nothing_whatever_the_terms() -> None:
    looks = Looks(ALWAYS)
    assert looks.see() == "" and looks.see(free_bytes=GIB // 4) == SHORT_OF_MEMORY
    assert looks.see(60.0, free_bytes=GIB // 4 * 3) == SHORT_OF_MEMORY, "a little more is not enough"
    assert looks.see(free_bytes=GIB) == ""
    assert Looks(ALWAYS).see(free_bytes=100 * 2**20, memory_bytes=GIB) == "", "a small board is not short yet"


def test_whoever_comes_and_goes_makes_it_lend_less_and_less_often() -> None:
    looks = Looks(CHARGING)
    looks.see()
    changes = 0
    for _ in range(3600):
        before = looks.lending.lends
        looks.see(charging=not before)
        changes += looks.lending.lends != before
    assert changes <= 2 * 12, "it flaps"
    # When all has been well for long, the next time it is soon back.
    assert looks.see(2 * HOLD_MOST_S) == ""
    assert looks.see(charging=False) == NO_CHARGER and looks.see() == SETTLING
    assert looks.see(HOLD_S) == ""


def test_the_owners_own_word_counts_at_once() -> None:
    looks = Looks(IDLE)
    assert looks.see() == "" and looks.see(idle_s=0.0) == OWNER_HERE
    looks.terms = ALWAYS
    assert looks.see(idle_s=0.0) == ""
    looks.terms = IDLE
    assert looks.see(idle_s=0.0) == OWNER_HERE


signs = st.builds(
    Signs,
    minute=st.integers(0, 7 * 24 * 60 - 1),
    idle_s=st.none() | st.sampled_from((0.0, IDLE_S - 1, IDLE_S, 9e9)),
    load=st.none() | st.sampled_from((0.0, 0.3, 1.0)),
    charging=st.sampled_from((None, False, True)),
    free_bytes=st.none() | st.sampled_from((0, GIB, 16 * GIB)),
    memory_bytes=st.just(16 * GIB),
)
terms = st.builds(
    Terms, hours=st.sampled_from(("", "22-07", "sat-sun")).map(parse_hours), idle=st.booleans(), charging=st.booleans()
)


@given(terms, st.lists(st.tuples(st.sampled_from((0.1, 1.0, 30.0)), signs), max_size=30))
def test_it_never_lends_against_the_terms_and_always_says_why(terms: Terms, looks: list[tuple[float, Signs]]) -> None:
    lending, now = Lending(), 0.0
    for passed_s, shown in looks:
        now += passed_s
        if lending.look(terms, shown, now):
            assert not lending.lends
            continue
        assert not terms.charging or shown.charging
        assert not terms.hours or any(span.holds(shown.minute) for span in terms.hours)
        assert not terms.idle or (shown.idle_s is None or shown.idle_s >= IDLE_S)
        assert not terms.idle or shown.idle_s is not None or shown.load is not None
        assert shown.free_bytes != 0
