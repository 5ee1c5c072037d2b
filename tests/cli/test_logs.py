"""The end of a log, cut out of the messages it came in."""

from __future__ import annotations

import pytest

from motes.cli.logs import last_lines
from motes.model.keeper import LogLine


def message(text: str) -> LogLine:
    return LogLine(1.0, "host", "app", "work", 7, text)


@pytest.mark.parametrize(
    ("limit", "texts"),
    [
        (1, ["e"]),
        (2, ["d\n", "e"]),
        (4, ["b\nc\n", "d\n", "e"]),
        (9, ["a\nb\nc\n", "d\n", "e"]),
    ],
)
def test_the_limit_counts_lines_and_not_messages(limit: int, texts: list[str]) -> None:
    found = [message("a\nb\nc\n"), message("d\n"), message("e")]
    assert [each.text for each in last_lines(found, limit)] == texts


def test_an_empty_log_has_no_end() -> None:
    assert last_lines([], 5) == []
