"""What passes to daemons is counted by the gateway, app by app, and shown at `/metrics`."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from gateway.test_daemon_proxy import REQUEST, echo
from motes.gateway import daemons, metrics
from motes.gateway.daemon_counts import DaemonCounts
from motes.model.totals import LATENCY_BOUNDS_S

Read = Callable[[asyncio.StreamReader], Awaitable[Any]]


async def told(gateway: Any) -> dict[str, float]:
    """What the page says of the app `web`."""
    await asyncio.sleep(metrics.FRESH_S)
    page = (await gateway.request("GET", "/metrics")).body.decode()
    found = [each for family in text_string_to_metric_families(page) for each in family.samples]
    return {each.name: each.value for each in found if each.labels == {"app": "web"}}


def test_requests_are_counted_one_by_one_and_connections_while_they_are_open(trial: Any, read: Read) -> None:
    async def test(gateway: Any) -> None:
        await gateway.serve_daemon(echo)
        request = REQUEST.replace(b"PORT", b"%d" % gateway.port)
        async with gateway.connection() as (reader, writer):
            for _ in range(3):
                writer.write(request)
                await read(reader)
            writer.write(request * 2)
            for _ in range(2):
                await read(reader)
            found = await told(gateway)
            assert found["motes_daemon_connections"] == 1.0
        assert found["motes_daemon_requests_total"] == 5.0 and found["motes_daemon_failures_total"] == 0.0
        assert found["motes_daemon_seconds_count"] == 4.0, "of two at once the first is timed"
        assert (await told(gateway))["motes_daemon_connections"] == 0.0

    trial(test)


def test_an_answer_that_stays_out_counts_as_slow_and_an_end_without_one_as_a_failure(trial: Any) -> None:
    async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        await asyncio.sleep(0.3)
        writer.close()

    async def test(gateway: Any) -> None:
        await gateway.serve_daemon(hang)
        assert b"daemon_ended" in await gateway.raw(REQUEST)
        found = await told(gateway)
        assert (found["motes_daemon_requests_total"], found["motes_daemon_failures_total"]) == (1.0, 1.0)
        assert found["motes_daemon_seconds_count"] == 1.0 and found["motes_daemon_seconds_sum"] >= 0.3

    trial(test)


def test_names_that_somebody_invents_are_counted_nowhere(trial: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(daemons, "RETRY_FOR_S", 0.0)

    async def test(gateway: Any) -> None:
        for number in range(20):
            await gateway.request("GET", "/", host=f"app-{number}.localhost:PORT")
        gateway.daemon_port = 1  # Where nobody listens.
        await gateway.request("GET", "/", host="web.localhost:PORT")
        await asyncio.sleep(metrics.FRESH_S)
        assert b'{app="' not in (await gateway.request("GET", "/metrics")).body

    trial(test)


def test_a_connection_counts_from_when_the_daemon_takes_it_with_what_has_come_until_then() -> None:
    counts, now = DaemonCounts(), 0.0
    visit = counts.visit("web", lambda: now)
    visit.asked(1), visit.asked(3)
    assert counts.by_app == {}
    visit.opened()
    now = 0.2
    visit.answered(), visit.answered()
    visit.ended()
    count = counts.by_app["web"]
    assert (count.requests, count.answers, count.connections, count.answered_s) == (3, 1, 0, 0.2)
    assert [bound for bound, found in zip(LATENCY_BOUNDS_S, count.buckets, strict=False) if found] == [0.25]
