"""A host's word counts as far as it can be true."""

from __future__ import annotations

import msgspec
import pytest
from pytest import approx

from motes.controller.core.judging import EARLY_S, LATE_S, SLACK, Credit, why_not
from motes.model.host import Held, Offer
from motes.model.receipt import Batch, Permit, Spent

OWNER = b"o" * 32
OFFER = Offer(cpus=2.0, memory_bytes=2**30, spaces=10)
GIVEN = Permit("f", 5, 1, b"proof")
HONEST = Spent(calls=3, starts=1, instance_s=20.0, cpu_s=15.0, memory_byte_s=5.0 * 2**30)


def batch(spent: Spent = HONEST, **other: object) -> Batch:
    made = Batch("a", "b", 1, b"", "app", OWNER, 1000.0, 1010.0, spent, GIVEN)
    return msgspec.structs.replace(made, **other)


def is_proven(host: str, address: str, held: Held) -> bool:
    return (host, address, held.ceiling, held.epoch, held.proof) == ("a", "app.f", 5, 1, b"proof")


def judge(told: Batch, credit: Credit | None = None, offer: Offer = OFFER) -> str:
    return why_not(told, offer, {OWNER}, is_proven, credit or Credit(0.0))


def test_what_a_host_can_have_spent_counts() -> None:
    assert judge(batch()) == ""
    assert judge(batch(Spent())) == ""


@pytest.mark.parametrize(
    "permit",
    [Permit(), Permit("f", 5, 1, b"forge"), Permit("f", 6, 1, b"proof"), Permit("g", 5, 1, b"proof")],
    ids=["none", "forged", "higher", "of another function"],
)
def test_an_app_for_which_the_host_never_had_a_lease_does_not_count(permit: Permit) -> None:
    assert "never given a lease" in judge(batch(permit=permit))


@pytest.mark.parametrize("other", [{"host": "c"}, {"app": "other"}])
def test_a_lease_of_another_host_or_app_proves_nothing(other: dict[str, str]) -> None:
    assert "never given a lease" in judge(batch(**other))


def test_an_ended_lease_is_none() -> None:
    ended = msgspec.structs.replace(GIVEN, ceiling=0)
    assert why_not(batch(permit=ended), OFFER, {OWNER}, lambda *_: True, Credit(0.0)) != ""


def test_whose_app_it_is_must_be_an_owner() -> None:
    assert "owns no app" in judge(batch(owner=b"x" * 32))


def test_times_are_compared_with_each_other_and_not_with_the_keepers_clock() -> None:
    an_hour_ahead = batch(began_at=1e9 + 3600, ended_at=1e9 + 3610)
    assert judge(an_hour_ahead) == "" and judge(batch(began_at=0.0, ended_at=10.0)) == ""
    assert "before it begins" in judge(batch(began_at=1010.0, ended_at=1000.0))


@pytest.mark.parametrize(
    ("spent", "what"),
    [
        (Spent(cpu_s=45.0), "CPU time"),
        (Spent(memory_byte_s=25.0 * 2**30), "memory"),
        (Spent(instance_s=250.0), "process spaces"),
        (Spent(cpu_s=2.0**53), "CPU time"),
    ],
)
def test_more_than_the_host_lends_does_not_count_and_costs_no_credit(spent: Spent, what: str) -> None:
    credit = Credit(0.0)
    assert what in judge(batch(spent), credit) and "more than the host lends" in judge(batch(spent), credit)
    assert credit.left_s == [EARLY_S] * 3


def test_one_busy_process_is_believed_also_where_less_than_a_processor_is_lent() -> None:
    assert judge(batch(Spent(cpu_s=10.0)), offer=Offer(cpus=0.25)) == ""


def test_the_same_time_told_again_and_again_runs_out() -> None:
    """Each batch is plausible by itself; no clock of the host's is needed to see that all of them are not."""
    credit = Credit(0.0)
    full = batch(Spent(cpu_s=20.0))
    counted = [judge(full, credit) for _ in range(1000)]
    assert counted.count("") == EARLY_S / 10.0
    assert "since it was heard" in counted[-1]
    credit.pass_time(10.0)
    assert [judge(full, credit) == "" for _ in range(4)] == [True] * int(SLACK) + [False] * (4 - int(SLACK))


def test_a_million_small_ones_add_up_to_no_more_than_one_large_one() -> None:
    credit = Credit(0.0)
    told_s = sum(2.0 for _ in range(100_000) if credit.spend([1.0, 0.0, 0.0]) is None)
    assert told_s == approx(2.0 * EARLY_S)


def test_a_host_that_was_away_accounts_for_that_time_later_but_not_for_ever() -> None:
    credit = Credit(0.0)
    credit.pass_time(3600.0)
    hour = batch(Spent(cpu_s=7200.0), ended_at=4600.0)
    assert judge(hour, credit) == ""
    credit.pass_time(1e9)
    assert credit.left_s == [LATE_S] * 3
    credit.pass_time(0.0)
    assert credit.left_s == [LATE_S] * 3, "a clock that goes back gives nothing and takes nothing"
