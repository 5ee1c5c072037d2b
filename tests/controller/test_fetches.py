"""What hosts are fetching, from the chunks that they ask for."""

from __future__ import annotations

from motes.controller.fetches import MOST, UNDER_WAY_S, Fetches
from motes.model.keeper import CHUNK_BYTES, Fetching

NEVER = float("-inf")


def test_a_fetch_is_followed_until_it_is_whole_or_quiet() -> None:
    fetches = Fetches()
    fetches.note("a", "layer", 0, 4, 0.0)
    fetches.note("a", "layer", 2, 4, 1.0)
    fetches.note("b", "layer", 0, 4, 1.0)
    assert fetches.under_way(2.0) == [
        Fetching("a", "layer", 3 * CHUNK_BYTES, 4 * CHUNK_BYTES),
        Fetching("b", "layer", CHUNK_BYTES, 4 * CHUNK_BYTES),
    ]
    fetches.note("a", "layer", 3, 4, 2.0)
    assert [each.host for each in fetches.under_way(2.0)] == ["b"]
    assert fetches.under_way(2.0 + UNDER_WAY_S) == []


def test_only_a_chunk_that_was_not_asked_for_before_is_a_step() -> None:
    fetches = Fetches()
    assert fetches.stepped_at("a") == NEVER
    fetches.note("a", "layer", 5, 9, 0.0)
    for second in (1.0, 2.0, 3.0):
        fetches.note("a", "layer", 5, 9, second)
    assert (fetches.stepped_at("a"), fetches.stepped_at("b")) == (0.0, NEVER)
    fetches.note("a", "layer", 6, 9, 4.0)
    assert fetches.stepped_at("a") == 4.0


def test_one_that_begins_anew_after_a_break_is_followed_from_there() -> None:
    fetches = Fetches()
    fetches.note("a", "layer", 5, 9, 0.0)
    fetches.note("a", "layer", 0, 9, UNDER_WAY_S)
    assert [each.done_bytes for each in fetches.under_way(UNDER_WAY_S)] == [CHUNK_BYTES]


def test_what_is_followed_is_bounded() -> None:
    fetches = Fetches()
    for number in range(MOST + 5):
        fetches.note("a", str(number), 0, 2, 0.0)
    assert len(fetches.under_way(0.0)) == MOST and fetches.under_way(0.0)[0].archive != "0"
