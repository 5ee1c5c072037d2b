"""A stream over HTTP from end to end: a reader that is slow holds up the generator, and one that goes ends it."""

from __future__ import annotations

import contextlib
import json
import socket
import time
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest

from system.running import DEADLINE_S, RunningCluster, wait_until

ITEMS = 1_000
ITEM_BYTES = 64 * 2**10
MOST_AHEAD = 200
"""Items on their way to a reader that takes none: in flight, and in the buffers of the gateway and the kernel."""
STALLED_S = 2.0
GIVER = f"""
    from collections.abc import Iterator
    from motes import function

    @function(timeout="120 s")
    def give() -> Iterator[str]:
        try:
            for number in range({ITEMS}):
                print("item", number, flush=True)
                yield str(number) + "x" * {ITEM_BYTES}
        finally:
            print("over", flush=True)
"""


@pytest.fixture
def giver(cluster: RunningCluster) -> Iterator[RunningCluster]:
    cluster.deploy("giver", GIVER)
    yield cluster
    cluster.motes("rm", "giver")


@contextlib.contextmanager
def asked(cluster: RunningCluster) -> Iterator[socket.socket]:
    """The connection of a client that has asked for the items as JSON lines, and takes in little at a time."""
    http = urlsplit(cluster.home.cluster()["http"])
    with socket.socket() as client:
        client.settimeout(DEADLINE_S)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 * 2**10)
        client.connect((http.hostname, http.port))
        head = f"POST /giver/give HTTP/1.1\r\nHost: localhost:{http.port}\r\nAccept: application/x-ndjson\r\n"
        client.sendall(f"{head}Connection: close\r\nContent-Length: 0\r\n\r\n".encode())
        yield client


def given(cluster: RunningCluster) -> int:
    """How many items the generator has begun."""
    return sum(
        line.split()[-2:-1] == ["item"] for line in cluster.motes("logs", "giver", "--limit", "2000").splitlines()
    )


def given_when_it_stands_still(cluster: RunningCluster) -> int:
    last, since = 0, time.monotonic()
    deadline = since + DEADLINE_S
    while last == 0 or time.monotonic() - since < STALLED_S:
        assert time.monotonic() < deadline, f"it goes on: {last} items"
        if (now := given(cluster)) != last:
            last, since = now, time.monotonic()
    return last


def test_a_generator_waits_for_a_slow_reader_who_gets_every_item(giver: RunningCluster) -> None:
    with asked(giver) as client:
        assert given_when_it_stands_still(giver) < MOST_AHEAD
        received = bytearray(client.recv(2**10))
        assert received.startswith(b"HTTP/1.1 200")
        assert given_when_it_stands_still(giver) < MOST_AHEAD, "a little room lets little in"
        while part := client.recv(2**20):
            received += part
    items = [json.loads(line) for line in bytes(received).split(b"\n") if line.startswith(b'"')]
    assert [int(item.rstrip("x")) for item in items] == list(range(ITEMS))
    assert {len(item.lstrip("0123456789")) for item in items} == {ITEM_BYTES}
    wait_until(lambda: "over" in giver.motes("logs", "giver"))


def test_a_reader_who_goes_ends_the_generator(giver: RunningCluster) -> None:
    with asked(giver):
        assert 0 < given_when_it_stands_still(giver) < MOST_AHEAD
    wait_until(lambda: not [each for each in giver.instances("give") if each["state"] == "busy"])
    assert given(giver) < MOST_AHEAD
