"""Removing what an instance left."""

from __future__ import annotations

import os
from pathlib import Path

from motes.space.guest.sweep import remove_tree


def test_deep_locked_and_linked_folders_go_and_what_links_lead_to_stays(tmp_path: Path) -> None:
    beside, top = tmp_path / "beside", tmp_path / "1"
    beside.mkdir()
    (beside / "file").write_text("kept")
    (top / "locked" / "inner").mkdir(parents=True)
    (top / "locked" / "inner" / "file").write_text("x")
    (top / "link").symlink_to(beside)
    (top / "locked").chmod(0)
    before = os.getcwd()
    os.chdir(top)
    try:
        for _ in range(3000):  # Deeper than Python's recursion, and than a path may be long.
            os.mkdir("deep")
            os.chdir("deep")
    finally:
        os.chdir(before)
    remove_tree(str(top))
    assert os.listdir(tmp_path) == ["beside"] and (beside / "file").read_text() == "kept"
