"""A light HTTP/1.1 client that keeps some connections busy, in a process of its own."""

from __future__ import annotations

import asyncio
import time
from typing import Any, cast

import uvloop

from bench.programs.serving import serve_async
from bench.statistics import percentile


class Client(asyncio.Protocol):
    """One request after another on one connection, or on a new one each."""

    def __init__(self, task: Task) -> None:
        self._task = task
        self._answer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._ask()

    def _ask(self) -> None:
        self._began = time.perf_counter() if self._task.keep_alive else self._task.began
        self._transport.write(self._task.request)

    def data_received(self, data: bytes) -> None:
        self._answer += data
        head, end, body = self._answer.partition(b"\r\n\r\n")
        if not end:
            return
        if not head.startswith(b"HTTP/1.1 200"):
            self._task.fail(RuntimeError(self._answer[:500].decode()))
            return
        length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n", 1)[0])
        if len(body) < length:
            return
        self._answer = b""
        self._task.note(time.perf_counter() - self._began)
        if self._task.keep_alive and not self._task.done.done():
            self._ask()
        else:
            self._transport.close()

    def connection_lost(self, error: Exception | None) -> None:
        if self._answer or (self._task.keep_alive and not self._task.done.done()):
            self._task.fail(error or ConnectionError("the connection ended early"))
        elif not self._task.done.done():
            self._task.connect()


class Task:
    """`count` requests to one place, over one connection at a time."""

    def __init__(self, port: int, host: str, count: int, keep_alive: bool) -> None:
        more = "" if keep_alive else "Connection: close\r\n"
        self.request = f"GET / HTTP/1.1\r\nHost: {host}\r\n{more}\r\n".encode()
        self.keep_alive = keep_alive
        self.taken: list[float] = []
        self.began = 0.0
        self._port = port
        self._count = count
        self._loop = asyncio.get_running_loop()
        self.done: asyncio.Future[None] = self._loop.create_future()
        self._connecting: asyncio.Task[Any] | None = None

    def connect(self) -> None:
        """Open a connection, which begins to ask at once."""
        self.began = time.perf_counter()
        self._connecting = self._loop.create_task(self._connect())

    async def _connect(self) -> None:
        try:
            await self._loop.create_connection(lambda: Client(self), "127.0.0.1", self._port)
        except OSError as error:
            self.fail(error)

    def note(self, taken: float) -> None:
        self.taken.append(taken)
        if len(self.taken) == self._count and not self.done.done():
            self.done.set_result(None)

    def fail(self, error: Exception) -> None:
        if not self.done.done():
            self.done.set_exception(error)


async def run(port: int, host: str, connections: int, count: int, keep_alive: bool) -> dict[str, float]:
    """Requests a second, p50 and p99 in seconds, with `connections` under way."""
    tasks = [Task(port, host, count // connections, keep_alive) for _ in range(connections)]
    began = time.perf_counter()
    for task in tasks:
        task.connect()
    await asyncio.gather(*(task.done for task in tasks))
    seconds = time.perf_counter() - began
    taken = [each for task in tasks for each in task.taken]
    return {"per_s": len(taken) / seconds, "p50_s": percentile(taken, 50), "p99_s": percentile(taken, 99)}


if __name__ == "__main__":
    uvloop.run(serve_async({"run": run}))
