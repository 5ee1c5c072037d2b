"""Archives on a host's disk: fetched once, resumed after a break, never beyond a limit, never while in use."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from motes.agent.disk import Disk
from motes.agent.shelf import CHUNKS_AT_ONCE, Shelf
from motes.bundle.pack import pack_layer
from motes.bundle.sources import LAYER
from motes.errors import BadBundle, MotesError, SpaceFailed, Unavailable, Untrusted
from motes.model.keeper import CHUNK_BYTES, MOST_CHUNKS


class Keeper:
    """Has archives, and may break."""

    def __init__(self) -> None:
        self.archives: dict[str, list[bytes]] = {}
        self.asked: list[int] = []
        self.left = 10**9

    def add(self, data: bytes, chunks: Sequence[bytes] | None = None) -> str:
        name = hashlib.sha256(data).hexdigest()
        self.archives[name] = list(chunks or (data[at : at + CHUNK_BYTES] for at in range(0, len(data), CHUNK_BYTES)))
        return name

    async def chunk(self, archive: str, index: int) -> tuple[int, bytes]:
        if self.left == 0:
            raise Unavailable("the keeper is away")
        self.left -= 1
        self.asked.append(index)
        return len(self.archives[archive]), self.archives[archive][index]


@pytest.fixture
def keeper() -> Keeper:
    return Keeper()


def packed(folder: Path, size: int, name: str = "f", *, of: bytes | None = None) -> bytes:
    """A layer with one file: of random bytes, or of one again and again."""
    source = folder / f"source-{name}"
    source.mkdir()
    (source / name).write_bytes(os.urandom(size) if of is None else of * size)
    pack_layer(source, folder / f"{name}.layer")
    return (folder / f"{name}.layer").read_bytes()


def shelf(
    folder: Path, keeper: Keeper, *, most: int = 100, most_bytes: int = 10**12, used: Sequence[Path] = ()
) -> Shelf:
    disk = Disk(most_bytes, lambda: set(used))
    return Shelf(folder / "shelf", LAYER, most, keeper.chunk, disk)


def test_what_arrived_before_a_break_is_not_fetched_again_also_by_a_new_agent(tmp_path: Path, keeper: Keeper) -> None:
    data = packed(tmp_path, 30 * CHUNK_BYTES)
    archive = keeper.add(data)
    count = len(keeper.archives[archive])
    keeper.left = 2 * CHUNKS_AT_ONCE + 3
    with pytest.raises(Unavailable):
        asyncio.run(shelf(tmp_path, keeper).get(archive))
    keeper.left, first = 10**9, set(keeper.asked)
    keeper.asked.clear()
    folder = asyncio.run(shelf(tmp_path, keeper).get(archive))
    assert (folder / "f").stat().st_size == 30 * CHUNK_BYTES
    again = first & set(keeper.asked) - {0}
    assert len(again) <= CHUNKS_AT_ONCE, again
    assert len(keeper.asked) <= count + 1 - 2 * CHUNKS_AT_ONCE + CHUNKS_AT_ONCE
    assert not list((tmp_path / "shelf" / ".parts").iterdir())


def test_it_tells_how_much_has_still_to_come_as_long_as_something_has(tmp_path: Path, keeper: Keeper) -> None:
    archive = keeper.add(packed(tmp_path, 30 * CHUNK_BYTES))
    count = len(keeper.archives[archive])
    here = shelf(tmp_path, keeper)
    seen: list[int | None] = []

    async def watched(name: str, index: int) -> tuple[int, bytes]:
        seen.append(here.missing.get(name))
        return await keeper.chunk(name, index)

    here._fetch_chunk = watched
    asyncio.run(here.get(archive))
    assert seen[0] is None and seen[1] == count * CHUNK_BYTES
    assert seen[-1] == ((count - 1) % CHUNKS_AT_ONCE + 1) * CHUNK_BYTES
    assert here.missing == {}
    keeper.left = 3
    with pytest.raises(Unavailable):
        asyncio.run(here.get(keeper.add(packed(tmp_path, 30 * CHUNK_BYTES, "g"))))
    assert here.missing == {}


def test_an_archive_is_fetched_once_however_many_want_it(tmp_path: Path, keeper: Keeper) -> None:
    archive = keeper.add(packed(tmp_path, 100))

    async def want() -> None:
        here = shelf(tmp_path, keeper)
        folders = await asyncio.gather(*(here.get(archive) for _ in range(5)))
        assert len(set(folders)) == 1

    asyncio.run(want())
    assert keeper.asked == [0, 0]


@pytest.mark.parametrize("archive", ["..", "../../etc", "a" * 63 + "/", "", "A" * 64])
def test_only_a_hash_names_an_archive(tmp_path: Path, keeper: Keeper, archive: str) -> None:
    with pytest.raises(Untrusted):
        asyncio.run(shelf(tmp_path, keeper).get(archive))
    assert keeper.asked == []


def test_what_the_keeper_sends_wrong_is_not_unpacked_and_fills_no_disk(tmp_path: Path, keeper: Keeper) -> None:
    data = packed(tmp_path, 3 * CHUNK_BYTES)
    for chunks in (
        [b"x"] * (MOST_CHUNKS + 1),
        [b"x" * (CHUNK_BYTES + 1)],
        [b"x", b"y"],
        [b""],
        [b"x" * CHUNK_BYTES],
        [*(data[at : at + CHUNK_BYTES] for at in range(0, len(data), CHUNK_BYTES)), b"more"],
    ):
        archive = keeper.add(data, chunks)
        with pytest.raises((Untrusted, BadBundle)):
            asyncio.run(shelf(tmp_path, keeper).get(archive))
        assert not (tmp_path / "shelf" / archive).exists()
        assert sum(each.stat().st_size for each in (tmp_path / "shelf" / ".parts").iterdir()) <= 4 * CHUNK_BYTES
    # And the right one still comes.
    assert asyncio.run(shelf(tmp_path, keeper).get(keeper.add(data))).is_dir()


def test_the_longest_unused_go_when_a_limit_is_reached_but_none_that_is_in_use(tmp_path: Path, keeper: Keeper) -> None:
    names = ["a", "b", "c", "d"]
    archives = {name: keeper.add(packed(tmp_path, 1000, name)) for name in names}
    place = tmp_path / "shelf"
    used = [place / archives["a"]]
    # Two of them, and one that is on its way.
    here = lambda: shelf(tmp_path, keeper, most_bytes=3700, used=used)  # noqa: E731

    def get(name: str, used_at: int) -> None:
        folder = asyncio.run(here().get(archives[name]))
        os.utime(folder, (used_at, used_at))

    get("a", 1), get("b", 2)
    get("c", 3)
    assert {each for each in names if (place / archives[each]).exists()} == {"a", "c"}
    get("c", 9), get("b", 4)
    assert {each for each in names if (place / archives[each]).exists()} == {"a", "b"}, "a is in use, so c had to go"
    # A count is a limit as well.
    asyncio.run(shelf(tmp_path, keeper, most=2, used=used).get(archives["d"]))
    assert {each for each in names if (place / archives[each]).exists()} == {"a", "d"}


def test_the_limit_is_one_of_bytes_on_the_disk_however_well_they_were_compressed(
    tmp_path: Path, keeper: Keeper
) -> None:
    place = tmp_path / "shelf"
    archives = [keeper.add(packed(tmp_path, 10**6, name, of=b"0")) for name in ("a", "b", "c")]
    for used_at, archive in enumerate(archives):
        folder = asyncio.run(shelf(tmp_path, keeper, most_bytes=25 * 10**5).get(archive))
        os.utime(folder, (used_at, used_at))
    assert [(place / each).exists() for each in archives] == [False, True, True]


def test_for_an_archive_that_is_not_what_it_should_be_nothing_has_to_go(tmp_path: Path, keeper: Keeper) -> None:
    kept = keeper.add(packed(tmp_path, 1000, "a"))
    data = packed(tmp_path, 1000, "b")
    forged = keeper.add(data, [data[:-1] + bytes([data[-1] ^ 1])])
    folder = asyncio.run(shelf(tmp_path, keeper).get(kept))
    with pytest.raises(Untrusted):
        asyncio.run(shelf(tmp_path, keeper, most=1).get(forged))
    assert folder.exists()


def test_what_does_not_fit_beside_what_is_in_use_is_refused_with_the_numbers_before_it_is_fetched(
    tmp_path: Path, keeper: Keeper
) -> None:
    kept = keeper.add(packed(tmp_path, 3 * CHUNK_BYTES, "a"))
    most_bytes, used = 9 * CHUNK_BYTES, [tmp_path / "shelf" / kept]
    asyncio.run(shelf(tmp_path, keeper, most_bytes=most_bytes).get(kept))
    large = keeper.add(packed(tmp_path, 20 * CHUNK_BYTES, "b"))
    keeper.asked.clear()
    with pytest.raises(SpaceFailed, match=r"do not fit: the host lends .* of disk, .* of it in use \(lend more"):
        asyncio.run(shelf(tmp_path, keeper, most_bytes=most_bytes, used=used).get(large))
    assert keeper.asked == [0] and used[0].exists()


def test_what_fits_compressed_only_is_refused_before_it_is_unpacked(tmp_path: Path, keeper: Keeper) -> None:
    large = keeper.add(packed(tmp_path, 10**6, of=b"0"))
    with pytest.raises(SpaceFailed, match="the packages of an app of 977 KiB do not fit"):
        asyncio.run(shelf(tmp_path, keeper, most_bytes=10**5).get(large))
    assert [each.name for each in (tmp_path / "shelf").iterdir()] == [".parts"]
    assert not list((tmp_path / "shelf" / ".parts").iterdir())


def test_all_shelves_share_one_disk_and_the_longest_unused_of_any_goes(tmp_path: Path, keeper: Keeper) -> None:
    disk = Disk(3700, set)
    layers, bundles = (Shelf(tmp_path / name, LAYER, 100, keeper.chunk, disk) for name in ("layers", "bundles"))
    old = asyncio.run(layers.get(keeper.add(packed(tmp_path, 1000, "a"))))
    os.utime(old, (1, 1))
    new = asyncio.run(bundles.get(keeper.add(packed(tmp_path, 1000, "b"))))
    newest = asyncio.run(bundles.get(keeper.add(packed(tmp_path, 1000, "c"))))
    assert [each.exists() for each in (old, new, newest)] == [False, True, True]


def test_what_spaces_write_takes_of_the_same_disk(tmp_path: Path, keeper: Keeper) -> None:
    written = [0]
    used: set[Path] = set()
    disk = Disk(10**4, lambda: used, lambda: written[0])
    folder = asyncio.run(
        Shelf(tmp_path / "shelf", LAYER, 100, keeper.chunk, disk).get(keeper.add(packed(tmp_path, 1000)))
    )
    written[0] = 9500
    used.add(folder)
    with pytest.raises(SpaceFailed, match="what functions wrote to /tmp is too much"):
        disk.keep(disk.used())
    used.clear()
    disk.keep(disk.used())
    assert not folder.exists()


def test_for_what_does_not_fit_at_all_nothing_has_to_go(tmp_path: Path, keeper: Keeper) -> None:
    folder = asyncio.run(shelf(tmp_path, keeper).get(keeper.add(packed(tmp_path, 1000, "a"))))
    large = keeper.add(packed(tmp_path, 10**6, "b", of=b"0"))
    with pytest.raises(SpaceFailed, match="do not fit"):
        asyncio.run(shelf(tmp_path, keeper, most_bytes=10**5).get(large))
    assert folder.exists()


def test_room_is_promised_once_until_it_has_been_written(tmp_path: Path) -> None:
    disk = Disk(1000, set)
    disk.make_room(tmp_path / "a", 600, "an app", ())
    with pytest.raises(SpaceFailed, match="600 B of it in use"):
        disk.make_room(tmp_path / "b", 600, "an app", ())
    disk.make_room(tmp_path / "a", 700, "an app", ())
    disk.written(tmp_path / "a")
    disk.make_room(tmp_path / "b", 600, "an app", ())


def test_who_breaks_off_leaves_no_promise_of_room(tmp_path: Path, keeper: Keeper) -> None:
    archive = keeper.add(packed(tmp_path, 3 * CHUNK_BYTES))
    here = shelf(tmp_path, keeper, most_bytes=8 * CHUNK_BYTES)
    for _ in range(5):
        keeper.left = 1
        with pytest.raises(Unavailable):
            asyncio.run(here.get(archive))
    keeper.left = 10**9
    assert asyncio.run(here.get(archive)).is_dir()


def test_a_full_disk_is_told_as_what_it_is(tmp_path: Path, keeper: Keeper, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = keeper.add(packed(tmp_path, 1000))

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("motes.agent.shelf.unpack", full)
    with pytest.raises(MotesError, match="No space left on device; free some space"):
        asyncio.run(shelf(tmp_path, keeper).get(archive))


def test_many_that_are_fetched_at_once_do_not_hinder_one_another(tmp_path: Path, keeper: Keeper) -> None:
    """Each looks over the parts and the folders of all while others come and go."""
    archives = [keeper.add(packed(tmp_path, 10, f"f{number}")) for number in range(150)]

    async def want() -> None:
        here = shelf(tmp_path, keeper, most=20, most_bytes=10**6)
        for _ in range(3):
            await asyncio.gather(*map(here.get, archives))

    asyncio.run(want())


def test_a_disk_that_takes_nothing_any_more_is_said_to_whoever_wants_an_archive(tmp_path: Path, keeper: Keeper) -> None:
    made = shelf(tmp_path, keeper)
    (tmp_path / "shelf" / ".parts").rmdir()
    (tmp_path / "shelf").rmdir()
    (tmp_path / "shelf").touch()
    with pytest.raises(SpaceFailed, match="cannot keep"):
        asyncio.run(made.get("0" * 64))
