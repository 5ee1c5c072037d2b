"""The types of options that take a size or a duration, as people write them: every command reads them alike."""

from __future__ import annotations

from collections.abc import Callable

import click

from motes.model.units import parse_bytes, parse_seconds


class Amount(click.ParamType):  # type: ignore[type-arg]  # Only new clicks' are generic.
    """What `parse` makes of a text; nothing at all only where the option `takes_none`."""

    def __init__(self, name: str, parse: Callable[[str], float], takes_none: bool = False) -> None:
        self.name = name
        self._parse = parse
        self._takes_none = takes_none

    def convert(self, value: str | float, parameter: click.Parameter | None, context: click.Context | None) -> float:
        """The amount; one that is converted already stays. Raises BadParameter."""
        if not isinstance(value, str):
            return value
        try:
            amount = self._parse(value)
        except ValueError as error:
            self.fail(f"{error}.", parameter, context)
        if amount == 0 and not self._takes_none:
            self.fail(f"{value!r} is nothing; it must be above 0.", parameter, context)
        return amount


DURATION = Amount("TIME", parse_seconds)
DURATION_OR_NONE = Amount("TIME", parse_seconds, takes_none=True)
SIZE = Amount("SIZE", parse_bytes)
