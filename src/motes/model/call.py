"""One call as bytes: what a caller sends to an agent and what comes back.

request   16 bytes call id · 4 bytes time budget, milliseconds, big-endian · body
reply     1 byte status · body (STATUS_OK: the result, or nothing at the end of a stream; STATUS_ERROR: JSON of an
          error, see errors.py; STATUS_TRY_ELSEWHERE: the same, and the function has not begun: always safe to send to
          another host; STATUS_ITEM: one item of a stream, and more is to come)
more      16 bytes call id · 4 bytes count, big-endian: the caller has taken so many items, and will take as many more
"""

from __future__ import annotations

import struct
from typing import Any

import msgspec

from motes.errors import MotesError, from_wire

STATUS_OK = 0
STATUS_ERROR = 1
STATUS_TRY_ELSEWHERE = 2
STATUS_ITEM = 3

WINDOW_ITEMS = 8
"""Of a stream, that may be on their way to a caller who has not said `more` yet."""
ITEM_LIMIT_BYTES = 2**20
"""The most that one item may hold."""

_REQUEST = struct.Struct(">16sI")
REQUEST_HEAD_BYTES = _REQUEST.size

_error_encoder = msgspec.json.Encoder()
_error_decoder = msgspec.json.Decoder(dict[str, Any])


def pack_request(call_id: bytes, budget_s: float, body: bytes) -> bytes:
    """A request; `call_id` is 16 bytes, `budget_s` how long the caller will wait from now."""
    return _REQUEST.pack(call_id, min(int(budget_s * 1000), 0xFFFFFFFF)) + body


def unpack_request(data: bytes) -> tuple[bytes, float, bytes]:
    """`(call_id, budget_s, body)`. Raises ValueError when `data` is no request."""
    if len(data) < REQUEST_HEAD_BYTES:
        raise ValueError("a call of under 20 bytes")
    call_id, budget_ms = _REQUEST.unpack_from(data)
    return call_id, budget_ms / 1000, data[REQUEST_HEAD_BYTES:]


def pack_more(call_id: bytes, count: int) -> bytes:
    """A caller's word that it has taken `count` items."""
    return _REQUEST.pack(call_id, count)


def unpack_more(data: bytes) -> tuple[bytes, int]:
    """`(call_id, count)`. Raises ValueError."""
    if len(data) != REQUEST_HEAD_BYTES:
        raise ValueError("no `more` of 20 bytes")
    call_id, count = _REQUEST.unpack(data)
    return call_id, count


class Outcome(msgspec.Struct, frozen=True, array_like=True):
    """How a call ended: a status and a body."""

    status: int
    body: bytes

    def pack(self) -> bytes:
        return bytes((self.status,)) + self.body

    def error(self) -> MotesError:
        """The exception in a body whose status is not STATUS_OK."""
        try:
            return from_wire(_error_decoder.decode(self.body))
        except msgspec.DecodeError:
            return MotesError("an answer that is no answer")


def unpack_reply(data: bytes) -> Outcome:
    """Raises ValueError when `data` is empty."""
    if not data:
        raise ValueError("an empty reply")
    return Outcome(data[0], data[1:])


def failed(error: MotesError, *, try_elsewhere: bool = False) -> Outcome:
    """The outcome of a call that ended with `error`."""
    return Outcome(STATUS_TRY_ELSEWHERE if try_elsewhere else STATUS_ERROR, _error_encoder.encode(error.to_wire()))
