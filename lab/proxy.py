"""A cutting TCP proxy on the loopback: what a cable is where no network namespaces can be made.

It carries bytes and not packets: what is lost comes later, as TCP sends it again, and what is cut waits, and no end is
told: a connection that one end closes meanwhile stays open for the other.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Coroutine

from lab.harm import End, Line

RESENT_S = 0.2
"""What is lost comes so much later."""
_CHUNK_BYTES = 65536


class Proxy(Line):
    """Forwards `port` of the loopback, a free one, to `target`."""

    def __init__(self, target: int) -> None:
        super().__init__()
        self._target = target
        self._loop = asyncio.new_event_loop()
        self._open: dict[End, asyncio.Event] = {"keeper": asyncio.Event(), "machine": asyncio.Event()}
        self._over = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._bytes_per_s = float("inf")
        self._kept: list[asyncio.StreamWriter] = []
        """What nobody refers to is closed, and an end would see that."""
        self.port = 0
        ready = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(ready,), daemon=True)
        self._thread.start()
        ready.wait()
        self.changed()

    def changed(self) -> None:
        self._loop.call_soon_threadsafe(self._apply)

    def narrow(self, bytes_per_s: float) -> None:
        """From now on no more passes in a second; the rest waits in the middle, however much that is."""
        self._bytes_per_s = bytes_per_s

    def _apply(self) -> None:
        for end, event in self._open.items():
            if self.is_cut[end]:
                event.clear()
            else:
                event.set()

    def close(self) -> None:
        """End the proxy and every connection through it."""
        self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join()

    def _run(self, ready: threading.Event) -> None:
        self._loop.run_until_complete(self._serve(ready))
        self._loop.close()

    async def _serve(self, ready: threading.Event) -> None:
        server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = int(server.sockets[0].getsockname()[1])
        ready.set()
        await self._over.wait()
        server.close()
        for writer in self._kept:
            writer.transport.abort()
        rest = asyncio.all_tasks() - {asyncio.current_task()}
        for task in rest:
            task.cancel()
        await asyncio.gather(*rest, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._kept.append(writer)
        # The greeting of a handshake has to pass both ways.
        for event in self._open.values():
            await event.wait()
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            writer.close()
            return
        self._kept.append(far_writer)
        self._spawn(self._forward(reader, far_writer, "keeper"))
        self._spawn(self._forward(far_reader, writer, "machine"))

    def _spawn(self, work: Coroutine[object, object, None]) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _forward(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, to: End) -> None:
        """Read all the time, so that the delay of one chunk is not that of the next."""
        waiting: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()
        self._spawn(self._deliver(waiting, sink, to))
        with contextlib.suppress(OSError):
            while data := await source.read(_CHUNK_BYTES):
                waiting.put_nowait((self._due(), data))
        waiting.put_nowait((self._due(), b""))

    def _due(self) -> float:
        return self._loop.time() + self.delay_s + (RESENT_S if self.loses() else 0.0)

    async def _deliver(self, waiting: asyncio.Queue[tuple[float, bytes]], sink: asyncio.StreamWriter, to: End) -> None:
        data = b"begun"
        while data:
            due, data = await waiting.get()
            await asyncio.sleep(max(0.0, due - self._loop.time()))
            await self._open[to].wait()
            await asyncio.sleep(len(data) / self._bytes_per_s)
            with contextlib.suppress(OSError):
                if data:
                    sink.write(data)
                    await sink.drain()
        sink.close()
