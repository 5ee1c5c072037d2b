"""A cluster lives in a NATS that its user runs, by a signing key of an account there."""

from __future__ import annotations

import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from system.own_nats import Account, OwnNats
from system.running import RunningCluster, wait_until

APP = """
import os
from motes import function

@function
def where() -> str:
    return os.environ["HOME"]

@function
def double(number: int) -> int:
    return 2 * number
"""


@pytest.fixture
def nats(tmp_path: Path) -> Iterator[OwnNats]:
    made = OwnNats(tmp_path / "nats", Account("MOTES"), Account("OTHER"))
    made.start()
    yield made
    made.stop()


@pytest.fixture
def keeper(tmp_path: Path) -> Iterator[RunningCluster]:
    """Not started yet."""
    cluster = RunningCluster(tmp_path / "keeper")
    yield cluster
    cluster.down()


def up(keeper: RunningCluster, nats: OwnNats, *more: str) -> None:
    keeper.motes("up", "--http", "127.0.0.1:0", *nats.options(nats.accounts[0]), *more)


def test_a_cluster_lives_there_and_outlives_its_keeper_and_the_nats(nats: OwnNats, keeper: RunningCluster) -> None:
    up(keeper, nats)
    keeper.deploy("app", APP)
    assert keeper.json("call", "app.double", "21") == 42
    facts = keeper.json("up", "--http", "127.0.0.1:0")
    assert facts["already"] and facts["nats"] == nats.url
    with urllib.request.urlopen(f"{facts['http']}/app/double", b"4") as answer:
        assert answer.read() == b"8"
    with pytest.raises(LookupError):
        keeper.pid("nats-server")
    # It is remembered, and what was deployed is there again.
    keeper.down()
    keeper.up()
    assert keeper.json("call", "app.double", "21") == 42
    nats.stop()
    nats.start()
    wait_until(lambda: keeper.run("call", "app.double", "5").stdout == "10\n", "calls go on after NATS came back")
    assert keeper.run("doctor").returncode == 0
