"""One real cluster for all tests that leave it as it was."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from system.running import RunningCluster


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningCluster]:
    """A cluster of one host, for tests that deploy apps of their own and kill nothing of it."""
    cluster = RunningCluster(tmp_path_factory.mktemp("cluster") / "home")
    cluster.up()
    try:
        yield cluster
    finally:
        cluster.down()
