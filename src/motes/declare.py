"""The `@function` decorator: what an app's author writes. Light, for it is imported in every process space."""

from __future__ import annotations

import builtins
import functools
import os
import sys

from motes.model.names import is_name
from motes.model.place import SPREADS, parse_place
from motes.model.units import parse_bytes, parse_seconds

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
    from typing import Any, Generic, Literal, ParamSpec, TypeVar, overload

    from motes.client.remote import Items

    P = ParamSpec("P")
    R = TypeVar("R")
else:
    # `typing` takes longer to import than all the rest together, and only who checks types asks what stands there.
    P = R = None

    class Generic:
        def __class_getitem__(cls, _):
            return cls

    def overload(of):
        return of


REUSES = ("any", "call", "caller")
MOST_CONCURRENT = 1_000
_NOT_STARTED = object()


inside: Any = None
"""In an instance, what carries its calls of other functions (motes.space.guest.asking); elsewhere None."""


def _way() -> Any:
    """What carries calls from here."""
    if inside is not None:
        return inside
    import motes.client.remote

    return motes.client.remote


class Remote(Generic[P, R]):
    """A function that the cluster runs, of this app or another."""

    name: str
    app: str | None

    def remote(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call it in the cluster and wait for the result, of a generator a list. Raises what `motes.errors` lists.

        Inside an `async def` function of the cluster this gives something to await, like `aremote`.
        """
        return _way().call(self, args, kwargs)  # type: ignore[no-any-return]

    async def aremote(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Like `remote`, for async code."""
        return await _way().acall(self, args, kwargs)  # type: ignore[no-any-return]

    def stream(self, *args: P.args, **kwargs: P.kwargs) -> Items:
        """Run a generator in the cluster: its items as they come, for `for` and for `async for`.

        The generator waits for who takes them. Leaving the loop ends it.
        """
        return _way().items(self, args, kwargs)  # type: ignore[no-any-return]

    def map(self, inputs: Iterable[Any], in_flight: int = 64, *, progress: bool = False) -> Iterator[R]:
        """The results for `inputs` in their order, as they come, at most `in_flight` calls at a time.

        Inputs are taken only as fast as results are, so they may be without end. An input that fails raises its error
        there, with `detail["index"]` saying which one it was. Leaving the loop cancels what is under way. `progress`
        shows a bar on standard error, where that is a terminal.
        """
        results = _way().map_calls(self, inputs, in_flight)
        if not progress or inside is not None:
            return results  # type: ignore[no-any-return]
        from motes.client.remote import with_progress

        return with_progress(results, self.name, inputs)

    def amap(self, inputs: Iterable[Any], in_flight: int = 64) -> AsyncIterator[R]:
        """Like `map`, for async code."""
        return _way().amap_calls(self, inputs, in_flight)  # type: ignore[no-any-return]

    def app_names(self) -> list[str]:
        """The names under which this function's app may be deployed, likeliest first."""
        raise NotImplementedError

    def body(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bytes:
        """A call's JSON: the one parameter's value, an object by name for several, nothing for none. Raises BadInput"""
        raise NotImplementedError

    def result_of(self, body: bytes) -> Any:
        """The result in its type. Raises BadResult."""
        raise NotImplementedError

    def item_of(self, body: bytes) -> Any:
        """The same for one item of a generator."""
        raise NotImplementedError


class Named(Remote[..., "Any"]):
    """A function of which only the address is known; its results are plain data."""

    def __init__(self, address: str) -> None:
        self.app, _, self.name = address.partition(".")
        if not is_name(self.app) or not is_name(self.name):
            raise ValueError(f"remote({address!r}): write it as 'app.function'")

    def __repr__(self) -> str:
        return f"<motes function {self.app}.{self.name}>"

    def app_names(self) -> list[str]:
        return [self.app or ""]

    def body(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bytes:
        from motes.payload import encode

        if len(args) > 1 or (args and kwargs):
            from motes.errors import BadInput

            raise BadInput(f"{self.app}.{self.name}: name its arguments; only a single one may stand without a name")
        return encode(args[0]) if args else encode(kwargs) if kwargs else b""

    def result_of(self, body: bytes) -> Any:
        from motes.payload import decode

        return decode(body)

    item_of = result_of


def remote(address: str) -> Named:
    """A function of another app, as `remote("thumbs.make")`, to be named in `calls` and called. Raises ValueError."""
    return Named(address)


class Function(Remote[P, R]):
    """A declared function. Calling it runs it here; `.remote`, `.aremote` and `.map` run it in the cluster.

    `callable` is the function itself, `name` its name in the app and `options` what was declared of it, in the
    fields of `motes.model.release.Function`.
    """

    def __init__(
        self, callable: Callable[P, R], app: str | None, options: dict[str, Any], start: Callable[[], Any] | None = None
    ) -> None:
        functools.update_wrapper(self, callable)
        self.callable = callable
        self.name = callable.__name__
        self.app = app
        self.options = options
        self.start = start
        self._started: Any = _NOT_STARTED

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        return self.callable(*args, **kwargs)

    def __repr__(self) -> str:
        return f"<motes function {self.callable.__module__}.{self.callable.__qualname__}>"

    @property
    def started(self) -> Any:
        """What `start` returned in this process; where it has not run, as in a plain call here, it runs now."""
        if self._started is _NOT_STARTED:
            if self.start is None:
                raise AttributeError(f"function {self.name!r} declares no start")
            value = self.start()
            if hasattr(value, "__await__"):
                import asyncio

                value = asyncio.run(value)
            self._started = value
        return self._started

    def note_started(self, value: Any) -> None:
        """An instance has run `start`."""
        self._started = value

    def app_names(self) -> list[str]:
        """The names under which this function's app may be deployed, likeliest first: given, file, folder."""
        if self.app is not None:
            return [self.app]
        module = sys.modules.get(self.callable.__module__)
        file = getattr(module, "__file__", None)
        if file is None:
            return [self.callable.__module__.partition(".")[0]]
        folder, name = os.path.split(os.path.realpath(file))
        return [os.path.splitext(name)[0], os.path.basename(folder)]

    def body(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bytes:
        from motes.payload import encode

        if self._takes_one and len(args) == 1 and not kwargs:
            return encode(args[0])
        try:
            bound = self._signature.bind(*args, **kwargs)
        except TypeError as error:
            from motes.errors import BadInput

            raise BadInput(f"{self.name}: {error}") from error
        if not bound.arguments:
            return b""
        alone = len(bound.signature.parameters) == 1
        return encode(next(iter(bound.arguments.values())) if alone else bound.arguments)

    def result_of(self, body: bytes) -> Any:
        return self._decode_result(body)

    def item_of(self, body: bytes) -> Any:
        return self._decode_item(body)

    @functools.cached_property
    def _signature(self) -> Any:
        import inspect

        return inspect.signature(self.callable)

    @functools.cached_property
    def _takes_one(self) -> bool:
        """Whether it has a single parameter, which may stand without its name."""
        kinds = [parameter.kind for parameter in self._signature.parameters.values()]
        return len(kinds) == 1 and kinds[0] in (kinds[0].POSITIONAL_ONLY, kinds[0].POSITIONAL_OR_KEYWORD)

    @functools.cached_property
    def _decode_result(self) -> Callable[[bytes], Any]:
        from motes.payload import decoder

        return decoder(list[self._item_type] if self._streams else self._result_type)  # type: ignore[name-defined]

    @functools.cached_property
    def _decode_item(self) -> Callable[[bytes], Any]:
        from motes.payload import decoder

        return decoder(self._item_type)

    @functools.cached_property
    def _streams(self) -> bool:
        import inspect

        return inspect.isgeneratorfunction(self.callable) or inspect.isasyncgenfunction(self.callable)

    @functools.cached_property
    def _result_type(self) -> Any:
        import typing

        try:
            return typing.get_type_hints(self.callable).get("return", typing.Any)
        except (NameError, TypeError):
            return typing.Any

    @functools.cached_property
    def _item_type(self) -> Any:
        import typing

        given = typing.get_args(self._result_type)
        return given[0] if given else typing.Any


def _callee(given: Remote[..., Any] | str) -> str:
    """A function as `calls` names it. Raises ValueError."""
    if isinstance(given, Remote):
        given = given.name if given.app is None else f"{given.app}.{given.name}"
    parts = given.split(".") if isinstance(given, str) else ()
    if not 1 <= len(parts) <= 2 or not all(map(is_name, parts)):
        raise ValueError(f"calls={given!r}: a declared function, its name, or 'app.function'")
    return given


@overload
def function(callable: Callable[P, R], /) -> Function[P, R]: ...


@overload
def function(  # noqa: F811  as `typing` has it
    *,
    memory: str | int = ...,
    timeout: str | float = ...,
    scale: tuple[int, int | None] = ...,
    idle: str | float = ...,
    idempotent: bool = ...,
    reuse: Literal["any", "call", "caller"] = ...,
    concurrency: int = ...,
    start: Callable[[], Any] | None = ...,
    calls: Sequence[Remote[..., Any] | str] = ...,
    tool: bool = ...,
    place: str | Sequence[str] = ...,
    spread: Literal["machines", "pack"] = ...,
    app: str | None = ...,
) -> Callable[[Callable[P, R]], Function[P, R]]: ...


def function(  # noqa: F811
    callable: Callable[..., Any] | None = None,
    /,
    *,
    memory: str | int = "64 MiB",
    timeout: str | float = "30 s",
    scale: tuple[int, int | None] = (0, None),
    idle: str | float = "10 s",
    idempotent: bool = False,
    reuse: Literal["any", "call", "caller"] = "any",
    concurrency: int = 1,
    start: Callable[[], Any] | None = None,
    calls: Sequence[Remote[..., Any] | str] = (),
    tool: bool = False,
    place: str | Sequence[str] = (),
    spread: Literal["machines", "pack"] = "machines",
    app: str | None = None,
) -> Any:
    """Declare a function that the cluster may run.

    `memory` is the most that one instance may allocate, `timeout` the longest that one call may run, `scale` the least
    and the most instances (None: as many as the hosts' offers hold), `idle` how long an instance is kept without calls.
    `idempotent=True` lets a call be sent again when its host is lost, and once when a signal ended its process.
    `reuse="call"` gives every call a fresh process, `reuse="caller"` one in which nobody but the same caller has been.
    `concurrency` is how many calls of an `async def` function one instance works on at a time; one whose caller gives
    up is cancelled in it. `start` is run once in each instance before its first call, and `function.started` is what it
    returned: a model, a connection pool, a table. `calls` are the functions that it may call while it works on a call,
    and no others: declared ones or names of this app, or `"app.function"`. `tool=True` offers the function to agents,
    at the gateway's `/mcp`. `place` says which hosts may run it: `"own"`, `"named:SET"`, `"arch:PROCESSOR"`, a host's
    label as `"gpu"`, without one as `"!attic"`; several with commas or as a tuple must all hold. `spread="machines"`
    takes hosts of different machines where there are such, `"pack"` as few as hold it, the fullest that have room.
    `app` names the app when it is not the file's or the folder's name. Raises ValueError for what cannot be.
    """
    least, most = scale
    if least < 0 or (most is not None and most < max(least, 1)):
        raise ValueError(f"scale={scale!r}: needs 0 <= min <= max and max >= 1, or None for no maximum")
    if reuse not in REUSES:
        raise ValueError(f"reuse={reuse!r}: one of {', '.join(REUSES)}")
    if type(concurrency) is not int or not 1 <= concurrency <= MOST_CONCURRENT:
        raise ValueError(f"concurrency={concurrency!r}: a number from 1 to {MOST_CONCURRENT}")
    if concurrency > 1 and reuse == "call":
        raise ValueError('concurrency: calls with reuse="call" share no process')
    if start is not None and not builtins.callable(start):
        raise ValueError(f"start={start!r}: something to call, without arguments")
    if spread not in SPREADS:
        raise ValueError(f"spread={spread!r}: one of {', '.join(SPREADS)}")
    options: dict[str, Any] = {
        "memory_bytes": parse_bytes(memory),
        "timeout_s": parse_seconds(timeout),
        "scale": (least, most),
        "idle_s": parse_seconds(idle),
        "idempotent": idempotent,
        "reuse": reuse,
        "concurrency": concurrency,
        "calls": tuple(map(_callee, calls)),
        "tool": tool,
        "place": parse_place(place),
        "spread": spread,
    }
    if callable is None:
        return lambda found: Function(found, app, options, start)
    return Function(callable, app, options, start)
