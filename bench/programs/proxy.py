"""A TCP proxy that can stop forwarding without closing anything, like a cable that is pulled."""

from __future__ import annotations

import asyncio

import uvloop

from bench.programs.serving import serve_async

_is_cut = asyncio.Event()
# What nobody refers to any more is closed, and that the other side would see.
_kept: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
_tasks: set[asyncio.Task[None]] = set()


async def open_to(port: int) -> int:
    """Listen on a free port of the loopback and forward to `port`; returns the one listened on."""

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        _kept.append((reader, writer))
        if _is_cut.is_set():
            return
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", port)
        _kept.append((far_reader, far_writer))
        for source, sink in ((reader, far_writer), (far_reader, writer)):
            task = asyncio.create_task(_forward(source, sink))
            _tasks.add(task)
            task.add_done_callback(_tasks.discard)

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    return int(server.sockets[0].getsockname()[1])


async def _forward(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    while data := await source.read(65536):
        if _is_cut.is_set():
            return
        sink.write(data)
        await sink.drain()
    sink.close()


async def cut() -> None:
    """Forward nothing from now on; connections stay open, new ones get no answer."""
    _is_cut.set()


if __name__ == "__main__":
    uvloop.run(serve_async({"open": open_to, "cut": cut}))
