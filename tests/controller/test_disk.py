"""The keeper's disk: full, and with room again."""

from __future__ import annotations

from pathlib import Path

import pytest

from motes.controller.disk import FULL_BYTES, ROOM_BYTES, Disk, free_bytes
from motes.errors import Unavailable


class Device:
    def __init__(self) -> None:
        self.left = 100 * ROOM_BYTES
        self.restarts = 0
        self.disk = Disk(Path("/home"), self._restart, lambda folder: self.left)

    def _restart(self) -> None:
        self.restarts += 1

    def become(self, left: int) -> None:
        self.left = left
        self.disk.tick()


def test_what_would_not_fit_is_refused_with_what_to_do_and_what_runs_is_not_asked() -> None:
    device = Device()
    device.disk.check()
    device.left = ROOM_BYTES - 1
    with pytest.raises(Unavailable, match=r"No space left on device.*/home.*free some space and try again"):
        device.disk.check()


def test_the_server_is_started_anew_once_when_a_full_disk_has_room_again() -> None:
    device = Device()
    for left in (0, 0, FULL_BYTES, ROOM_BYTES - 1):
        device.become(left)
        assert device.restarts == 0
    for left in (ROOM_BYTES, 100 * ROOM_BYTES):
        device.become(left)
        assert device.restarts == 1
    device.become(0)
    device.become(ROOM_BYTES)
    assert device.restarts == 2


def test_a_disk_that_was_only_nearly_full_is_no_reason() -> None:
    device = Device()
    device.become(FULL_BYTES)
    device.become(ROOM_BYTES)
    assert device.restarts == 0


def test_what_is_free_is_what_the_system_says(tmp_path: Path) -> None:
    assert free_bytes(tmp_path) > 0
