"""Many calls at a time, their results in the order of their inputs: what `.map` does, wherever the calls go."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, Protocol

from motes.errors import MotesError

if TYPE_CHECKING:
    import asyncio


class Pending(Protocol):
    """A call under way."""

    def result(self) -> Any:
        """Wait for it. Raises what motes.errors lists."""

    def cancel(self) -> Any:
        """Give it up."""


def in_order(begin: Callable[[Any], Pending], inputs: Iterable[Any], in_flight: int) -> Iterator[Any]:
    """The results for `inputs`, which are taken only as fast as results are; at most `in_flight` are under way."""
    pending: deque[tuple[int, Pending]] = deque()
    try:
        for index, value in enumerate(inputs):
            if len(pending) >= max(in_flight, 1):
                yield _result(*pending.popleft())
            pending.append((index, begin(value)))
        while pending:
            yield _result(*pending.popleft())
    finally:
        for _, each in pending:
            each.cancel()


async def in_order_later(
    begin: Callable[[Any], asyncio.Future[Any]], inputs: Iterable[Any], in_flight: int
) -> AsyncIterator[Any]:
    """Like `in_order`, awaiting."""
    import asyncio

    pending: deque[tuple[int, asyncio.Future[Any]]] = deque()

    async def first() -> Any:
        index, future = pending[0]
        await asyncio.wait((future,))
        pending.popleft()
        return _result(index, future)

    try:
        for index, value in enumerate(inputs):
            if len(pending) >= max(in_flight, 1):
                yield await first()
            pending.append((index, begin(value)))
        while pending:
            yield await first()
    finally:
        for _, future in pending:
            if not future.cancel() and not future.cancelled():
                future.exception()  # Nobody wants it any more, and asyncio shall not complain of that.


def _result(index: int, pending: Pending) -> Any:
    try:
        return pending.result()
    except MotesError as error:
        error.detail["index"] = index
        error.add_note(f"this was input {index}")
        raise
