"""What is typed after `motes call`, as the body that arrives."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import Any, Literal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from motes.cli.arguments import STDIN, body_of, takes
from motes.errors import BadInput
from motes.model.routes import Route


@dataclass
class Point:
    x: int
    y: int = 0


def one(kind: Any, name: str = "value") -> Route:
    """The route of a function with one parameter."""
    return Route("function", parameters=msgspec.json.schema(kind), parameter_names=(name,))


def several(**kinds: Any) -> Route:
    """The route of a function with several parameters, all needed."""
    arguments = msgspec.defstruct("f", list(kinds.items()), forbid_unknown_fields=True, kw_only=True)
    return Route("function", parameters=msgspec.json.schema(arguments), parameter_names=tuple(kinds))


def value_of(route: Route, *words: str, stdin: bytes = b"") -> Any:
    return msgspec.json.decode(body_of("app.f", route, words, lambda: stdin))


@pytest.mark.parametrize(
    ("kind", "word", "value"),
    [
        (str, "Ada", "Ada"),
        (str, '"Ada"', "Ada"),
        (str, "Ada Lovelace", "Ada Lovelace"),
        (str, "5", "5"),
        (str, "null", "null"),
        (str, "[1]", "[1]"),
        (str, '"Ada', '"Ada'),
        (str, "", ""),
        (str, "value=Ada", "Ada"),
        (str, "other=Ada", "other=Ada"),
        (str, "grüße", "grüße"),
        (Literal["red", "blue"], "red", "red"),
        (int, "5", 5),
        (int, "-5", -5),
        (int, "123456789012345678901234567890", 123456789012345678901234567890),
        (float, "1.5", 1.5),
        (bool, "true", True),
        (list[int], "[1, 2]", [1, 2]),
        (dict[str, int], '{"a": 1}', {"a": 1}),
        (Point, '{"x": 1}', {"x": 1}),
        (int | str, "5", 5),
        (int | str, "Ada", "Ada"),
        (str | None, "null", None),
        (str | None, "Ada", "Ada"),
        (Any, "Ada", "Ada"),
        (Any, "[1]", [1]),
        (bytes, "Ada", base64.b64encode(b"Ada").decode()),
        (bytes, '"QWRh"', "QWRh"),
    ],
)
def test_one_value_is_taken_by_the_schema_of_its_parameter(kind: Any, word: str, value: Any) -> None:
    assert value_of(one(kind), word) == value


@given(st.text(st.characters(exclude_categories=["Cs"])).filter(lambda text: text != STDIN))
def test_a_text_arrives_as_it_was_typed_unless_it_is_a_json_string(text: str) -> None:
    try:
        expected = msgspec.json.decode(text, type=str)
    except msgspec.DecodeError:
        expected = text
    assert value_of(one(str, ""), text) == expected.removeprefix("=")


def test_several_values_are_given_by_name() -> None:
    route = several(a=int, name=str, point=Point)
    assert value_of(route, "name=5", "a=5", 'point={"x": 1}') == {"a": 5, "name": "5", "point": {"x": 1}}


def test_several_values_may_be_one_object() -> None:
    assert value_of(several(a=int, b=int), '{"a": 1, "b": 2}') == {"a": 1, "b": 2}


def test_no_word_is_an_empty_body() -> None:
    assert body_of("app.f", one(int), (), lambda: b"") == b""


def test_a_dash_reads_standard_input() -> None:
    assert value_of(one(str), "-", stdin=b"a\nb\n") == "a\nb\n"
    assert value_of(one(int), "-", stdin=b" 5\n") == 5
    assert value_of(one(bytes), "-", stdin=b"\xff\x00") == base64.b64encode(b"\xff\x00").decode()
    assert value_of(several(a=int, b=str), "-", stdin=b'{"a": 1, "b": "x"}') == {"a": 1, "b": "x"}
    assert value_of(several(a=int, b=str), "a=1", "b=-", stdin=b"x") == {"a": 1, "b": "x"}


@pytest.mark.parametrize(
    ("route", "words", "says"),
    [
        (one(int, "n"), ("five",), "app.f takes n: int; 'five' is not JSON of that type"),
        (one(list[int], "n"), ("[1",), "n: list[int]"),
        (one(str, "name"), ("Ada", "Lovelace"), "takes one argument, name: str; 2 are given"),
        (Route("function"), ("x",), "app.f takes no argument; 1 is given: 'x'"),
        (several(a=int, b=str), ("5",), "'5' is not NAME=VALUE of a parameter; it takes a: int, b: str"),
        (several(a=int, b=str), ("c=5",), "'c=5' is not NAME=VALUE of a parameter; it takes a: int, b: str"),
        (several(a=int, b=str), ("a=1", "a=2"), "parameter 'a' is given twice"),
        (several(a=int, b=str), ("{a: 1}",), "is not JSON"),
    ],
)
def test_what_does_not_fit_names_the_parameters_and_their_types(
    route: Route, words: tuple[str, ...], says: str
) -> None:
    with pytest.raises(BadInput) as caught:
        body_of("app.f", route, words, lambda: b"")
    assert says in caught.value.message


def test_bytes_that_are_no_text_do_not_pass_as_one() -> None:
    with pytest.raises(BadInput, match="not UTF-8"):
        body_of("app.f", one(str), ("-",), lambda: b"\xff")


def test_what_a_function_takes_is_said_as_python_writes_it() -> None:
    assert takes(several(a=int, b=list[str], c=Point, d=int | None)) == "a: int, b: list[str], c: Point, d: int | None"
    assert takes(Route("function")) == "no argument"


def test_a_parameter_that_may_be_left_out_is_said_so() -> None:
    schema = msgspec.json.schema(msgspec.defstruct("f", [("a", int), ("b", str, "x")]))
    assert takes(Route("function", parameters=schema, parameter_names=("a", "b"))) == "a: int, b: str = ..."
