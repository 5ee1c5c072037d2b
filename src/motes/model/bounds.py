"""What strangers may send. A message with a number outside its bounds is no message.

Without bounds one absurd number would spoil a sum, a comparison or an answer about everybody else.
"""

from __future__ import annotations

from typing import Annotated

from msgspec import DecodeError, Meta

Count = Annotated[int, Meta(ge=0, le=2**31 - 1)]
Size = Annotated[int, Meta(ge=0, le=2**53)]
"""Bytes."""
Number = Annotated[float, Meta(ge=0.0, le=2.0**53)]
"""Finite: a comparison with NaN is neither true nor false."""
ByteSeconds = Annotated[float, Meta(ge=0.0, le=2.0**83)]
"""So many bytes for so long: of weeks without a keeper a large host tells more than a Number may be."""
Epoch = Annotated[int, Meta(ge=0, le=2**63 - 1)]
Short = Annotated[str, Meta(max_length=128)]
"""A name, or a word of ours."""

UNREADABLE = (DecodeError, UnicodeDecodeError, RecursionError)
"""What decoding raises for bytes of a stranger: no message, text that is none, lists within lists without end."""

MOST_LISTED = 10_000
"""Workloads that one host may tell of at a time."""
