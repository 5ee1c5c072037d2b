"""A function with its types: from a body to arguments, from a result to bytes, and both described as JSON Schema."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable
from typing import Any

import msgspec

_NOTHING = (b"", b"null")
_PLAIN = frozenset({str, int, bool, bytes, type(None)})
"""Types of which every value is a message that fits. (Not float: NaN is sent as null.)"""
_BY_NAME = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


class NotDeployable(Exception):
    """A function that cannot be called by message; the text says which, where and why."""


class Typed:
    """One callable, ready for calls.

    One parameter takes the body as its value, several an object by name, none an empty body.
    Raises NotDeployable for annotations that JSON and msgspec cannot carry.
    """

    def __init__(self, name: str, callable: Callable[..., Any]) -> None:
        self.name = name
        self.callable = callable
        self.streams = inspect.isgeneratorfunction(callable) or inspect.isasyncgenfunction(callable)
        """A generator: `result` is for one item."""
        self.is_async = inspect.iscoroutinefunction(callable) or inspect.isasyncgenfunction(callable)
        self._parameters = list(_signature(name, callable).parameters.values())
        self._types = _hints(name, callable)
        for parameter in self._parameters:
            self._check(parameter)
        self._arguments = self._arguments_type()
        self._decoder = msgspec.json.Decoder(self._arguments)
        self._encode = msgspec.json.Encoder().encode
        if self.streams and "return" in self._types:
            self._types["return"] = _item_type(name, self._types["return"])
        annotation = self._types.get("return", Any)
        self._result_name = _name(annotation)
        self._plain_result = annotation if isinstance(annotation, type) and annotation in _PLAIN else None
        self._result_decoder = None if annotation is Any else _result_decoder(name, annotation)
        self.parameter_names = tuple(parameter.name for parameter in self._parameters)

    def schema(self) -> dict[str, Any]:
        """`parameters` and `result` as JSON Schema."""
        parameters = _inlined(_schema(self._arguments)) if self._parameters else {}
        return {"parameters": parameters, "result": self._result_schema()}

    def arguments(self, body: bytes) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Positional and named arguments. Raises msgspec.DecodeError (ValidationError) when `body` does not fit."""
        parameters = self._parameters
        if not parameters:
            if body not in _NOTHING:
                raise msgspec.ValidationError(f"Expected an empty body: {self.name} takes no argument - at `$`")
            return (), {}
        if len(parameters) == 1:
            return self._only_argument(parameters[0], body)
        given = self._decoder.decode(body or b"{}")
        return (), {parameter.name: getattr(given, parameter.name) for parameter in parameters}

    def result(self, value: Any) -> bytes:
        """The result as JSON. Raises TypeError, ValueError, OverflowError or RecursionError where that cannot be.

        What the annotation promises is checked on the message itself, for that is what callers get: 0.3 us for a small
        struct, and nothing where the type alone says enough.
        """
        body = self._encode(value)
        if type(value) is not self._plain_result and self._result_decoder is not None:
            try:
                self._result_decoder.decode(body)
            except msgspec.ValidationError as error:
                raise TypeError(f"the function promises {self._result_name}: {error}") from None
        return body

    def _only_argument(self, parameter: inspect.Parameter, body: bytes) -> tuple[tuple[Any, ...], dict[str, Any]]:
        if not body:
            if parameter.default is not inspect.Parameter.empty:
                return (), {}
            raise msgspec.ValidationError(f"Expected a value for `{parameter.name}`, got an empty body - at `$`")
        value = self._decoder.decode(body)
        return ((), {parameter.name: value}) if parameter.kind in _BY_NAME else ((value,), {})

    def _check(self, parameter: inspect.Parameter) -> None:
        where = f"function {self.name!r}, parameter {parameter.name!r}"
        if parameter.kind not in _BY_NAME and len(self._parameters) > 1:
            raise NotDeployable(f"{where}: a message gives arguments by name; remove *, ** or / from it")
        if parameter.kind in (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD):
            raise NotDeployable(f"{where}: a message cannot carry * or ** parameters; take a list or a dict")
        _try_schema(where, self._type_of(parameter))

    def _type_of(self, parameter: inspect.Parameter) -> Any:
        return self._types.get(parameter.name, Any)

    def _arguments_type(self) -> Any:
        if not self._parameters:
            return Any
        if len(self._parameters) == 1:
            return self._type_of(self._parameters[0])
        # Required first: a field without a default may not follow one that has one.
        fields = [(p.name, self._type_of(p)) for p in self._parameters if p.default is p.empty]
        optional = [
            (p.name, self._type_of(p), _default(p.default)) for p in self._parameters if p.default is not p.empty
        ]
        try:
            return msgspec.defstruct(self.name, [*fields, *optional], forbid_unknown_fields=True, kw_only=True)
        except (TypeError, ValueError) as error:
            raise NotDeployable(f"function {self.name!r}: its parameters cannot be a message: {error}") from None

    def _result_schema(self) -> dict[str, Any]:
        return _schema(self._types["return"]) if "return" in self._types else {}


def _item_type(name: str, annotation: Any) -> Any:
    """What a generator's annotation says of its items, as `str` in `Iterator[str]`."""
    given = typing.get_args(annotation)
    if not given and annotation is not Any:
        raise NotDeployable(f"function {name!r}: a generator's result is annotated like Iterator[str]")
    return given[0] if given else Any


def _result_decoder(name: str, annotation: Any) -> msgspec.json.Decoder[Any]:
    _try_schema(f"function {name!r}, result", annotation)
    return msgspec.json.Decoder(annotation)


def _default(value: Any) -> Any:
    """A field's default: msgspec refuses mutable ones, so each call gets the one object, as Python gives it."""
    return msgspec.field(default_factory=lambda: value)


def _signature(name: str, callable: Callable[..., Any]) -> inspect.Signature:
    try:
        return inspect.signature(callable)
    except (TypeError, ValueError) as error:
        raise NotDeployable(f"function {name!r}: its parameters cannot be read: {error}") from None


def _hints(name: str, callable: Callable[..., Any]) -> dict[str, Any]:
    try:
        return typing.get_type_hints(callable, include_extras=True)
    except Exception as error:
        raise NotDeployable(f"function {name!r}: its annotations cannot be read: {error}") from None


def _try_schema(where: str, annotation: Any) -> dict[str, Any]:
    try:
        msgspec.json.Decoder(annotation)
        return _schema(annotation)
    except (TypeError, ValueError, RecursionError) as error:
        text = str(error).partition("\n")[0]
        raise NotDeployable(
            f"{where}: the annotation {_name(annotation)} cannot be carried by a message: {text}"
            " (use builtins, dataclasses, msgspec.Struct or TypedDict)"
        ) from None


def _name(annotation: Any) -> str:
    return annotation.__name__ if isinstance(annotation, type) else repr(annotation)


def _inlined(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema itself where msgspec gives a reference to it, so that a caller finds its properties at the top."""
    definitions = schema.get("$defs", {})
    top = definitions.get(schema.get("$ref", "").removeprefix("#/$defs/"))
    return {**top, "$defs": definitions} if top else schema


def _schema(annotation: Any) -> dict[str, Any]:
    schema: dict[str, Any] = msgspec.json.schema(annotation)
    return schema
