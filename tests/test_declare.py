"""What is declared: arguments and results as JSON, and an import that brings little with it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from motes import Function, function, remote
from motes.errors import BadInput, BadResult

DEARER_THAN_ALL_ELSE = {"typing", "re", "pathlib", "inspect", "asyncio", "msgspec", "json"}


def test_the_import_of_the_decorator_brings_none_of_the_dear_modules() -> None:
    code = "import sys; before = set(sys.modules); from motes import function; print(*sys.modules.keys() - before)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not DEARER_THAN_ALL_ELSE & set(done.stdout.split())
    assert "motes.declare" in done.stdout


@function
def one(text: str, /) -> int:
    return len(text)


@function
def several(a: int, b: int = 2) -> Any:
    return a + b


@function
def anything(*things):  # type: ignore[no-untyped-def]
    return things


@function
def nothing() -> None: ...


@function
def items(most: int) -> Iterator[str]:
    yield str(most)


def test_arguments_become_the_value_of_the_only_parameter_or_an_object_by_name() -> None:
    assert one.body(("a",), {}) == b'"a"'
    assert items.body((3,), {}) == items.body((), {"most": 3}) == b"3"
    assert several.body((1,), {}) == b'{"a":1}'
    assert several.body((1,), {"b": 5}) == several.body((1, 5), {}) == b'{"a":1,"b":5}'
    assert anything.body((1, "a"), {}) == b'[1,"a"]'
    assert nothing.body((), {}) == b""


@pytest.mark.parametrize(
    ("declared", "args", "named"),
    [(one, (), {}), (one, (1, 2), {}), (one, (), {"text": "a"}), (nothing, (1,), {}), (several, (1,), {"c": 1})],
)
def test_arguments_that_do_not_fit_are_refused(
    declared: Function[..., Any], args: tuple[Any, ...], named: dict[str, Any]
) -> None:
    with pytest.raises(BadInput, match=declared.name):
        declared.body(args, named)


def test_results_come_in_the_type_that_is_annotated_and_else_as_plain_data() -> None:
    assert one.result_of(b"3") == 3
    assert several.result_of(b'{"a":[1,"b"]}') == anything.result_of(b'{"a":[1,"b"]}') == {"a": [1, "b"]}
    assert remote("app.far").result_of(b'["x"]') == ["x"]
    assert items.result_of(b'["1","2"]') == ["1", "2"] and items.item_of(b'"1"') == "1"
    with pytest.raises(BadResult):
        one.result_of(b'"three"')
    with pytest.raises(BadResult):
        items.result_of(b"[1]")


def test_a_place_is_declared_as_terms_and_what_is_none_is_refused_where_it_is_written() -> None:
    declared = function(place="own, !attic", spread="pack")(lambda: 1)
    assert declared.options["place"] == ("own", "!attic") and declared.options["spread"] == "pack"
    assert function(lambda: 1).options["place"] == ()
    with pytest.raises(ValueError, match="place='!own'"):
        function(place="!own")
    with pytest.raises(ValueError, match="spread='racks': one of machines, pack"):
        function(spread="racks")  # type: ignore[call-overload]
