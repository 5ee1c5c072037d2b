from __future__ import annotations

import hashlib
import multiprocessing
import os
import signal
import stat
import time
import tracemalloc
import zlib
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from motes.bundle.pack import pack
from motes.bundle.sources import APP
from motes.bundle.unpack import discard, unpack
from motes.errors import BadBundle, MotesError, TooLarge, Untrusted

Listed = tuple[str, int, bool]


def evil(*listed: Listed, content: bytes = b"", length: int | None = None) -> bytes:
    """A bundle made by hand."""
    data = msgspec.msgpack.encode(list(listed))
    length = len(data) if length is None else length
    return zlib.compress(length.to_bytes(4, "big") + data + content)


def unpack_whole(data: bytes, target: Path) -> None:
    unpack(data, hashlib.sha256(data).hexdigest(), target)


@pytest.fixture
def target(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "cache" / "bundle"
    discard(tmp_path / "cache")


def test_what_was_packed_comes_out_read_only_and_the_same(tmp_path: Path, target: Path) -> None:
    (tmp_path / "app/inner").mkdir(parents=True)
    (tmp_path / "app/inner/data.bin").write_bytes(os.urandom(3 * 2**20))
    (tmp_path / "app/empty.py").write_text("")
    (tmp_path / "app/run").write_text("#!/bin/sh")
    os.chmod(tmp_path / "app/run", 0o755)
    bundle = pack(tmp_path / "app")
    unpack(bundle.data, bundle.hash, target)
    assert (target / "inner/data.bin").read_bytes() == (tmp_path / "app/inner/data.bin").read_bytes()
    modes = {name: stat.S_IMODE(os.stat(target / name).st_mode) for name in ("empty.py", "run", "inner", ".")}
    assert modes == {"empty.py": 0o444, "run": 0o555, "inner": 0o555, ".": 0o555}
    assert os.listdir(target.parent) == ["bundle"]


def test_a_second_unpack_does_nothing(target: Path) -> None:
    data = evil(("a.py", 1, False), content=b"x")
    unpack_whole(data, target)
    before = os.stat(target / "a.py")
    unpack_whole(data, target)
    assert os.stat(target / "a.py") == before


def test_a_bundle_of_another_hash_writes_nothing(target: Path) -> None:
    with pytest.raises(Untrusted):
        unpack(evil(("a.py", 0, False)), "0" * 64, target)
    assert not target.parent.exists()


@pytest.mark.parametrize(
    "name",
    ["/etc/evil", "../evil", "a/../../evil", "a//b", "./a", "a/", "", "a\0b", "x" * 256, "d/" * 40 + "f", ".", ".."],
)
def test_a_name_that_leads_anywhere_else_writes_nothing(target: Path, name: str) -> None:
    with pytest.raises(BadBundle):
        unpack_whole(evil(("good.py", 0, False), (name, 0, False)), target)
    assert not target.parent.exists()


@pytest.mark.parametrize("names", [("a", "a"), ("a", "a/b"), ("a/b/c", "a/b"), ("a/b/c", "a")])
def test_a_name_that_is_there_twice_or_is_file_and_folder_writes_nothing(target: Path, names: tuple[str, str]) -> None:
    with pytest.raises(BadBundle):
        unpack_whole(evil(*((name, 0, False) for name in names)), target)
    assert not target.parent.exists()


def test_a_bomb_ends_at_the_size_it_declared(target: Path) -> None:
    with pytest.raises(BadBundle, match="goes on after"):
        unpack_whole(evil(("a", 10, False), content=bytes(100 * 2**20)), target)
    assert os.listdir(target.parent) == []


def test_a_bomb_in_the_list_of_files_is_not_inflated(target: Path) -> None:
    bomb = zlib.compress((2**32 - 1).to_bytes(4, "big") + bytes(200 * 2**20))
    tracemalloc.start()
    try:
        with pytest.raises(BadBundle, match="list of files"):
            unpack_whole(bomb, target)
        assert tracemalloc.get_traced_memory()[1] < 20 * 2**20
    finally:
        tracemalloc.stop()


def test_sizes_over_the_limits_write_nothing(target: Path) -> None:
    with pytest.raises(BadBundle):
        unpack_whole(evil(("a", APP.file_bytes + 1, False)), target)
    with pytest.raises(BadBundle):
        unpack_whole(evil(("a", -1, False)), target)
    with pytest.raises(TooLarge):
        unpack_whole(evil(*((name, APP.file_bytes, False) for name in "abc")), target)
    with pytest.raises(BadBundle):
        unpack_whole(evil(*((str(number), 0, False) for number in range(10_001))), target)
    assert not target.parent.exists()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"not zlib",
        zlib.compress(b""),
        zlib.compress(b"\0\0\0\5abc"),
        evil(("a", 5, False), content=b"abc"),
        evil(("a", 1, False), content=b"ab"),
        evil(("a", 1, False), content=b"a") + b"more",
        evil(("a", 1, False), content=b"a")[:-2],
        zlib.compress(b"\0\0\0\1\xc0"),
        zlib.compress(b"\0\0\0\4\x91\x93\xa1a"),
    ],
)
def test_a_broken_bundle_leaves_nothing(target: Path, data: bytes) -> None:
    with pytest.raises(BadBundle):
        unpack_whole(data, target)
    assert not target.exists()
    assert not target.parent.exists() or os.listdir(target.parent) == []


@given(st.binary(max_size=200), st.binary(max_size=50))
def test_no_bytes_at_all_raise_anything_but_our_errors(
    tmp_path_factory: pytest.TempPathFactory, listed: bytes, content: bytes
) -> None:
    target = tmp_path_factory.mktemp("fuzz") / "bundle"
    try:
        unpack_whole(zlib.compress(len(listed).to_bytes(4, "big") + listed + content), target)
    except MotesError:
        assert not target.exists()
    else:
        discard(target)


def test_a_link_planted_where_the_folder_is_filled_is_not_followed(tmp_path: Path, target: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    target.parent.mkdir()
    (target.parent / ".bundle.partial").symlink_to(outside)
    with pytest.raises(FileExistsError):
        unpack_whole(evil(("a", 0, False)), target)
    assert os.listdir(outside) == []


def _unpack_slowly(data: bytes, target: Path) -> None:
    import motes.bundle.unpack as module

    write_file = module._write_file

    def slow(*arguments: object) -> None:
        write_file(*arguments)  # type: ignore[arg-type]
        time.sleep(60)

    module._write_file = slow  # type: ignore[assignment]
    unpack_whole(data, target)


def test_a_kill_in_the_middle_leaves_no_target_and_the_next_unpack_succeeds(target: Path) -> None:
    data = evil(("a/b", 1, False), ("c", 1, False), content=b"xy")
    process = multiprocessing.get_context("spawn").Process(target=_unpack_slowly, args=(data, target))
    process.start()
    deadline = time.monotonic() + 30
    while not (target.parent / ".bundle.partial/a/b").exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join(30)
    assert not target.exists()
    unpack_whole(data, target)
    assert (target / "c").read_text() == "y"
    assert os.listdir(target.parent) == ["bundle"]
