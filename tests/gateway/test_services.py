"""What strangers' requests over NATS cost the gateway and the controller: no more than is bounded."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from gateway.messages import Asked
from motes.bus.connection import Message
from motes.gateway.call_request import MAX_HELD_BYTES
from motes.gateway.services import MOST_ERRORS, Services
from motes.grants.shut_out import ShutOut
from motes.model.keeper import Service
from motes.model.release import PAYLOAD_LIMIT_BYTES, Function

INBOX = "_INBOX.guest.x.1"


def with_services(work: Callable[[Asked, Services], Awaitable[None]]) -> None:
    async def run() -> None:
        cluster = Asked()
        services = Services(cluster, cluster.connection, ShutOut(b""))
        await services.start()
        await work(cluster, services)

    asyncio.run(run())


def test_many_questions_at_a_time_are_one_to_the_controller_and_the_hosts() -> None:
    async def work(cluster: Asked, services: Services) -> None:
        for verb in ("PING", "STATS"):
            for _ in range(200):
                cluster.connection.heard[f"$SRV.{verb}"](Message(f"$SRV.{verb}", INBOX, b"", False))
        await services._tasks.wait()
        assert sorted(cluster.questions) == ["look", "services"]

    with_services(work)


def test_errors_of_calls_to_what_there_is_not_are_not_kept_without_end() -> None:
    async def work(cluster: Asked, services: Services) -> None:
        headers = b"NATS/1.0\r\nMotes-Timeout: never\r\n\r\n"
        for number in range(3 * MOST_ERRORS):
            message = Message(f"fn.app{number}.f", INBOX, b"", False, headers)
            cluster.connection.heard["fn.*.*"](message)
            if number % 500 == 0:
                await services._tasks.wait()
        await services._tasks.wait()
        assert len(services._last_errors) == MOST_ERRORS

    with_services(work)


def test_bodies_are_bounded_together() -> None:
    async def work(cluster: Asked, services: Services) -> None:
        large = b"1" * PAYLOAD_LIMIT_BYTES
        most = MAX_HELD_BYTES // len(large)
        for _ in range(most + 5):
            cluster.connection.heard["fn.*.*"](Message("fn.shop.price", INBOX, large, False))
        await asyncio.sleep(0)
        assert len(cluster.bodies) == most and len(cluster.connection.sent) == 5
        cluster.go.set()
        await services._tasks.wait()
        cluster.connection.heard["fn.*.*"](Message("fn.shop.price", INBOX, large, False))
        await services._tasks.wait()
        assert len(cluster.bodies) == most + 1 and services._calls == 0

    with_services(work)


def test_many_questions_about_many_apps_are_put_into_words_once_and_leave_others_their_turn(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A question has a few bytes, and its answers may have megabytes: the gateway must not work on these alone."""
    told: list[str] = []
    most_in_a_turn = 0

    class Large(Asked):
        async def services(self) -> list[Service]:
            return [Service(f"app{number}", "r", [Function("f", "app", "f")]) for number in range(20)]

    def info(app: str, function: Function) -> dict[str, Any]:
        told.append(app)
        return {}

    async def work() -> None:
        nonlocal most_in_a_turn
        cluster = Large()
        services = Services(cluster, cluster.connection, ShutOut(b""))
        await services.start()
        for _ in range(200):
            cluster.connection.heard["$SRV.INFO"](Message("$SRV.INFO", INBOX, b"", False))
        before = 0
        while len(services._tasks):
            await asyncio.sleep(0)
            sent = len(cluster.connection.sent)
            most_in_a_turn, before = max(most_in_a_turn, sent - before), sent
        assert before == 200 * 20

    monkeypatch.setattr("motes.gateway.services._info", info)
    asyncio.run(work())
    assert len(told) < 3 * 20 and most_in_a_turn <= 2
