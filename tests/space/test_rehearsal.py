"""What a zygote does before it knows its app leaves nothing behind."""

from __future__ import annotations

import os

import pytest

from motes.space.guest.rehearsal import rehearse


def test_a_rehearsal_leaves_no_descriptor_open_and_the_environment_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/somebody")
    monkeypatch.setenv("TMPDIR", "/tmp")
    before = dict(os.environ), os.listdir("/proc/self/fd")
    rehearse()
    assert (dict(os.environ), os.listdir("/proc/self/fd")) == before
