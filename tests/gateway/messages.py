"""A stand-in for one connection and the cluster behind it: what arrives is given by hand, what is sent is kept."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from typing import Any

from motes.bus.connection import Message
from motes.errors import NotFound
from motes.model.host import HostInstances
from motes.model.keeper import Service
from motes.model.routes import Route, Routes


class Line:
    """The part of `motes.bus.connection.Connection` that answering uses."""

    def __init__(self) -> None:
        self.heard: dict[str, Callable[[Message], None]] = {}
        self.sent: list[tuple[str, bytes]] = []
        self.is_up = True
        self.on_reconnected: Callable[[], None] | None = None

    async def subscribe(self, subject: str, callback: Callable[[Message], None], queue: str = "") -> None:
        self.heard[subject] = callback

    def publish(self, subject: str, payload: bytes, reply: str = "", headers: Any = None) -> bool:
        if self.is_up:
            self.sent.append((subject, payload))
        return self.is_up


class Asked:
    """A cluster that knows the app `shop`; its calls wait until `go` is set."""

    def __init__(self) -> None:
        self.connection: Any = Line()
        self.go = asyncio.Event()
        self.bodies: list[bytes] = []
        self.items = 1
        self.streams_closed = 0
        self.ids: list[Any] = []
        self.questions: list[str] = []
        self.at_once = self.most_at_once = 0
        self.known = {
            "shop": Routes("shop", 1, {"bill": Route("function", ("one",), calls=("shop.price", "shop.each"))})
        }
        self.fresh = self.known
        self.known["shop"].workloads["price"] = Route("function", ("one",))
        self.known["shop"].workloads["each"] = Route("function", ("one",), streams=True)

    async def call_bytes(self, app: str, workload: str, body: bytes, *more: Any) -> bytes:
        self.bodies.append(body)
        self.ids.append(more[-1] if more else None)
        await self.go.wait()
        return b"1"

    async def stream_bytes(self, app: str, workload: str, body: bytes, *more: Any) -> AsyncGenerator[bytes, None]:
        try:
            for number in range(self.items):
                yield b"%d" % number
            await self.go.wait()
        finally:
            self.streams_closed += 1

    async def routes(self, app: str, anew: bool = False) -> Routes:
        if app in self.known and not anew:
            return self.known[app]
        await self._ask("routes")
        if app not in self.fresh:
            raise NotFound(f"there is no app {app!r}")
        self.known = {**self.known, app: self.fresh[app]}
        return self.fresh[app]

    async def services(self) -> list[Service]:
        await self._ask("services")
        return []

    async def look(self) -> dict[str, HostInstances | None]:
        await self._ask("look")
        return {}

    async def _ask(self, what: str) -> None:
        self.questions.append(what)
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        await asyncio.sleep(0.01)
        self.at_once -= 1
