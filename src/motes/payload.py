"""What calls carry: JSON by type."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from motes.errors import BadInput, BadResult
from motes.model.bounds import UNREADABLE


def encode(value: object) -> bytes:
    """A value as JSON. Raises BadInput."""
    try:
        return msgspec.json.encode(value)
    except (TypeError, ValueError, RecursionError) as error:
        raise BadInput(f"an argument cannot be sent as JSON: {error}") from error


def decode(data: bytes, kind: Any = Any) -> Any:
    """A result of the type `kind`, or plain data. Raises BadResult."""
    try:
        return msgspec.json.decode(data, type=kind)
    except UNREADABLE as error:
        raise _bad_result(error) from error


def decoder(kind: Any) -> Callable[[bytes], Any]:
    """`decode` for many results of one type."""
    made = msgspec.json.Decoder(kind).decode

    def decode(data: bytes) -> Any:
        try:
            return made(data)
        except UNREADABLE as error:
            raise _bad_result(error) from error

    return decode


def _bad_result(error: Exception) -> BadResult:
    return BadResult(f"the result is not what the function's annotation says: {error}")
