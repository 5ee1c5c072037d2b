"""Receipts that were altered, left out, put in twice or into another order are noticed, and count for nothing."""

from __future__ import annotations

import msgspec
import pytest

from grants.accounts import KEEPER, Accounts, received
from motes.grants.keys import Key
from motes.grants.receipts import read_receipt, read_signed, sign_batch, sign_receipt
from motes.grants.trail import Entry, Trail
from motes.model.receipt import Receipt, Spent
from motes.model.release import Signed


def read(*kept: bytes, host: str = "a") -> tuple[Trail, list[int]]:
    """The trail, and the numbers of the batches that count."""
    trail = Trail(KEEPER.public)
    entries = [entry for data in kept if (entry := trail.read(host, data)) is not None]
    return trail, [entry.batch.number for entry in entries if entry.counts]


def chain(count: int) -> list[bytes]:
    accounts = Accounts()
    return [accounts.receipt() for _ in range(count)]


def test_a_whole_chain_counts_and_may_begin_anywhere() -> None:
    kept = chain(4)
    for begin in range(4):
        trail, counted = read(*kept[begin:])
        assert (trail.problems, counted) == ([], [1, 2, 3, 4][begin:])


def test_what_a_large_host_used_while_it_was_cut_off_for_weeks_is_read() -> None:
    """One that is not would keep all later ones from being heard, for they follow it."""
    used = Spent(memory_byte_s=2.0**40 * 30 * 86400)
    kept = received(Accounts().batch(spent=used))
    assert read(kept)[1] == [1] and read_receipt(read_signed(kept), KEEPER.public)[1].spent == used
    for none in (-1.0, float("nan"), float("inf"), 1e300):
        assert read(received(Accounts().batch(spent=Spent(memory_byte_s=none))))[1] == []


def test_every_byte_of_a_receipt_that_is_altered_is_noticed() -> None:
    first, second, third = chain(3)
    for at in range(len(second)):
        altered = second[:at] + bytes([second[at] ^ 1]) + second[at + 1 :]
        trail, counted = read(first, altered, third)
        assert len(trail.problems) == 1, at
        assert counted == [1, 3], at


def test_a_receipt_that_was_cut_short_or_is_none_is_noticed() -> None:
    first, second, third = chain(3)
    for bad in (b"", b"\xc0", second[:-1], second[: len(second) // 2], b"\x00" * 700):
        trail, counted = read(first, bad, third)
        assert (len(trail.problems), counted) == (1, [1, 3])


def test_a_batch_that_the_host_signed_is_no_receipt_and_a_receipt_no_batch() -> None:
    accounts = Accounts()
    batch = accounts.batch()
    trail, counted = read(msgspec.msgpack.encode(batch))
    assert counted == []
    as_batch = sign_receipt(accounts.key, Receipt(batch, 1.0))
    trail, counted = read(received(as_batch))
    assert (len(trail.problems), counted) == (1, [])


def test_a_batch_that_its_host_has_not_signed_does_not_count_though_the_keeper_signs_for_it() -> None:
    batch = Accounts().batch()
    invented = Signed(batch.payload.replace(b"app", b"opp"), batch.signature, batch.signer)
    trail, counted = read(received(invented))
    assert (len(trail.problems), counted) == (1, [])


def test_one_that_is_missing_is_said_by_its_number() -> None:
    kept = chain(5)
    trail, counted = read(kept[0], *kept[3:])
    assert trail.problems == ["batches 2 to 3 of host a are missing"]
    assert counted == [1, 4, 5]


def test_what_the_keeper_missed_before_the_first_that_is_read_is_said_too() -> None:
    accounts = Accounts()
    accounts.number = 6
    trail, counted = read(received(accounts.batch(), missing="batches 3 to 6"), accounts.receipt())
    assert trail.problems == ["before batch 7 of host a are missing: batches 3 to 6"]
    assert counted == [7, 8]


def test_one_that_is_there_twice_counts_once() -> None:
    kept = chain(3)
    trail, counted = read(*kept, kept[2], kept[0])
    assert (len(trail.problems), counted) == (2, [1, 2, 3])


def test_another_order_is_noticed() -> None:
    first, second, third = chain(3)
    trail, counted = read(first, third, second)
    assert len(trail.problems) == 2 and counted == [1, 3]


def test_a_batch_that_was_changed_with_the_hosts_own_key_breaks_the_chain() -> None:
    accounts = Accounts()
    first, second, third = accounts.receipt(), accounts.batch(), accounts.receipt()
    assert second is not None
    other = Accounts()
    other.receipt()
    forged = other.receipt(spent=Spent(calls=1000))
    trail, _ = read(first, forged, third)
    assert trail.problems == ["batch 2 of host a is not the one that 3 follows"]


def test_what_is_kept_under_another_hosts_name_does_not_count() -> None:
    trail, counted = read(*chain(1), host="b")
    assert (trail.problems, counted) == (["a receipt of host b was altered: it is of host a"], [])


def test_receipts_that_another_keeper_signed_do_not_count() -> None:
    trail, counted = read(received(Accounts().batch(), keeper=Key(b"x" * 32)))
    assert (len(trail.problems), counted) == (1, []) and "not trusted here" in trail.problems[0]


def test_another_key_of_the_same_host_has_a_chain_of_its_own() -> None:
    before, after = Accounts(), Accounts(secret=b"n" * 32)
    trail, counted = read(before.receipt(), before.receipt(), after.receipt(), after.receipt())
    assert (trail.problems, counted) == ([], [1, 2, 1, 2])


def test_what_the_keeper_has_refused_does_not_count_and_leaves_no_hole() -> None:
    accounts = Accounts()
    trail, counted = read(accounts.receipt(), received(accounts.batch(), refused="it cannot be"), accounts.receipt())
    assert (trail.problems, counted) == ([], [1, 3])


@pytest.mark.parametrize("cpu_s", [-1.0, float("nan"), float("inf"), 1e300])
def test_numbers_without_sense_are_no_batch(cpu_s: float) -> None:
    trail, counted = read(Accounts().receipt(spent=Spent(cpu_s=cpu_s)))
    assert (len(trail.problems), counted) == (1, [])


def test_a_receipt_holds_all_that_a_third_party_needs() -> None:
    accounts = Accounts()
    entry = Trail(KEEPER.public).read("a", accounts.receipt())
    assert isinstance(entry, Entry)
    receipt, batch = read_receipt(Signed(entry.signed.payload, entry.signed.signature, KEEPER.public), KEEPER.public)
    assert (batch.host, receipt.batch.signer) == ("a", accounts.key.public)
    assert read_signed(msgspec.msgpack.encode(entry.signed)) == entry.signed
    assert sign_batch(accounts.key, batch) == receipt.batch
