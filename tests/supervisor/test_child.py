"""One process of the tree, where the machine has nothing left for it."""

from __future__ import annotations

import os
import resource
import selectors
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from motes.supervisor.child import Child


@pytest.fixture
def child(tmp_path: Path) -> Iterator[Child]:
    with selectors.DefaultSelector() as selector:
        child = Child("x", [sys.executable, "-c", ""], {}, tmp_path / "log", selector, takes_orders=True)
        yield child
        child.kill()
        while child.pid is not None:
            child.see_to(time.monotonic(), restart=False)


@pytest.mark.parametrize("spare", [0, 1, 2, 3, 4])
def test_without_descriptors_a_start_fails_and_a_later_one_does_not(child: Child, spare: int) -> None:
    before = set(os.listdir("/proc/self/fd"))
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_free() + spare, hard))
    try:
        child.start()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert child.pid is None and child.last_end.startswith("no start: ")
    assert set(os.listdir("/proc/self/fd")) == before
    child.start()
    assert child.pid is not None


def lowest_free() -> int:
    descriptor = os.dup(0)
    os.close(descriptor)
    return descriptor
