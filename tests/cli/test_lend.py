"""`--lend`: what an owner writes, and what is refused with the words to write instead."""

from __future__ import annotations

import pytest

from motes.cli.host import parse_lend
from motes.errors import BadInput


def test_what_is_lent_is_read_as_the_fields_of_an_offer() -> None:
    assert parse_lend("cpus=2.5, memory=1GiB,disk=5GiB,spaces=7,labels=gpu+attic,machine=nas") == {
        "cpus": 2.5,
        "memory_bytes": 2**30,
        "disk_bytes": 5 * 2**30,
        "spaces": 7,
        "labels": ["attic", "gpu"],
        "machine": "nas",
    }
    assert parse_lend("priority=idle") == {"idle_class": True}
    assert parse_lend("priority=normal") == {"idle_class": False}
    assert parse_lend("") == {}


@pytest.mark.parametrize(
    "text",
    [
        *("cpus", "cpus=", "cpus=0", "cpus=-1", "cpus=inf", "cpus=nan", "memory=much", "spaces=1.5", "disks=3", "=2"),
        *("labels=", "labels=a b", "labels=gpu+", "labels=-x", "labels=" + "+".join(map(str, range(33)))),
        "machine=../x",
        *("disk=0", "priority=", "priority=high"),
        *("hours=", "hours=25-26", "hours=7", "hours=abc", "when=", "when=sleeping"),
    ],
)
def test_what_is_not_understood_is_refused_with_what_to_write(text: str) -> None:
    with pytest.raises(BadInput, match=r"is not understood; write: cpus=2,memory=1GiB"):
        parse_lend(text)
