"""Functions as they are shown after a deploy, and the example bodies."""

from __future__ import annotations

import contextlib
import json
import shlex
from dataclasses import dataclass
from typing import Any, Literal

import msgspec
import pytest

from motes.cli.arguments import body_of
from motes.errors import MotesError
from motes.model.release import Function
from motes.model.routes import Route
from motes.model.signature import curl, example_body, signature


@dataclass
class Person:
    name: str
    age: int
    friends: list[str]
    note: str = ""


@dataclass
class Tree:
    children: list[Tree]
    parent: Tree | None


def function(result: Any = None, /, **kinds: Any) -> Function:
    """The function f with these parameters; a pair is a type and a default."""
    fields = [(name, *kind) if isinstance(kind, tuple) else (name, kind) for name, kind in kinds.items()]
    alone = len(fields) == 1
    taken = fields[0][1] if alone else msgspec.defstruct("f", fields, kw_only=True)
    schema = msgspec.json.schema(taken) if kinds else {}
    result_schema = msgspec.json.schema(result) if result is not None else {}
    return Function("f", "app", "f", parameters=schema, parameter_names=tuple(kinds), result=result_schema)


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        (function(str, name=str), "f(name: str) -> str"),
        (function(), "f()"),
        (function(list[int], a=int, b=(float, 1.0)), "f(a: int, b: float = ...) -> list[int]"),
        (function(dict[str, int], data=bytes), "f(data: bytes) -> dict[str, int]"),
        (function(Person, who=Person), "f(who: Person) -> Person"),
        (function(colour=Literal["red", "blue"]), "f(colour: Literal['blue', 'red'])"),
        (function(x=int | None), "f(x: int | None)"),
        (function(x=Any), "f(x: Any)"),
        (function(x=tuple[int, str]), "f(x: list)"),
    ],
)
def test_a_signature_reads_as_python(shown: Function, expected: str) -> None:
    assert signature(shown) == expected


@pytest.mark.parametrize(
    "kind",
    [str, int, float, bool, bytes, list[int], dict[str, int], Person, Tree, Literal["a", "b"], int | None, Any],
)
def test_the_example_fits_the_parameter(kind: Any) -> None:
    msgspec.json.decode(example_body(function(x=kind)), type=kind)


def test_the_example_for_several_parameters_has_those_that_are_needed() -> None:
    assert json.loads(example_body(function(a=int, who=Person, b=(str, "")))) == {
        "a": 1,
        "who": {"name": "Ada", "age": 1, "friends": ["Ada"]},
    }


def test_the_curl_line_is_safe_in_a_shell() -> None:
    line = curl("http://127.0.0.1:8080/app/f", function(kind=Literal["it's"]))
    assert shlex.split(line) == ["curl", "http://127.0.0.1:8080/app/f", "-d", '"it\'s"']


def test_a_function_without_parameters_is_posted_an_empty_body() -> None:
    assert curl("http://h/app/f", function()) == "curl -X POST http://h/app/f"


class Counted(dict[str, Any]):
    """A schema that nobody has the time to look at so often."""

    looks = 0

    def get(self, *key: Any) -> Any:
        Counted.looks += 1
        assert Counted.looks < 100_000, "it would never end"
        return super().get(*key)


def counted(schema: Any) -> Any:
    """The schema in which every object is Counted, from now on."""
    Counted.looks = 0
    if isinstance(schema, list):
        return [counted(each) for each in schema]
    return Counted({name: counted(each) for name, each in schema.items()}) if isinstance(schema, dict) else schema


@dataclass
class Pair:
    left: Pair
    right: Pair


ITSELF = {"$ref": "#/$defs/A"}
BOTH = {"anyOf": [ITSELF, ITSELF]}


@pytest.mark.parametrize(
    "schema",
    [
        msgspec.json.schema(Pair),
        {**ITSELF, "$defs": {"A": BOTH}},
        {**ITSELF, "$defs": {"A": {"type": "array", "items": BOTH}}},
        {**ITSELF, "$defs": {"A": {"type": "array", "prefixItems": [BOTH, BOTH]}}},
        {**ITSELF, "$defs": {"A": {"type": "object", "additionalProperties": BOTH}}},
        {**ITSELF, "$defs": {"A": {"type": "object", "properties": {"a": BOTH, "b": BOTH}, "required": ["a", "b"]}}},
    ],
)
def test_types_that_hold_themselves_without_end_are_shown_all_the_same(schema: Any) -> None:
    """An app's author writes them, and the gateway shows them."""
    for names in (("it",), ("a", "b")):
        found = Function("f", "app", "f", parameters=counted(schema), parameter_names=names, result=counted(schema))
        assert signature(found).startswith("f(") and json.loads(example_body(found)) is not NotImplemented
        with pytest.raises(MotesError):
            body_of("a.f", Route("function", parameters=counted(schema), parameter_names=names), ("x", "y"), bytes)
        takes_one = Route("function", parameters=counted(schema), parameter_names=("it",))
        with contextlib.suppress(MotesError):
            body_of("a.f", takes_one, ("x",), bytes)
