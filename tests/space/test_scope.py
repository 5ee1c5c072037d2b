"""What is written into a cgroup for an offer, and which folder that is."""

from __future__ import annotations

import pytest

from motes.model.host import Offer
from motes.space.scope import CONTROLLERS, kills, mounted_at, own_cgroup, settings, used_bytes

OFFER = Offer(cpus=1.5, memory_bytes=2**30, spaces=10)


def written(offer: Offer, *controllers: str) -> dict[str, str]:
    return {each.file: each.text for each in settings(offer, frozenset(controllers))}


def test_each_part_of_an_offer_becomes_a_limit_of_its_controller() -> None:
    assert written(OFFER, *CONTROLLERS) == {
        "cpu.max": "30000 20000",
        "memory.max": "1073741824",
        "memory.swap.max": "0",
        "pids.max": "1216",
    }
    assert set(written(OFFER, "pids")) == {"pids.max"}


def test_an_idle_host_is_idle_as_a_whole() -> None:
    lowest = written(Offer(idle_class=True), *CONTROLLERS)
    assert lowest["cpu.idle"] == "1" and "cpu.idle" not in written(OFFER, *CONTROLLERS)


def test_the_smallest_part_of_a_processor_is_one_that_the_kernel_takes() -> None:
    quota_us, period_us = written(Offer(cpus=1e-9), "cpu")["cpu.max"].split()
    assert int(quota_us) >= 1_000 and int(period_us) >= 1_000


def test_of_both_versions_cgroup_2_is_taken() -> None:
    assert own_cgroup("9:memory:/a\n0::/user.slice/run-1.scope\n") == "/user.slice/run-1.scope"
    assert own_cgroup("9:memory:/a\n") is None


@pytest.mark.parametrize(
    ("mounts", "cgroup", "folder"),
    [
        ("30 29 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw", "/a/b", "/sys/fs/cgroup/a/b"),
        ("30 29 0:26 / /sys/fs/cgroup/unified rw,noexec shared:1 - cgroup2 cgroup rw", "/", "/sys/fs/cgroup/unified"),
        # In a container that has the host's names: only its own part is mounted.
        ("30 29 0:26 /box /sys/fs/cgroup ro - cgroup2 cgroup ro", "/box/a", "/sys/fs/cgroup/a"),
        ("30 29 0:26 /box /sys/fs/cgroup ro - cgroup2 cgroup ro", "/box", "/sys/fs/cgroup"),
        ("30 29 0:26 /box /sys/fs/cgroup ro - cgroup2 cgroup ro", "/boxes", None),
        ("30 29 0:26 / /sys/fs/cgroup ro - cgroup2 cgroup ro", "/../other", None),
        ("30 29 0:26 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory", "/a", None),
    ],
)
def test_a_cgroups_folder_is_where_it_is_mounted(mounts: str, cgroup: str, folder: str | None) -> None:
    assert mounted_at(mounts + "\n", cgroup) == folder


def test_what_the_kernel_can_have_back_at_once_is_not_counted_as_used() -> None:
    assert used_bytes("anon 100\nfile 5000\nkernel 7\nsock 3\nshmem 20\n") == 130


def test_who_was_ended_for_want_of_memory_is_counted_and_not_how_often_it_was_short() -> None:
    assert kills("low 0\nhigh 0\nmax 9\noom 5\noom_kill 3\noom_group_kill 1\n") == 3
    assert kills("low 0\n") == 0
