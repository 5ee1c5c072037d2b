"""Sizes and durations as people write them."""

from __future__ import annotations

import pytest

from motes.model.units import parse_bytes, parse_seconds


@pytest.mark.parametrize(
    ("text", "count"),
    [("64 MiB", 64 * 2**20), ("1GB", 10**9), (" 1.5 kib ", 1536), ("7", 7), ("0b", 0), (5, 5), (2.9, 2)],
)
def test_sizes_as_people_write_them(text: str | float, count: int) -> None:
    assert parse_bytes(text) == count


@pytest.mark.parametrize(("text", "seconds"), [("30 s", 30.0), ("250 ms", 0.25), ("5min", 300.0), ("1.5", 1.5)])
def test_durations_as_people_write_them(text: str, seconds: float) -> None:
    assert parse_seconds(text) == seconds


@pytest.mark.parametrize(
    "text",
    [
        "",
        "MiB",
        "1.",
        ".5 MiB",
        "1.2.3 MiB",
        "-1 MiB",
        "1 2 MiB",
        "64 MiBs",
        "1e3",
        "²",
        -1,
        "9" * 400 + " MiB",
        float("inf"),
        float("nan"),
    ],
)
def test_what_is_no_size(text: str | float) -> None:
    with pytest.raises(ValueError):
        parse_bytes(text)


@pytest.mark.parametrize(
    "text", ["2mo", "inf", "nan", "-5s", "9" * 400, "9" * 305 + "d", float("inf"), float("nan"), -0.5]
)
def test_what_is_no_duration(text: str | float) -> None:
    with pytest.raises(ValueError):
        parse_seconds(text)
