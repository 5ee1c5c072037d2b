"""What `place=` may say, and which hosts are meant."""

from __future__ import annotations

import re

import pytest

from motes.model.place import MOST_TERMS, TERM, of_the_hosts_own_word, parse_place, traits_of, unmet


@pytest.mark.parametrize(
    ("given", "place"),
    [
        ("own", ("own",)),
        ("gpu, !attic", ("gpu", "!attic")),
        (("named:lab", "arch:x86_64", "!arch:aarch64", "!named:old"), None),
        (("gpu", "gpu"), ("gpu",)),
        ("", ()),
        ((), ()),
    ],
)
def test_a_place_is_terms_with_commas_or_in_a_tuple(
    given: str | tuple[str, ...], place: tuple[str, ...] | None
) -> None:
    found = parse_place(given)
    assert found == (given if place is None else place)
    assert all(re.match(TERM, term) for term in found)


@pytest.mark.parametrize(
    "given",
    [
        *("!own", "named:", "arch:", "names:lab", "named:a:b", "gpu !attic", "!", "!!gpu", "gpu,!gpu"),
        *("named:!lab", "-x", "ü", (1,), ",".join(f"l{number}" for number in range(MOST_TERMS + 1))),
    ],
)
def test_what_is_no_place_is_refused_with_how_to_write_one(given: str) -> None:
    with pytest.raises(ValueError, match="place"):
        parse_place(given)


@pytest.mark.parametrize("term", ["!own", "named:", "a b", "names:lab", "!!gpu", "gpu\n", ""])
def test_the_pattern_of_a_term_takes_no_more_than_the_parser(term: str) -> None:
    assert not re.match(TERM, term)


def test_every_term_must_hold_and_none_that_is_excluded() -> None:
    traits = {"own", "gpu", "named:lab", "arch:x86_64"}
    assert unmet(("own", "gpu", "!attic", "!named:old", "arch:x86_64"), traits) == []
    assert unmet(("gpu", "attic", "!named:lab", "arch:aarch64"), traits) == ["attic", "!named:lab", "arch:aarch64"]


def test_a_host_cannot_say_of_itself_what_the_keeper_says() -> None:
    assert traits_of(["own", "named:lab", "arch:other", "!attic", "gpu"], "named:lab") == {"gpu"}
    assert traits_of(["gpu"], "aarch64") == {"gpu", "arch:aarch64"}


def test_a_host_knows_of_itself_its_labels_and_its_processor_only() -> None:
    place = ("own", "named:lab", "!named:old", "gpu", "!attic", "arch:x86_64")
    assert of_the_hosts_own_word(place) == ["gpu", "!attic", "arch:x86_64"]
