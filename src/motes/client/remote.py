"""What `.remote`, `.aremote` and `.map` of a declared function do: one connection for the whole program.

It lives in a thread with its own event loop, so that plain code needs none and async code is not held up. What is
forked from the program, as by multiprocessing, opens one of its own.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import os
import threading
import typing
from collections.abc import AsyncGenerator, AsyncIterator, Coroutine, Iterable, Iterator, Sized
from concurrent.futures import Future
from typing import Any, TypeVar

from motes import mapping
from motes.client.cluster import Cluster
from motes.errors import NotFound
from motes.home import Home

if typing.TYPE_CHECKING:
    from motes.declare import Remote

T = TypeVar("T")
CLOSE_TIMEOUT_S = 2.0


class _Background:
    """An event loop in a thread, with the program's connection."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="motes", daemon=True)
        self._thread.start()
        try:
            self.cluster = self.run(Cluster.open(_running_home()))
        except BaseException:
            self._stop()
            raise
        atexit.register(self.close)

    def submit(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.submit(work).result()

    def close(self) -> None:
        try:
            self.submit(self.cluster.close()).result(CLOSE_TIMEOUT_S)
        finally:
            self._stop()

    def _stop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(CLOSE_TIMEOUT_S)
        if not self._loop.is_running():
            self._loop.close()


_background: _Background | None = None
_lock = threading.Lock()


def _running_home() -> Home:
    home = Home()
    home.cluster()
    return home


def _connected() -> _Background:
    global _background
    with _lock:
        if _background is None:
            _background = _Background()
        return _background


def close() -> None:
    """End the program's connection; the next remote call opens another."""
    global _background
    with _lock:
        if _background is not None:
            atexit.unregister(_background.close)
            _background.close()
        _background = None


def _forget() -> None:
    """Where this program was forked, thread and connection are the other's, and nobody would answer here."""
    global _background, _lock
    if _background is not None:
        atexit.unregister(_background.close)
    _background, _lock = None, threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)


def call(function: Remote[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """One call, waited for."""
    background = _connected()
    return background.run(_call(background.cluster, function, args, kwargs))


async def acall(function: Remote[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """One call, awaited; cancelling it cancels the call."""
    background = await asyncio.to_thread(_connected)
    return await asyncio.wrap_future(background.submit(_call(background.cluster, function, args, kwargs)))


def map_calls(function: Remote[..., Any], inputs: Iterable[Any], in_flight: int) -> Iterator[Any]:
    """Results in the order of `inputs`, which are taken only as fast as results are; see Remote.map."""
    background = _connected()

    def begin(value: Any) -> Future[Any]:
        return background.submit(_call(background.cluster, function, (value,), {}))

    return mapping.in_order(begin, inputs, in_flight)


def with_progress(results: Iterator[Any], name: str, inputs: Iterable[Any]) -> Iterator[Any]:
    """The results, with a bar on standard error where somebody looks on."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with contextlib.closing(results), Progress(*columns, console=console, disable=not console.is_terminal) as bars:  # type: ignore[type-var]
        bar = bars.add_task(name, total=len(inputs) if isinstance(inputs, Sized) else None)
        for result in results:
            bars.advance(bar)
            yield result


async def amap_calls(function: Remote[..., Any], inputs: Iterable[Any], in_flight: int) -> AsyncIterator[Any]:
    """Like `map_calls`, awaiting."""
    background = await asyncio.to_thread(_connected)

    def begin(value: Any) -> asyncio.Future[Any]:
        return asyncio.wrap_future(background.submit(_call(background.cluster, function, (value,), {})))

    async with contextlib.aclosing(mapping.in_order_later(begin, inputs, in_flight)) as results:  # type: ignore[type-var]
        async for result in results:
            yield result


class Items:
    """What Remote.stream gives: the items of one call, once, for plain code or for async code."""

    def __init__(self, function: Remote[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._asked = function, args, kwargs

    def __iter__(self) -> Iterator[Any]:
        background = _connected()
        items = _stream(background.cluster, *self._asked)
        try:
            while True:
                try:
                    item = background.run(_next(items))
                except StopAsyncIteration:
                    return
                yield item
        finally:
            background.run(items.aclose())

    async def __aiter__(self) -> AsyncIterator[Any]:
        background = await asyncio.to_thread(_connected)
        items = _stream(background.cluster, *self._asked)
        try:
            while True:
                try:
                    item = await asyncio.wrap_future(background.submit(_next(items)))
                except StopAsyncIteration:
                    return
                yield item
        finally:
            await asyncio.wrap_future(background.submit(items.aclose()))


def items(function: Remote[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Items:
    """One call whose items come one after the other."""
    return Items(function, args, kwargs)


async def _next(items: AsyncIterator[Any]) -> Any:
    return await anext(items)


async def _stream(
    cluster: Cluster, function: Remote[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> AsyncGenerator[Any, None]:
    body = function.body(args, kwargs)
    missing: NotFound | None = None
    for app in function.app_names():
        has_begun = False
        try:
            async with contextlib.aclosing(cluster.stream_bytes(app, function.name, body)) as items:
                async for item in items:
                    has_begun = True
                    yield function.item_of(item)
            return
        except NotFound as error:
            if has_begun:
                raise
            missing = missing or error
    raise missing or NotFound(f"no app has a function {function.name!r}")


async def _call(cluster: Cluster, function: Remote[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    body = function.body(args, kwargs)
    missing: NotFound | None = None
    for app in function.app_names():
        try:
            result = await cluster.call_bytes(app, function.name, body)
        except NotFound as error:
            missing = missing or error
            continue
        return function.result_of(result)
    raise missing or NotFound(f"no app has a function {function.name!r}")
