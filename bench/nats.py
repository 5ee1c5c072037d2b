"""The two peers of a call: bare NATS (nats-py and uvloop) and thin NATS (a minimal asyncio.Protocol client).

Thin NATS is Motes' own bus/wire.py with nothing above it: no router, no agent, no instance. All speak to the cluster's
own nats-server, with the same kind of JWT.
"""

from __future__ import annotations

import asyncio
import base64
import itertools
from typing import Any

from motes.bus.connection import Connection, Message
from motes.model.credentials import Credentials


async def connect_bare(url: str, credentials: Credentials) -> Any:
    """A nats-py client, logged in."""
    import nats
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    def sign(nonce: str) -> bytes:
        signature = Ed25519PrivateKey.from_private_bytes(credentials.secret).sign(nonce.encode())
        return base64.b64encode(signature)

    return await nats.connect(url, user_jwt_cb=lambda: credentials.jwt.encode(), signature_cb=sign)


class Bare:
    """Requests with nats-py."""

    def __init__(self, client: Any, subject: str) -> None:
        self._client = client
        self._subject = subject

    async def call(self, body: bytes) -> None:
        await self._client.request(self._subject, body, timeout=10)


class Thin:
    """Requests with a future for each and nothing else."""

    def __init__(self, connection: Connection, subject: str) -> None:
        self._connection = connection
        self._subject = subject
        self._loop = asyncio.get_running_loop()
        self._prefix = f"{connection.inbox}.thin."
        self._waiting: dict[str, asyncio.Future[bytes]] = {}
        self._numbers = itertools.count()

    async def open(self) -> None:
        await self._connection.subscribe(self._prefix + "*", self._take)

    def _take(self, message: Message) -> None:
        self._waiting.pop(message.subject[len(self._prefix) :]).set_result(message.data)

    async def call(self, body: bytes) -> None:
        token = str(next(self._numbers))
        answer = self._waiting[token] = self._loop.create_future()
        self._connection.publish(self._subject, body, self._prefix + token)
        await answer
