"""Where an app's daemon is, and a new connection to it."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

from motes.bus.subjects import is_name
from motes.errors import EngineError, HostError, MotesError, NotFound, Unavailable
from motes.gateway.backend import Backend
from motes.model.routes import Routes
from motes.router.ingress_link import IngressLink

RETRY_FOR_S = 3.0
"""How long a daemon that takes no connection is tried again: it is being replaced, or not yet listening."""
RETRY_EVERY_S = 0.05
MAX_WAITING = 512
"""Connections that wait at a time for a daemon to take them."""


class Daemons:
    """Opens connections to daemons: through the ingress of an agent on this machine, else through a tunnel."""

    def __init__(self, backend: Backend, run_folder: Path) -> None:
        self._backend = backend
        self._hosts_folder = run_folder / "hosts"
        self._links: dict[str, IngressLink] = {}
        self._waiting = 0

    async def open(self, app: str) -> socket.socket:
        """A socket connected to the daemon of `app`; tried for RETRY_FOR_S while it takes none. Raises MotesError."""
        deadline = asyncio.get_running_loop().time() + RETRY_FOR_S
        while True:
            try:
                return await self._open_once(app)
            except (HostError, EngineError):
                if asyncio.get_running_loop().time() > deadline or self._waiting >= MAX_WAITING:
                    raise
            await self._pause()

    def close(self) -> None:
        """Drop the connections to the agents."""
        for link in self._links.values():
            link.close()

    async def _pause(self) -> None:
        self._waiting += 1
        try:
            await asyncio.sleep(RETRY_EVERY_S)
        finally:
            self._waiting -= 1

    async def _open_once(self, app: str) -> socket.socket:
        if not is_name(app):
            raise NotFound(f"no app {app[:80]!r} (`motes apps` lists the apps)")
        daemon, hosts = _daemon(await self._backend.routes(app))
        nowhere = f"{app}.{daemon} runs on no host just now; try again in a moment (`motes apps` may say why)"
        failure: MotesError = Unavailable(nowhere)
        for host in hosts:
            try:
                return await self._connect(host, app, daemon)
            except (HostError, EngineError) as error:
                failure = error
        raise failure

    async def _connect(self, host: str, app: str, daemon: str) -> socket.socket:
        """Where an agent of this machine listens there is no way shorter."""
        link = self._links.get(host) or self._link_here(host)
        if link is None:
            return await self._backend.connection(host, app, daemon)
        try:
            return await link.open(app, daemon)
        except Unavailable:
            if not self._ingress(host).exists():
                # It is on another machine now, and found there by the next try.
                self._links.pop(host, link).close()
            raise

    def _link_here(self, host: str) -> IngressLink | None:
        """Looked for only while there is none yet: each look costs some 10 us, and connections come often."""
        ingress = self._ingress(host)
        if not ingress.exists():
            return None
        return self._links.setdefault(host, IngressLink(ingress))

    def _ingress(self, host: str) -> Path:
        return self._hosts_folder / host / "ingress.sock"


def _daemon(routes: Routes) -> tuple[str, tuple[str, ...]]:
    """The name and the hosts of an app's daemon."""
    for name, route in routes.workloads.items():
        if route.kind == "daemon":
            return name, tuple(host for host in route.hosts if is_name(host))
    raise NotFound(f"app {routes.app!r} has no daemon; its functions are called with POST /{routes.app}/FUNCTION")
