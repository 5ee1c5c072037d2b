"""What is read of a function's JSON Schema here: one of another shape would break who shows all apps, as /mcp does."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec

from motes.model.bounds import UNREADABLE


class Shape(msgspec.Struct, forbid_unknown_fields=False):
    """A schema, as far as it is read. Each field is as JSON Schema has it; others may be there, and are anything."""

    definitions: dict[str, Shape] = msgspec.field(default_factory=dict, name="$defs")
    reference: str = msgspec.field(default="", name="$ref")
    title: str = ""
    type: str | list[str] = ""
    any_of: Annotated[list[Shape], msgspec.Meta(min_length=1)] | None = msgspec.field(default=None, name="anyOf")
    enum: Annotated[list[Any], msgspec.Meta(min_length=1)] | None = None
    encoding: str = msgspec.field(default="", name="contentEncoding")
    properties: dict[str, Shape] = {}
    required: list[str] = []
    more: Shape | bool = msgspec.field(default=False, name="additionalProperties")
    items: Shape | bool = False
    first: list[Shape] = msgspec.field(default_factory=list, name="prefixItems")


def misshapen(schema: dict[str, Any]) -> str:
    """Why this cannot be read as a schema; empty when it can."""
    try:
        msgspec.convert(schema, Shape)
    except UNREADABLE as error:
        return str(error)
    return ""
