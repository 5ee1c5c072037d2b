"""What the gateway needs of the cluster, and what it is until the cluster answers."""

from __future__ import annotations

import socket
from collections.abc import AsyncGenerator
from typing import Protocol

from motes.errors import Unavailable
from motes.model.call import FROM_OUTSIDE, Context
from motes.model.host import HostInstances
from motes.model.keeper import Tool
from motes.model.routes import Routes

_STARTING = "the cluster is starting; try again in a moment"


class Cluster(Protocol):
    """The part of `motes.client.cluster.Cluster` that the gateway uses."""

    @property
    def ready(self) -> bool: ...

    async def call_bytes(
        self, app: str, workload: str, body: bytes, timeout_s: float | None = None, context: Context = FROM_OUTSIDE
    ) -> bytes: ...

    def stream_bytes(
        self, app: str, workload: str, body: bytes, timeout_s: float | None = None, context: Context = FROM_OUTSIDE
    ) -> AsyncGenerator[bytes, None]: ...

    async def routes(self, app: str) -> Routes: ...

    async def look(self) -> dict[str, HostInstances | None]: ...

    async def tools(self) -> list[Tool]: ...


class Tunnels(Protocol):
    """The part of `motes.gateway.tunnels.Tunnels` that the gateway uses."""

    async def connect(self, host: str, app: str, workload: str) -> socket.socket: ...


class Backend:
    """The cluster, once there is one; until then every question to it is answered with Unavailable."""

    def __init__(self) -> None:
        self._cluster: Cluster | None = None
        self._tunnels: Tunnels | None = None

    def connect(self, cluster: Cluster, tunnels: Tunnels) -> None:
        """From now on `cluster` answers, and `tunnels` lead to its other machines."""
        self._cluster, self._tunnels = cluster, tunnels

    @property
    def ready(self) -> bool:
        """Whether calls can be answered."""
        return self._cluster is not None and self._cluster.ready

    async def call_bytes(
        self, app: str, workload: str, body: bytes, timeout_s: float | None = None, context: Context = FROM_OUTSIDE
    ) -> bytes:
        return await self._connected().call_bytes(app, workload, body, timeout_s, context)

    def stream_bytes(
        self, app: str, workload: str, body: bytes, timeout_s: float | None = None, context: Context = FROM_OUTSIDE
    ) -> AsyncGenerator[bytes, None]:
        """Raises Unavailable at once while there is no cluster."""
        return self._connected().stream_bytes(app, workload, body, timeout_s, context)

    async def routes(self, app: str) -> Routes:
        return await self._connected().routes(app)

    async def look(self) -> dict[str, HostInstances | None]:
        return await self._connected().look()

    async def tools(self) -> list[Tool]:
        return await self._connected().tools()

    async def connection(self, host: str, app: str, workload: str) -> socket.socket:
        """A connection to a daemon on another machine. Raises MotesError."""
        if self._tunnels is None:
            raise Unavailable(_STARTING)
        return await self._tunnels.connect(host, app, workload)

    def _connected(self) -> Cluster:
        if self._cluster is None:
            raise Unavailable(_STARTING)
        return self._cluster
