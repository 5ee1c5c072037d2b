"""What a test says and hears over a connection that does not block."""

from __future__ import annotations

import asyncio
import socket


async def send(connection: socket.socket, data: bytes) -> None:
    await asyncio.get_running_loop().sock_sendall(connection, data)


async def hear(connection: socket.socket, size: int) -> bytes:
    """So many bytes, or all until the end."""
    heard = bytearray()
    while len(heard) < size and (data := await asyncio.get_running_loop().sock_recv(connection, size - len(heard))):
        heard += data
    return bytes(heard)
