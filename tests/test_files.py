"""A file that is replaced is never found half, nor open to others."""

from __future__ import annotations

import os
import resource
from pathlib import Path
from typing import Any

import pytest

from motes.files import read_foreign, replace


def test_what_was_there_is_still_there_where_the_new_does_not_fit(tmp_path: Path) -> None:
    file = tmp_path / "chosen"
    replace(file, "before")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, hard))
    try:
        with pytest.raises(OSError):
            replace(file, "x" * 100)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert file.read_text() == "before" and list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize(("umask", "mode"), [(0o000, 0o600), (0o077, 0o644)])
def test_who_may_read_it_is_not_the_umasks_to_say(tmp_path: Path, umask: int, mode: int) -> None:
    before = os.umask(umask)
    try:
        replace(tmp_path / "unit", b"text", mode)
    finally:
        os.umask(before)
    assert (tmp_path / "unit").stat().st_mode & 0o777 == mode


def test_all_of_it_is_on_the_disk_before_it_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    sync, rename = os.fsync, os.replace

    def note_sync(descriptor: int) -> None:
        sync(descriptor)
        done.append(f"{os.fstat(descriptor).st_size} bytes on the disk")

    def note_rename(*words: Any, **more: Any) -> None:
        rename(*words, **more)
        done.append("named")

    monkeypatch.setattr(os, "fsync", note_sync)
    monkeypatch.setattr(os, "replace", note_rename)
    replace(tmp_path / "keeper.json", "1234567", synced=True)
    assert done == ["7 bytes on the disk", "named"]


def test_of_another_users_files_no_link_is_followed_nobody_waited_for_and_only_so_much_read(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x" * 100)
    assert read_foreign(tmp_path / "file", 1000) == b"x" * 100
    assert read_foreign(tmp_path / "file", 10) == b"x" * 10
    (tmp_path / "link").symlink_to("/dev/zero")
    os.mkfifo(tmp_path / "pipe")
    os.mkfifo(tmp_path / "silent")
    # Somebody has it open who may yet write: there is neither an end nor anything to read.
    writer = os.open(tmp_path / "silent", os.O_RDWR)
    before = os.listdir("/proc/self/fd")
    for name in ("link", ".", "nothing", "pipe", "silent"):
        with pytest.raises(OSError):
            read_foreign(tmp_path / name, 1000)
    assert os.listdir("/proc/self/fd") == before
    os.close(writer)
