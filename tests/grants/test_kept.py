"""What a host keeps of its accounts survives its agent, and stays bounded."""

from __future__ import annotations

import base64
from pathlib import Path

import msgspec
import pytest

from grants.accounts import Accounts, received
from motes.grants import kept as module
from motes.grants.kept import Kept, read_all
from motes.grants.keys import Key
from motes.grants.receipts import digest, read_signed
from motes.model.receipt import Receipt
from motes.model.release import Signed


def add(kept: Kept, host: Accounts) -> Signed:
    batch = host.batch()
    kept.add(batch, host.number)
    return batch


def acknowledge(kept: Kept) -> bytes:
    data = received(kept.unsent[0])
    kept.acknowledge(read_signed(data))
    return data


def test_what_was_not_acknowledged_is_sent_by_the_next_agent_and_its_chain_goes_on(tmp_path: Path) -> None:
    host = Accounts()
    kept = Kept(tmp_path, host.key.public)
    assert (kept.number, kept.digest, list(kept.unsent)) == (0, b"", [])
    batches = [add(kept, host) for _ in range(3)]
    receipt = acknowledge(kept)
    again = Kept(tmp_path, host.key.public)
    assert list(again.unsent) == batches[1:]
    assert (again.number, again.digest) == (3, digest(batches[2]))
    assert list(read_all(tmp_path)) == [receipt]
    acknowledge(again), acknowledge(again)
    last = Kept(tmp_path, host.key.public)
    assert (last.number, last.digest, len(last.unsent)) == (3, digest(batches[2]), 0)
    assert len(list(read_all(tmp_path))) == 3


def test_a_line_that_was_cut_short_costs_no_other(tmp_path: Path) -> None:
    host = Accounts()
    kept = Kept(tmp_path, host.key.public)
    first = add(kept, host)
    with (tmp_path / "unsent").open("ab") as file:
        file.write(b"k8QI")
    second = add(kept, host)
    assert list(Kept(tmp_path, host.key.public).unsent) == [first, second]


def test_a_receipt_in_which_one_byte_is_another_keeps_no_host_from_starting(tmp_path: Path) -> None:
    """What was a letter of the app's name may be no text any more."""
    host = Accounts()
    kept = Kept(tmp_path, host.key.public)
    first, second = add(kept, host), add(kept, host)
    acknowledge(kept)
    acknowledge(kept)
    (file,) = tmp_path.glob("receipts-*")
    *before, last, end = file.read_bytes().split(b"\n")
    signed = msgspec.msgpack.decode(base64.b64decode(last), type=Signed)
    receipt = msgspec.structs.replace(msgspec.msgpack.decode(signed.payload, type=Receipt), missing="damaged")
    damaged = msgspec.msgpack.encode(receipt).replace(b"damaged", b"damage\xff")
    altered = msgspec.structs.replace(signed, payload=damaged)
    last = base64.b64encode(msgspec.msgpack.encode(altered))
    file.write_bytes(b"\n".join((*before, last, end)))
    again = Kept(tmp_path, host.key.public)
    assert (again.number, again.digest) == (1, digest(first)) != (2, digest(second))


def test_another_key_begins_a_chain_of_its_own_and_sends_nothing_of_the_old_one(tmp_path: Path) -> None:
    host = Accounts()
    kept = Kept(tmp_path, host.key.public)
    add(kept, host), add(kept, host)
    acknowledge(kept)
    anew = Kept(tmp_path, Key(b"n" * 32).public)
    assert (anew.number, anew.digest, len(anew.unsent)) == (0, b"", 0)


def test_the_newest_receipts_are_kept_in_files_of_bounded_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FILE_BYTES", 3_000)
    monkeypatch.setattr(module, "MOST_FILES", 3)
    host = Accounts()
    kept = Kept(tmp_path, host.key.public)
    receipts = []
    for _ in range(40):
        add(kept, host)
        receipts.append(acknowledge(kept))
    found = list(read_all(tmp_path))
    assert found == receipts[-len(found) :] and 3 < len(found) < 40
    files = sorted(tmp_path.glob("receipts-*"))
    assert len(files) == 3 and all(file.stat().st_size < 3_000 + 1_500 for file in files)
    assert Kept(tmp_path, host.key.public).number == 40


def test_what_waits_is_written_anew_before_its_file_grows_without_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_UNSENT", 5)
    host = Accounts()
    kept = Kept(tmp_path, host.key.public)
    for _ in range(4):
        add(kept, host)
    for _ in range(100):
        add(kept, host)
        acknowledge(kept)
        assert len((tmp_path / "unsent").read_bytes()) < 20_000
    assert len(kept.unsent) == 4 and list(Kept(tmp_path, host.key.public).unsent) == list(kept.unsent)
    add(kept, host)
    assert kept.is_full


def test_where_the_disk_takes_nothing_the_host_accounts_from_memory(tmp_path: Path) -> None:
    host = Accounts()
    kept = Kept(tmp_path / "gone", host.key.public)
    (tmp_path / "gone").rmdir()
    batch = add(kept, host)
    assert list(kept.unsent) == [batch]
    acknowledge(kept)
    assert not kept.unsent and kept.number == 1


def test_batches_that_were_signed_anew_take_the_place_of_the_old(tmp_path: Path) -> None:
    host = Accounts()
    kept = Kept(tmp_path, host.key.public)
    add(kept, host)
    later = Accounts()
    later.number = 7
    anew = later.batch()
    kept.replace([anew], 8)
    assert (kept.number, kept.digest) == (8, digest(anew))
    assert list(Kept(tmp_path, host.key.public).unsent) == [anew]


def test_a_receipt_of_somebody_else_is_not_taken_for_the_end_of_the_chain(tmp_path: Path) -> None:
    host, other = Accounts(), Accounts(secret=b"n" * 32)
    kept = Kept(tmp_path, host.key.public)
    add(kept, host)
    acknowledge(kept)
    kept.unsent.append(other.batch())
    acknowledge(kept)
    assert Kept(tmp_path, host.key.public).number == 1


def test_an_old_file_that_cannot_be_deleted_keeps_no_receipt_from_being_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "FILE_BYTES", 1)
    monkeypatch.setattr(module, "MOST_FILES", 1)

    def refuse(self: Path, missing_ok: bool = False) -> None:
        raise OSError(30, "Read-only file system")

    host = Accounts()
    kept = Kept(tmp_path, host.key.public)
    monkeypatch.setattr(Path, "unlink", refuse)
    for _ in range(4):
        add(kept, host)
        acknowledge(kept)
    assert not kept.unsent
