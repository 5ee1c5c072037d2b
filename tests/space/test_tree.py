"""What lies in a folder on the host's disk is looked at a part at a time, so that nobody waits for it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from motes.space import measure
from motes.space.measure import DEEPEST, ENTRIES_AT_ONCE, MOST_ENTRIES, TOO_MUCH, Tree

LOOKS = MOST_ENTRIES // ENTRIES_AT_ONCE + 1


@contextlib.contextmanager
def tree_of(folder: Path) -> Iterator[Tree]:
    descriptor = os.open(folder, os.O_PATH)
    try:
        yield Tree(descriptor)
    finally:
        os.close(descriptor)


def test_what_is_written_shows_and_what_is_removed_goes(tmp_path: Path) -> None:
    with tree_of(tmp_path) as tree:
        assert tree.look() == 0
        (tmp_path / "deep").mkdir()
        (tmp_path / "deep" / "file").write_bytes(os.urandom(2**20))
        assert tree.look() >= 2**20
        (tmp_path / "deep" / "file").unlink()
        assert tree.look() < 2**20


def test_one_look_takes_no_more_than_its_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(ENTRIES_AT_ONCE * 3):
        (tmp_path / f"{number}").mkdir()
    opened = []
    real = os.open
    monkeypatch.setattr(measure.os, "open", lambda *words, **more: opened.append(words) or real(*words, **more))
    with tree_of(tmp_path) as tree:
        for _ in range(5):
            opened.clear()
            tree.look()
            assert len(opened) <= 2 * ENTRIES_AT_ONCE + 1


def test_what_has_been_seen_so_far_counts_at_once_and_the_last_sum_until_a_new_one_is_there(tmp_path: Path) -> None:
    for number in range(ENTRIES_AT_ONCE * 2 + 1):
        (tmp_path / f"{number}").write_bytes(b"x")
    with tree_of(tmp_path) as tree:
        first, second, whole = tree.look(), tree.look(), tree.look()
        assert 0 < first < second < whole
        assert [tree.look() for _ in range(3)] == [whole] * 3
        (tmp_path / "0").write_bytes(os.urandom(2**22))
        assert max(tree.look() for _ in range(3)) >= 2**22


@pytest.mark.parametrize("how", ["many", "deep"])
def test_too_much_to_look_at_is_told_within_some_looks(tmp_path: Path, how: str) -> None:
    if how == "many":
        for number in range(MOST_ENTRIES + 1):
            os.mknod(tmp_path / f"{number}")
    else:
        (tmp_path / "/".join("d" * (DEEPEST + 1))).mkdir(parents=True)
    with tree_of(tmp_path) as tree:
        assert TOO_MUCH in [tree.look() for _ in range(LOOKS)]


def test_nothing_stays_open_of_a_look_that_was_not_ended(tmp_path: Path) -> None:
    for number in range(ENTRIES_AT_ONCE + 1):
        (tmp_path / f"{number}" / "inner").mkdir(parents=True)
    before = len(os.listdir("/proc/self/fd"))
    with tree_of(tmp_path) as tree:
        tree.look()
        assert len(os.listdir("/proc/self/fd")) > before + 1
        del tree
    assert len(os.listdir("/proc/self/fd")) == before
