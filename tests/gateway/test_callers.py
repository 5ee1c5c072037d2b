"""For whom the gateway says that it calls: what a request names, what a host claims, and nobody else."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest

from motes.bus.connection import Message
from motes.gateway.relay import Relay
from motes.gateway.services import Services
from motes.grants.shut_out import ShutOut
from motes.model.call import Context, pack_request
from motes.model.caller import NOBODY, Caller, caller_of, digest
from motes.model.host import HostInstances
from motes.model.keeper import Service
from motes.model.routes import Route, Routes

POST = b'POST /hello/greet HTTP/1.1\r\nHost: localhost:PORT\r\nConnection: close\r\nContent-Length: 5\r\n%b\r\n"Ada"'


async def numbers(body: bytes) -> AsyncIterator[bytes]:
    yield body


def test_a_request_names_its_caller_and_one_that_does_not_is_nobodys(trial: Any) -> None:
    async def test(gateway: Any) -> None:
        gateway.cluster.streams["hello.greet"] = numbers
        for more in ({}, {"motes_caller": "kim@example.org"}, {"motes_caller": "kim", "accept": "text/event-stream"}):
            assert (await gateway.request("POST", "/hello/greet", b'"Ada"', **more)).status == 200
        assert gateway.cluster.on_behalf == ["", "http/kim@example.org", "http/kim"]

    trial(test)


@pytest.mark.parametrize("name", [b"", b"two words", b"a\tb", "é".encode(), b"x" * 65])
def test_what_is_no_name_is_refused_and_called_for_nobody(trial: Any, name: bytes) -> None:
    async def test(gateway: Any) -> None:
        answer = await gateway.raw(POST % (b"Motes-Caller: " + name + b"\r\n"))
        assert b" 422 " in answer.split(b"\r\n")[0] and b"1 to 64 visible" in answer
        assert gateway.cluster.calls == []

    trial(test)


def test_of_two_names_none_is_taken(trial: Any) -> None:
    """One comes from outside, through a front end that adds its own and takes nothing away."""

    async def test(gateway: Any) -> None:
        answer = await gateway.raw(POST % b"Motes-Caller: victim\r\nMotes-Caller: me\r\n")
        assert b" 400 " in answer.split(b"\r\n")[0] and b"bad_caller" in answer
        assert gateway.cluster.calls == []

    trial(test)


@pytest.mark.parametrize(
    "browser",
    [
        {"origin": "http://evil.example"},
        {"origin": "http://web.localhost:PORT"},
        {"sec_fetch_site": "cross-site"},
        {"sec_fetch_site": "same-site"},
        {"content_type": "text/plain", "referer": "http://evil.example/"},
    ],
)
def test_a_page_of_another_origin_calls_in_nobodys_name(trial: Any, browser: dict[str, str]) -> None:
    async def test(gateway: Any) -> None:
        asked = {**browser, "access_control_request_headers": "motes-caller", "access_control_request_method": "POST"}
        assert (await gateway.request("OPTIONS", "/hello/greet", **asked)).status in (403, 405)
        assert (await gateway.request("POST", "/hello/greet", b'"Ada"', motes_caller="kim", **browser)).status == 403
        assert gateway.cluster.calls == []

    trial(test)


class Bus:
    """What the gateway hears, and for whom it then calls."""

    def __init__(self) -> None:
        self.handlers: dict[str, Callable[[Message], None]] = {}
        self.connection = SimpleNamespace(subscribe=self._subscribe, publish=lambda *told, **more: True)
        self.on_behalf: list[str] = []

    async def _subscribe(self, subject: str, handler: Callable[[Message], None], queue: str = "") -> None:
        self.handlers[subject] = handler

    async def call_bytes(
        self, app: str, workload: str, body: bytes, timeout_s: float, context: Context, call_id: bytes = b""
    ) -> bytes:
        self.on_behalf.append(context.on_behalf)
        return b"1"

    async def routes(self, app: str, anew: bool = False) -> Routes:
        return Routes(app, 1, {"f": Route("function", ("one", "two"), calls=("app.g",)), "g": Route("function", ())})

    async def services(self) -> list[Service]:
        return []

    async def look(self) -> list[HostInstances]:
        return []

    def seen_by_agents(self) -> list[Caller]:
        return [caller_of("gateway", each) for each in self.on_behalf]


async def hear(bus: Bus, handler: str, subject: str, data: bytes, reply: str) -> None:
    message = SimpleNamespace(subject=subject, data=data, reply=reply, headers=b"", no_responders=False)
    bus.handlers[handler](cast(Message, message))
    for _ in range(10):
        await asyncio.sleep(0)


def test_what_a_host_claims_of_the_caller_reaches_nobody_but_what_that_host_has_asked_for() -> None:
    async def test() -> None:
        bus = Bus()
        await Relay(cast(Any, bus), cast(Any, bus.connection), b"secret").start()
        honest = digest(("ada", "", "app.f"))
        for host in ("one", "two"):
            for claim in ("ada", "", "http/kim", "nats/ada", "host/two/" + honest, honest, "x" * 128):
                bus.on_behalf.clear()
                request = pack_request(os.urandom(16), 1.0, b"", Context(("app.f",), on_behalf=claim))
                await hear(bus, "relay.*.call.*.*", f"relay.{host}.call.app.g", request, f"_INBOX.host-{host}.x.call.y")
                (caller,) = bus.seen_by_agents()
                assert caller == NOBODY if not claim else caller[1].startswith(f"host/{host}/"), claim

    asyncio.run(test())


def test_who_sends_to_a_functions_subject_is_nobody_and_to_its_own_is_itself() -> None:
    async def test() -> None:
        bus = Bus()
        await Services(cast(Any, bus), cast(Any, bus.connection), ShutOut(b"")).start()
        await hear(bus, "fn.*.*", "fn.app.g", b"1", "_INBOX.ada.x")
        await hear(bus, "fn.*.*.*", "fn.app.g.ada", b"1", "_INBOX.ada.x")
        assert bus.seen_by_agents() == [NOBODY, ("gateway", "nats/ada")]

    asyncio.run(test())
