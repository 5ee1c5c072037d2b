"""What calls carry: JSON by type."""

from __future__ import annotations

from typing import Any

import msgspec

from motes.errors import BadInput, BadResult


def encode(value: object) -> bytes:
    """A value as JSON. Raises BadInput."""
    try:
        return msgspec.json.encode(value)
    except (TypeError, ValueError, RecursionError) as error:
        raise BadInput(f"an argument cannot be sent as JSON: {error}") from error


def decode(data: bytes, kind: Any) -> Any:
    """A result of the type `kind`. Raises BadResult."""
    try:
        return msgspec.json.decode(data, type=kind)
    except msgspec.DecodeError as error:
        raise BadResult(f"the result is not what the function's annotation says: {error}") from error
