"""Functions that call functions: on one host, between hosts, in rings, and no more than they declare."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from motes.bus.connection import Connection
from motes.client.cluster import Cluster
from motes.errors import MotesError
from motes.grants import roles
from motes.model.call import Context, pack_request, unpack_reply
from system.running import DEADLINE_S, RunningCluster, wait_until

SHOP = """
import asyncio, time
from collections.abc import AsyncIterator, Iterator
from typing import Any
from motes import function, remote

@function
def price(name: str) -> int:
    if name == "nothing":
        raise KeyError(name)
    return len(name)

@function
def numbers(most: int) -> Iterator[int]:
    yield from range(most)

@function(timeout="60 s")
def nap(seconds: float) -> str:
    time.sleep(seconds)
    return "awake"

far = remote("store.keep")

@function(calls=[price, numbers, nap, far])
def bill(names: list[str]) -> int:
    return sum(price.map(names))

@function(calls=[price])
async def bill_later(names: list[str]) -> int:
    return sum(await asyncio.gather(*map(price.aremote, names)))

@function(calls=[numbers])
async def doubled(most: int) -> AsyncIterator[int]:
    async for number in numbers.stream(most):
        yield 2 * number

@function(calls=[far])
def kept(word: str) -> Any:
    return far.remote(word)

@function(calls=[remote("store.every")])
def all_kept(most: int) -> Any:
    return list(remote("store.every").stream(most))

@function
def undeclared() -> int:
    return price.remote("x")

@function(calls=[nap], timeout="1 s")
def impatient() -> str:
    return nap.remote(30)

@function(calls=[nap])
def patient() -> str:
    return nap.remote(30)
"""
STORE = """
import os
from collections.abc import Iterator
from motes import function

@function(memory={memory!r})
def keep(word: str) -> str:
    return "kept " + word

@function(memory={memory!r})
def every(most: int) -> Iterator[int]:
    yield from range(most)
"""
RING = """
from motes import function

# All on the one host that has so much: who waits for whom is known there.
@function(calls=["pong"], scale=(0, 2), memory="300 GiB")
def ping(depth: int) -> int:
    return 1 + pong.remote(depth - 1) if depth else 0

@function(calls=[ping], scale=(0, 2), memory="300 GiB")
def pong(depth: int) -> int:
    return 1 + ping.remote(depth - 1) if depth else 0

@function(calls=["down"])
def down(depth: int) -> int:
    return down.remote(depth + 1)
"""

HERE = """
from motes import function, remote

@function(calls=["there.answer"], scale=(0, 1))
def ask(depth: int) -> int:
    return 1 + remote("there.answer").remote(depth - 1) if depth else 0
"""
THERE = """
from motes import function, remote

# It has room on one host only.
@function(calls=["here.ask"], scale=(0, 1), memory="500 GiB")
def answer(depth: int) -> int:
    return 1 + remote("here.ask").remote(depth - 1) if depth else 0
"""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningCluster]:
    """A cluster with the apps `shop` and `ring`; only the host `large` has room for the app `store`."""
    with RunningCluster(tmp_path_factory.mktemp("calling") / "home") as cluster:
        cluster.up()
        cluster.motes("host", "start", "--name", "large", "--lend", "cpus=2,memory=600GiB,spaces=20")
        cluster.make_keys(roles.host("evil"))
        cluster.deploy("shop", SHOP)
        cluster.deploy("ring", RING)
        cluster.deploy("store", STORE.format(memory="500 GiB"))
        yield cluster


def call(cluster: RunningCluster, *words: str) -> str:
    return cluster.motes("call", *words).strip()


def is_napping(cluster: RunningCluster) -> bool:
    return any(each["state"] == "busy" for each in cluster.instances("nap"))


def test_a_function_calls_others_of_its_app(cluster: RunningCluster) -> None:
    assert call(cluster, "shop.bill", '["a", "bb", "ccc"]') == "6"
    assert call(cluster, "shop.bill_later", '["a", "bb", "ccc"]') == "6"
    assert call(cluster, "shop.doubled", "4").split() == ["0", "2", "4", "6"]


def test_the_error_of_a_called_function_comes_back_with_its_traceback(cluster: RunningCluster) -> None:
    refused = cluster.run("call", "shop.bill", '["nothing"]')
    assert "KeyError: 'nothing'" in refused.stderr and "in price" in refused.stderr and "in bill" in refused.stderr


def test_a_function_on_another_host_is_called_through_the_gateway(cluster: RunningCluster) -> None:
    assert call(cluster, "shop.kept", "word") == '"kept word"'
    assert call(cluster, "shop.all_kept", "30") == str(list(range(30))).replace(" ", "")
    assert {each["host"] for each in cluster.instances("keep")} == {"large"}


def test_calls_to_other_hosts_wait_for_a_gateway_that_is_away(cluster: RunningCluster) -> None:
    before = cluster.kill("gateway")
    assert call(cluster, "shop.kept", "word") == '"kept word"'
    cluster.wait_until_back("gateway", before)


def test_what_is_not_declared_cannot_be_called(cluster: RunningCluster) -> None:
    assert "not declared" in cluster.refusal(6, "call", "shop.undeclared")


def test_a_called_function_ends_with_its_caller(cluster: RunningCluster) -> None:
    assert "timeout of 1 s" in cluster.refusal(5, "call", "shop.impatient")
    wait_until(lambda: not is_napping(cluster), "nap was ended")

    async def give_up() -> None:
        connected = await Cluster.open(cluster.home)
        pending = asyncio.ensure_future(connected.call("shop.patient"))
        await asyncio.to_thread(wait_until, lambda: is_napping(cluster), "nap runs")
        pending.cancel()
        await asyncio.wait((pending,))
        await connected.close()

    asyncio.run(give_up())
    wait_until(lambda: not is_napping(cluster), "nap was cancelled")


def test_a_ring_of_calls_ends_with_a_reason(cluster: RunningCluster) -> None:
    assert call(cluster, "ring.ping", "3") == "3"
    began = time.monotonic()
    assert "waits itself for calls like it" in cluster.run("call", "ring.ping", "9").stderr
    assert time.monotonic() - began < 20, "it must not wait for its timeout of 30 s"
    assert "is there a cycle?" in cluster.run("call", "ring.down", "0").stderr


def test_a_ring_over_two_hosts_ends_with_a_reason(cluster: RunningCluster) -> None:
    cluster.deploy("here", HERE)
    cluster.deploy("there", THERE)
    assert call(cluster, "here.ask", "1") == "1"
    hosts = {each["workload"]: each["host"] for each in cluster.instances() if each["app"] in ("here", "there")}
    assert len(hosts) == len(set(hosts.values())) == 2, f"both run on one host: {hosts}"
    began = time.monotonic()
    assert "waits itself for calls like it" in cluster.run("call", "here.ask", "3").stderr
    assert time.monotonic() - began < 20, "it must not wait for its timeout of 30 s"
    for app in ("here", "there"):
        cluster.motes("rm", app)


def test_many_callers_in_a_full_host_do_not_lock_each_other_out(cluster: RunningCluster) -> None:
    async def many() -> list[object]:
        connected = await Cluster.open(cluster.home)
        calls = [connected.call("ring.ping", 3) for _ in range(12)]
        results = await asyncio.gather(*calls, return_exceptions=True)
        await connected.close()
        return list(results)

    results = asyncio.run(many())
    assert all(each == 3 or "waits itself for calls" in str(each) for each in results) and 3 in results, results


def test_a_host_may_have_called_only_what_its_leases_declare(cluster: RunningCluster, tmp_path: Path) -> None:
    async def attack() -> list[str]:
        evil = await Connection.open(cluster.home.nats_url(), cluster.home.credentials("host-evil"))
        told: list[str] = []
        for caller in ("", "shop.bill", "shop.gone", "shop", "a.b.c"):
            request = pack_request(os.urandom(16), DEADLINE_S, b'"x"', Context((caller,)))
            answer = unpack_reply(await evil.request("relay.evil.call.shop.price", request, DEADLINE_S))
            told.append(answer.error().message)
        # In another host's name, or with an answer for somebody else.
        for subject in ("relay.local.call.shop.price", "host.local.call.shop.price"):
            try:
                told.append(str(await evil.request(subject, request, 0.5)))
            except MotesError as error:
                told.append(type(error).__name__)
        await evil.close()
        return told

    told = asyncio.run(attack())
    assert all("host 'evil' runs no function" in each for each in told[:5]), told
    assert told[5:] == ["TimedOut", "TimedOut"]
