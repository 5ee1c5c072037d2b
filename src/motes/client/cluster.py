"""A connection to a cluster for programs: call functions, deploy, ask what runs.

async with connect() as cluster:
    await cluster.call("index.parse", text)
"""

from __future__ import annotations

import asyncio
import contextlib
import copy
import os
from collections.abc import AsyncGenerator, AsyncIterator
from types import TracebackType
from typing import Any, TypeVar

import msgspec

from motes.bus import subjects
from motes.bus.connection import Connection
from motes.errors import BadInput, MotesError, NotFound, Unavailable
from motes.home import Home
from motes.model.bounds import UNREADABLE
from motes.model.call import FROM_OUTSIDE, Context
from motes.model.caller import checked_name
from motes.model.host import HostInstances, HostStatus
from motes.model.instance import InstanceReport
from motes.model.keeper import Service, Tool, decode_answer
from motes.model.names import GATEWAY
from motes.model.routes import Routes
from motes.payload import decode, encode
from motes.router.dispatcher import Dispatcher
from motes.tasks import Tasks

REQUEST_TIMEOUT_S = 5.0
PS_TIMEOUT_S = 1.0

T = TypeVar("T")


class Cluster:
    """A cluster that this program may use as `user`. Make one with `connect` or `Cluster.open`."""

    def __init__(self, home: Home, connection: Connection, dispatcher: Dispatcher) -> None:
        self.home = home
        self.connection = connection
        self._dispatcher = dispatcher
        self._context = FROM_OUTSIDE
        self._following = Tasks("client")

    @classmethod
    async def open(cls, home: Home, user: str | None = None) -> Cluster:
        """Connect to the cluster of `home`, as the home's own user if no other is named. Raises Unavailable."""
        dispatcher = Dispatcher(GATEWAY if user == GATEWAY else "client")
        user = user or home.own_user()
        keeper = home.reach(user)
        connection = await Connection.open(
            keeper.servers,
            home.credentials(user),
            certificate=keeper.certificate,
            find=lambda: home.reach(user),
            on_disconnected=dispatcher.on_disconnected,
            on_reconnected=dispatcher.on_reconnected,
        )
        await dispatcher.start(connection)
        cluster = cls(home, connection, dispatcher)
        connection.on_reconnected = cluster._on_reconnected
        cluster._follow()
        # It asks before all else, and hears the answer before whatever this program waits for.
        await asyncio.sleep(0)
        return cluster

    async def close(self) -> None:
        """End every call that is under way, and the connection."""
        self._following.cancel()
        self._dispatcher.close()
        await self.connection.close()

    def _on_reconnected(self) -> None:
        self._dispatcher.on_reconnected()
        self._follow()

    def _follow(self) -> None:
        """A keeper on another machine may have moved: it says so itself, beside all else."""
        if self.home.keeper_file.exists():
            from motes.client.following import follow

            self._following.cancel()
            self._following.spawn(follow(self.home, self.connection))

    @property
    def ready(self) -> bool:
        return self.connection.connected

    # ------------------------------------------------------------------ calls

    def on_behalf_of(self, name: str) -> Cluster:
        """The same connection, for calls of one of this program's own users: see `@function(reuse="caller")`.

        The name means something among the calls of this program's NATS user only. Raises BadInput.
        """
        other = copy.copy(self)
        other._context = Context(on_behalf=checked_name(name))
        return other

    async def call(self, address: str, /, *args: Any, timeout_s: float | None = None, **kwargs: Any) -> Any:
        """Call `app.function` and return its result as plain data (numbers, strings, lists, dicts).

        One positional argument is the value of the function's one parameter; several go to its parameters in order.
        """
        app, workload = split_address(address)
        body = await self._body(app, workload, args, kwargs)
        return decode(await self.call_bytes(app, workload, body, timeout_s), Any)

    async def stream(
        self, address: str, /, *args: Any, timeout_s: float | None = None, **kwargs: Any
    ) -> AsyncIterator[Any]:
        """Call a generator `app.function`: its items as plain data, as they come; it waits for who takes them."""
        app, workload = split_address(address)
        body = await self._body(app, workload, args, kwargs)
        async with contextlib.aclosing(self.stream_bytes(app, workload, body, timeout_s)) as items:
            async for item in items:
                yield decode(item, Any)

    async def call_bytes(
        self,
        app: str,
        workload: str,
        body: bytes,
        timeout_s: float | None = None,
        context: Context | None = None,
        call_id: bytes | None = None,
    ) -> bytes:
        """Call with a JSON body, for a JSON result; `call_id` are 16 bytes that nobody can guess, None makes them."""
        return await self._dispatcher.call(app, workload, body, timeout_s, context or self._context, call_id)

    def stream_bytes(
        self,
        app: str,
        workload: str,
        body: bytes,
        timeout_s: float | None = None,
        context: Context | None = None,
        call_id: bytes | None = None,
    ) -> AsyncGenerator[bytes, None]:
        """The same for a stream: JSON of each item; close it when no more are wanted."""
        return self._dispatcher.stream(app, workload, body, timeout_s, context or self._context, call_id)

    async def routes(self, app: str, anew: bool = False) -> Routes:
        """What the app has, and where; `anew`: as the controller says now. Raises NotFound."""
        return await self._dispatcher.routes(app, anew)

    async def _body(self, app: str, workload: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bytes:
        if kwargs or len(args) > 1:
            return await self._named_body(app, workload, args, kwargs)
        return encode(args[0]) if args else b""

    async def _named_body(self, app: str, workload: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bytes:
        if not args:
            return encode(kwargs)
        route = (await self.routes(app)).workloads.get(workload)
        if route is None:
            raise NotFound(f"app {app!r} has no function {workload!r} (see `motes apps`)")
        names = route.parameter_names
        if len(args) > len(names):
            raise BadInput(
                f"{app}.{workload} takes {len(names)} arguments ({', '.join(names)}); {len(args)} were given"
            )
        return encode(dict(zip(names, args, strict=False)) | kwargs)

    # ------------------------------------------------------------------ the controller and the hosts

    async def ask(self, verb: str, question: object, kind: type[T], timeout_s: float = REQUEST_TIMEOUT_S) -> T:
        """Ask the controller; verbs and their types are in motes.model.keeper."""
        subject = subjects.keeper(self.connection.user, verb)
        data = await self.connection.request(subject, msgspec.msgpack.encode(question), timeout_s)
        return decode_answer(data, kind)

    async def tools(self) -> list[Tool]:
        """The functions that are offered to agents."""
        return await self.ask("tools", None, list[Tool])

    async def services(self) -> list[Service]:
        """The apps that have functions, with what is known of these."""
        return await self.ask("services", None, list[Service])

    async def hosts(self) -> list[HostStatus]:
        """The cluster's hosts."""
        return await self.ask("hosts", None, list[HostStatus])

    async def instances(self) -> list[InstanceReport]:
        """Every instance, asked of the hosts themselves; a host that does not answer in time is left out."""
        names = [host.name for host in await self.hosts() if host.is_there and host.state != "silent"]
        answers = await asyncio.gather(*map(self._look_at, names))
        return [instance for answer in answers if answer is not None for instance in answer.instances]

    async def look(self) -> dict[str, HostInstances | None]:
        """What each host says of its instances and workloads; None for one that does not answer in time."""
        names = self._dispatcher.hosts()
        return dict(zip(names, await asyncio.gather(*map(self._look_at, names)), strict=True))

    async def _look_at(self, host: str) -> HostInstances | None:
        try:
            data = await self.connection.request(subjects.ps(host), b"", PS_TIMEOUT_S)
            found = msgspec.msgpack.decode(data, type=HostInstances)
        except (MotesError, *UNREADABLE):
            return None
        return found if found.is_of(host) else None


class connect:
    """The cluster of this machine's user; `home` None takes that of the context in force (motes.contexts)."""

    def __init__(self, home: str | os.PathLike[str] | None = None) -> None:
        self._home = Home(home)
        self._cluster: Cluster | None = None

    async def __aenter__(self) -> Cluster:
        self._home.cluster()
        self._cluster = await Cluster.open(self._home)
        return self._cluster

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._cluster is not None:
            await self._cluster.close()


def split_address(address: str) -> tuple[str, str]:
    """`"app.function"` as its two names. Raises BadInput."""
    app, dot, workload = address.partition(".")
    if not dot or not subjects.is_name(app) or not subjects.is_name(workload):
        raise BadInput(f"{address!r} is no address; write APP.FUNCTION, as in hello.greet")
    return app, workload


__all__ = ["Cluster", "Unavailable", "connect"]
