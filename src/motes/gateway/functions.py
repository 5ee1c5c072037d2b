"""Functions over HTTP, as a raw ASGI application: `POST /APP/FUNCTION` with JSON, an app's page, the health pages."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from motes.bus.subjects import is_name
from motes.errors import BadInput, MotesError, Overloaded
from motes.gateway import streams
from motes.gateway.app_page import HEADERS, app_page
from motes.gateway.backend import Backend
from motes.gateway.call_request import (
    Body,
    Disconnected,
    Headers,
    HeldBytes,
    Message,
    Receive,
    Refusal,
    check_json,
    check_method,
    check_type,
    context_of,
    header,
    timeout_of,
)
from motes.gateway.daemon_counts import DaemonCounts
from motes.gateway.media import JSON, from_json, needs_route, to_json
from motes.gateway.metrics import CONTENT_TYPE, Metrics
from motes.gateway.openapi import openapi
from motes.gateway.problems import Problem, problem_of
from motes.gateway.rules import LISTENED, daemon_of, judge
from motes.model.call import Context
from motes.model.routes import Route
from motes.tracing import note_incoming

if TYPE_CHECKING:
    from motes.gateway.tools import Tools

Send = Callable[[Message], Awaitable[None]]
T = TypeVar("T")
Terms = tuple[float | None, Context]

MAX_CALLS = 1000
"""Calls under way at a time; more are answered 503."""
LARGE_ANSWER_BYTES = 64 * 2**10
"""What a connection takes in at once; of a larger answer the rest waits here for a caller that reads slowly."""
_JSON: Headers = [(b"content-type", JSON)]
_PLAIN: Headers = [(b"content-type", b"text/plain; charset=utf-8")]
_OPENAPI = "openapi.json"


class Functions:
    """The ASGI application for one gateway."""

    def __init__(self, backend: Backend, port: int, counts: DaemonCounts) -> None:
        self._backend = backend
        self._port = port
        self._calls = 0
        self._bodies = HeldBytes()
        self._metrics = Metrics(backend, counts)
        self._tools: Tools | None = None

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        try:
            if scope["path"] == "/mcp":
                await self._answer_agent(scope, receive, send)
                return
            kind = streams.asked_for(scope["headers"])
            if kind is not None and scope["method"] == "POST":
                await self._stream(kind, scope, receive, send)
                return
            headers, body = await self._answer(scope, receive)
            await self._deliver(send, 200, headers, body)
        except Refusal as refusal:
            await _respond_problem(send, refusal.problem)
        except MotesError as error:
            await _respond_problem(send, problem_of(error))
        except Disconnected:
            pass
        except Exception:
            logging.getLogger(__name__).exception("a request failed by a mistake of the gateway's")
            await _respond_problem(send, _OWN_MISTAKE)

    async def _answer_agent(self, scope: Message, receive: Receive, send: Send) -> None:
        """A request of the Model Context Protocol; its SDK is imported when the first one comes."""
        self._check_rules(scope)
        check_method(scope, ("POST",))
        check_type(scope["headers"])
        if self._tools is None:
            try:
                from motes.gateway.tools import Tools
            except ImportError:
                detail = "this cluster has no endpoint for agents; install it with: pip install 'motes[mcp]'"
                raise Refusal(Problem(404, "not_found", detail)) from None
            self._tools = Tools(self._backend)
        if self._calls >= MAX_CALLS:
            raise Overloaded(f"{MAX_CALLS} calls are under way here already", retry_after_s=1)
        self._calls += 1
        try:
            await self._tools.answer(scope, receive, send)
        finally:
            self._calls -= 1

    async def _answer(self, scope: Message, receive: Receive) -> tuple[Headers, bytes]:
        self._check_rules(scope)
        path: str = scope["path"]
        parts = path.split("/")
        if len(parts) == 3 and parts[2] in ("", _OPENAPI):
            return await self._describe(parts[1], parts[2], scope)
        if len(parts) == 3:
            media_type, body = await self._call(parts[1], parts[2], scope, receive)
            return [(b"content-type", media_type)], body
        if path not in ("/", "/healthz", "/readyz", "/metrics"):
            raise Refusal(
                Problem(404, "not_found", "no such page; call POST /APP/FUNCTION (`motes apps` lists the apps)")
            )
        check_method(scope, ("GET", "HEAD"))
        if path == "/metrics":
            return [(b"content-type", CONTENT_TYPE)], await self._metrics.page()
        return self._page(path)

    async def _deliver(self, send: Send, status: int, headers: Headers, body: bytes) -> None:
        """A large answer counts among the bytes held until its caller has taken it."""
        if len(body) <= LARGE_ANSWER_BYTES:
            await _respond(send, status, headers, body)
            return
        try:
            self._bodies.hold(len(body))
            await _respond(send, status, headers, body, is_end=False)
            # uvicorn waits here until the connection has room again.
            await send({"type": "http.response.body", "body": b""})
        finally:
            self._bodies.hold(-len(body))

    async def _describe(self, app: str, page: str, scope: Message) -> tuple[Headers, bytes]:
        """What the app's functions take and give: for programs, or as a page."""
        if not is_name(app):
            raise Refusal(Problem(404, "not_found", f"no app {app[:80]!r} (`motes apps` lists the apps)"))
        check_method(scope, ("GET", "HEAD"))
        routes = await self._backend.routes(app)
        server = f"http://localhost:{self._port}"
        if page == _OPENAPI:
            return _JSON, msgspec.json.encode(openapi(routes, server))
        return list(HEADERS), app_page(routes, server)

    def _page(self, path: str) -> tuple[Headers, bytes]:
        if path == "/healthz":
            return _PLAIN, b"ok\n"
        if path == "/":
            return _PLAIN, _WELCOME % (self._port, self._port)
        if not self._backend.ready:
            raise Refusal(
                Problem(503, "unavailable", "the cluster does not answer yet", headers=((b"retry-after", b"1"),))
            )
        return _PLAIN, b"ready\n"

    def _check_rules(self, scope: Message) -> None:
        if scope["state"]["problem"] is not None:
            raise Refusal(scope["state"]["problem"])
        headers: Headers = scope["headers"]
        listened = tuple(pair for pair in headers if pair[0] in LISTENED)
        target: bytes = scope["state"]["target"]
        problem, name = judge(target.startswith(b"/"), listened, self._port)
        if problem is not None:
            raise Refusal(problem)
        if daemon_of(name) is not None:
            raise Refusal(
                Problem(421, "misdirected", "this connection belongs to another host; open a new one", close=True)
            )

    async def _call(self, app: str, function: str, scope: Message, receive: Receive) -> tuple[bytes, bytes]:
        """The result's content type and bytes."""
        headers: Headers = scope["headers"]
        terms = self._begin(app, function, scope)
        held = Body(self._bodies)
        try:
            body = await held.read(headers, receive)
            if not needs_route(headers):
                return JSON, await self._result(app, function, body, terms, receive)
            route = (await self._backend.routes(app)).workloads.get(function, Route("function"))
            body = to_json(headers, body, route)
            held.becomes(len(body))
            return from_json(headers, await self._result(app, function, body, terms, receive), route)
        finally:
            self._calls -= 1
            held.release()

    def _begin(self, app: str, function: str, scope: Message) -> Terms:
        """Count a call in, when it is one: its time budget and whose it is. Raises Refusal, BadInput and Overloaded."""
        check_method(scope, ("POST",))
        check_type(scope["headers"])
        terms = timeout_of(scope["headers"]), context_of(scope["headers"])
        if not is_name(app) or not is_name(function):
            raise Refusal(
                Problem(404, "not_found", f"no app {app[:80]!r} with {function[:80]!r} (`motes apps` lists the apps)")
            )
        if self._calls >= MAX_CALLS:
            raise Overloaded(f"{MAX_CALLS} calls are under way here already", retry_after_s=1)
        self._calls += 1
        if (trace := header(scope["headers"], b"traceparent")) is not None:
            note_incoming(trace)
        return terms

    async def _stream(self, kind: bytes, scope: Message, receive: Receive, send: Send) -> None:
        """Items as they come: the next is asked for when the connection has taken the last."""
        self._check_rules(scope)
        parts = scope["path"].split("/")
        app, function = parts[1:] if len(parts) == 3 else ("", "")
        terms = self._begin(app, function, scope)
        held = Body(self._bodies)
        try:
            headers: Headers = scope["headers"]
            body = await held.read(headers, receive)
            if needs_route(headers):
                route = (await self._backend.routes(app)).workloads.get(function, Route("function"))
                body = to_json(headers, body, route)
                held.becomes(len(body))
            async with contextlib.aclosing(self._backend.stream_bytes(app, function, body, *terms)) as items:
                await _unless_disconnected(_send_items(kind, items, send), receive, body)
        finally:
            self._calls -= 1
            held.release()

    async def _result(self, app: str, function: str, body: bytes, terms: Terms, receive: Receive) -> bytes:
        return await _unless_disconnected(self._backend.call_bytes(app, function, body, *terms), receive, body)


async def _send_items(kind: bytes, items: AsyncIterator[bytes], send: Send) -> None:
    first = await anext(items, None)
    await send({"type": "http.response.start", "status": 200, "headers": streams.head(kind)})
    try:
        if first is not None:
            await _send_part(send, streams.item(kind, first))
        async for item in items:
            await _send_part(send, streams.item(kind, item))
    except MotesError as error:
        await _send_part(send, streams.last_words(kind, problem_of(error)))
        # The server ends the connection, for the response has no end.
        return
    await send({"type": "http.response.body", "body": b""})


async def _send_part(send: Send, data: bytes) -> None:
    await send({"type": "http.response.body", "body": data, "more_body": True})


async def _unless_disconnected(call: Awaitable[T], receive: Receive, body: bytes) -> T:
    """The call's result; the call is cancelled when the caller goes away first."""
    task = asyncio.current_task()
    assert task is not None
    watcher = asyncio.create_task(_cancel_at_disconnect(receive, task))
    try:
        return await call
    except asyncio.CancelledError:
        if not watcher.done():
            raise
        task.uncancel()
        raise Disconnected from None
    except BadInput:
        check_json(body)
        raise
    finally:
        watcher.cancel()


async def _cancel_at_disconnect(receive: Receive, task: asyncio.Task[Any]) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    task.cancel()


async def _respond_problem(send: Send, problem: Problem) -> None:
    body = problem.body()
    await send({"type": "http.response.start", "status": problem.status, "headers": problem.head(body)})
    await send({"type": "http.response.body", "body": body})


async def _respond(send: Send, status: int, headers: Headers, body: bytes, is_end: bool = True) -> None:
    headers = [*headers, (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": not is_end})


_OWN_MISTAKE = Problem(500, "internal", "the gateway made a mistake; its log says more", close=True)
_WELCOME = b"Motes: functions at POST http://localhost:%d/APP/FUNCTION, an app's page at /APP/, daemons at http://APP.localhost:%d/\n"
