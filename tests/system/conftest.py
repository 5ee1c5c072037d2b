"""Real clusters and machines that more than one file of tests uses."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from system.running import Away, Keeper, RunningCluster


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningCluster]:
    """A cluster of one host, for tests that deploy apps of their own and kill nothing of it."""
    with RunningCluster(tmp_path_factory.mktemp("cluster") / "home") as cluster:
        cluster.up()
        yield cluster


@pytest.fixture(scope="module")
def keeper(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Keeper]:
    """One that the tests of a file have together; other machines may join it."""
    with Keeper(tmp_path_factory.mktemp("keeper") / "home") as cluster:
        cluster.listen()
        yield cluster


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[RunningCluster]:
    """Another machine's home, which shares nothing with the keeper's."""
    with RunningCluster(tmp_path / "machine") as other:
        yield other


@pytest.fixture
def away(tmp_path: Path) -> Away:
    return Away(tmp_path / "away")
