"""What a release may say of itself: it is told by a space whose code is a stranger's."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from motes.model.release import Daemon, Function


def told(**more: Any) -> Function:
    return msgspec.convert({"kind": "function", "name": "f", "module": "m", "qualname": "f", **more}, Function)


def test_a_function_may_call_what_has_a_name() -> None:
    assert told(calls=["price", "store.keep"]).may_call("shop") == ("shop.price", "store.keep")


@pytest.mark.parametrize(
    "name", ["", ".", "a.", ".b", "a.b.c", "*", "*.b", "a.>", "a b", "a\r\nPUB x 0", "a\n", "ä", "_x", "x" * 64]
)
def test_what_is_no_name_is_called_by_nobody(name: str) -> None:
    with pytest.raises(msgspec.ValidationError):
        told(calls=[name])


@pytest.mark.parametrize("term", ["!own", "named:", "named:a:b", "a b", "*", "gpu\n", ""])
def test_what_is_no_term_of_a_place_is_no_release(term: str) -> None:
    with pytest.raises(msgspec.ValidationError):
        told(place=[term])


def test_a_release_that_says_nothing_of_a_place_may_run_anywhere() -> None:
    daemon = msgspec.convert({"kind": "daemon", "name": "web", "command": ["serve"]}, Daemon)
    assert (told().place, told().spread) == (daemon.place, daemon.spread) == ((), "machines")
