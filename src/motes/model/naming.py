"""Names as people write them: refused with how to write one, or made of what cannot be one."""

from __future__ import annotations

import re

from motes.errors import BadInput
from motes.model.names import MOST_CHARACTERS, is_name


def as_name(text: str, whose: str = "a name") -> str:
    """The text, when it may name something. Raises BadInput."""
    if not is_name(text):
        raise BadInput(f"{text[:80]!r} cannot be {whose}: use a letter or digit, then up to 62 of A-Z a-z 0-9 _ -")
    return text


def name_like(text: str) -> str:
    """The nearest to it that may be a name; empty where nothing of it may."""
    return re.sub(r"[^A-Za-z0-9_-]+", "-", text).strip("-_")[:MOST_CHARACTERS]
