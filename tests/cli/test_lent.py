"""`--lend`: what an owner writes, and what is refused with the words to write instead."""

from __future__ import annotations

import pytest

from motes.cli.lent import changed, described, parse
from motes.errors import BadInput, Refused


def test_what_is_lent_is_read_as_the_fields_of_an_offer() -> None:
    assert parse("cpus=2.5, memory=1GiB,disk=5GiB,spaces=7,labels=gpu+attic,machine=nas") == {
        "cpus": 2.5,
        "memory_bytes": 2**30,
        "disk_bytes": 5 * 2**30,
        "spaces": 7,
        "labels": ["attic", "gpu"],
        "machine": "nas",
    }
    assert parse("priority=idle") == {"idle_class": True}
    assert parse("priority=normal") == {"idle_class": False}
    assert parse("") == {}


@pytest.mark.parametrize(
    "text",
    [
        *("cpus", "cpus=", "cpus=0", "cpus=-1", "cpus=inf", "cpus=nan", "memory=much", "spaces=1.5", "disks=3", "=2"),
        *("labels=", "labels=a b", "labels=gpu+", "labels=-x", "labels=" + "+".join(map(str, range(33)))),
        "machine=../x",
        *("disk=0", "priority=", "priority=high"),
        *("serve=", "serve=a b", "serve=shop+", "serve=../x", "serve=" + "+".join(f"a{n}" for n in range(65))),
        *("hours=", "hours=25-26", "hours=7", "hours=abc", "when=", "when=sleeping"),
    ],
)
def test_what_is_not_understood_is_refused_with_what_to_write(text: str) -> None:
    with pytest.raises(BadInput, match=r"is not understood; write: cpus=2,memory=1GiB"):
        parse(text)


ENTRY = {"cpus": 2.0, "memory_bytes": 2**31, "spaces": 100, "python": "/opt/python"}


def test_the_words_of_lend_change_what_they_name_and_nothing_else() -> None:
    found = changed({**ENTRY, "labels": ["gpu"]}, ("hours=22-07+12-13", "when=charging+idle,spaces=5"))
    assert found == {**ENTRY, "labels": ["gpu"], "hours": "22-07+12-13", "when": "idle+charging", "spaces": 5}
    assert described(found) == (
        "cpus=2 memory=2GiB spaces=5 hours=22-07+12-13 when=idle+charging serve=owner labels=gpu"
    )


def test_what_is_said_to_be_the_default_is_forgotten() -> None:
    entry = {**ENTRY, "labels": ["gpu"], "hours": "22-07", "when": "idle", "spaces": 7, "idle_class": True}
    assert "priority=idle" in described(entry)
    found = changed(entry, ("labels=default", "hours=always", "when=always", "spaces=default", "priority=default"))
    assert "labels" not in found and "idle_class" not in found and found["spaces"] == 100
    assert described(found).endswith("hours=always when=always serve=owner")


def test_whom_a_machine_serves_is_its_clusters_owner_or_some_of_his_apps_also_those_that_are_not_there_yet() -> None:
    assert parse("serve=owner") == {"serve": []}
    found = changed(ENTRY, ("serve=shop+mail+shop",))
    assert found["serve"] == ["mail", "shop"] and " serve=mail+shop" in described(found)
    for words in ("serve=owner", "serve=default"):
        again = changed(found, (words,))
        assert not again.get("serve") and " serve=owner" in described(again)


@pytest.mark.parametrize(
    "whom", ["anyone", "everybody", "all", "shop+anyone", "owner+shop", "AB" * 32, "0f" * 32, "U" + "A2" * 27 + "B"]
)
def test_a_machine_serves_no_stranger_and_says_what_is_possible(whom: str) -> None:
    with pytest.raises(Refused, match=r"no wall between owners; write serve=owner .* or serve=APP\+APP"):
        parse(f"cpus=1,serve={whom}")


HUGE = "9" * 400
UNFIT = [
    *("spaces=3000000000", "spaces=2147483648", f"spaces={HUGE}", "cpus=1e16", f"cpus={HUGE}"),
    *("memory=9999999999GiB", f"memory={HUGE}", "disk=9007199254740995", f"disk={HUGE}GiB"),
    *("cpus=-0", "memory=-1", "memory=0.1", "disk=nan", "spaces=-3", "spaces=0", "memory=inf", "cpus=-inf", "cpus=NaN"),
]


@pytest.mark.parametrize("text", UNFIT)
def test_what_no_host_can_lend_is_refused_before_anything_is_kept(text: str) -> None:
    for attempt in (lambda: parse(text), lambda: changed(ENTRY, (text,))):
        with pytest.raises(BadInput, match=r"(is not understood|no host can lend).*write: cpus=2"):
            attempt()


def test_what_an_earlier_version_took_and_no_host_can_lend_is_named_with_the_way_out() -> None:
    bad = {**ENTRY, "spaces": 3_000_000_000, "hours": "99", "labels": "gpu"}
    with pytest.raises(BadInput, match=r"motes lend spaces=default hours=default labels=default"):
        changed(bad, ("cpus=1",))
    mended = changed(bad, ("spaces=default", "hours=default", "labels=gpu"))
    assert (mended["spaces"], mended["labels"]) == (100, ["gpu"]) and "hours" not in mended


@pytest.mark.parametrize("words", [("hats=default",), ("default",), ("spaces",), ("=default",)])
def test_lend_refuses_what_it_does_not_know(words: tuple[str, ...]) -> None:
    with pytest.raises(BadInput, match=r"write: cpus=2"):
        changed(ENTRY, words)
