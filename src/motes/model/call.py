"""One call as bytes: what a caller sends to an agent and what comes back.

request   16 bytes call id · 4 bytes time budget, milliseconds · 2 bytes size of the context · context · body
          (numbers are big-endian; the context is MessagePack of a Context, or nothing: most calls come from outside,
          for nobody else, and nobody traces them)
reply     1 byte status · body (STATUS_OK: the result, or nothing at the end of a stream; STATUS_ERROR: JSON of an
          error, see errors.py; STATUS_TRY_ELSEWHERE: the same, and the function has not begun: always safe to send to
          another host; STATUS_ITEM: one item of a stream, and more is to come; STATUS_HELD: 4 bytes, the size of a
          large result, which comes when the caller says `more`; STATUS_LOST: an error as well, and the host cannot say
          how the call ended or whether it ran: it is sent again only where twice is harmless)
inbox     its last token is the call id in hex, then `s` and the number of the sending that is answered, or `a` and that
          number for what answers a question after it
more      16 bytes call id · 4 bytes count, big-endian: the caller has taken so many items, and will take as many more
asked     16 bytes call id · 4 bytes 0 · 4 bytes number · boot: what has become of the call? Number and boot are of the
          host's last heartbeat that the caller had heard when it sent the call (0 and nothing for none)
"""

from __future__ import annotations

import struct
from typing import Annotated, Any, NamedTuple

import msgspec

from motes.errors import HostLost, MotesError, from_wire
from motes.model.bounds import UNREADABLE
from motes.model.caller import ON_BEHALF_LIMIT

STATUS_OK = 0
STATUS_ERROR = 1
STATUS_TRY_ELSEWHERE = 2
STATUS_ITEM = 3
STATUS_HELD = 4
STATUS_LOST = 5

NEVER_ARRIVED = "never_arrived"
"""In the detail of the refusal that answers who asks after a call: it may be sent to the same host again."""

LARGE_BYTES = 256 * 2**10
"""A result from this size on is sent when its caller has room for it."""

WINDOW_ITEMS = 8
"""Of a stream, that may be on their way to a caller who has not said `more` yet."""
ITEM_LIMIT_BYTES = 2**20
"""The most that one item may hold."""

MOST_DEEP = 16
"""Calls of which each was made by the one before: a cycle of calls ends here at the latest."""

MOST_AWAITED = 10_000
"""Calls whose ids one message to the gateway may name."""
CALL_ID_BYTES = 16

_REQUEST = struct.Struct(">16sIH")
REQUEST_HEAD_BYTES = _REQUEST.size
_MORE = struct.Struct(">16sI")
_ASKED = struct.Struct(">16sII")
BOOT_LIMIT = 64
"""What a question after a call repeats of what a host says of its start."""
_SIZE = struct.Struct(">I")

_error_encoder = msgspec.json.Encoder()
_error_decoder = msgspec.json.Decoder(dict[str, Any])


Address = Annotated[str, msgspec.Meta(max_length=128)]


class Context(msgspec.Struct, frozen=True, array_like=True):
    """Where a call comes from, as its sender says."""

    through: Annotated[tuple[Address, ...], msgspec.Meta(max_length=MOST_DEEP)] = ()
    """The addresses of the functions that it was made inside of, the outermost first; nothing for one from outside."""
    trace: Annotated[str, msgspec.Meta(max_length=64)] = ""
    """The span that it belongs to, as in the header traceparent of W3C Trace Context; empty: nobody traces it."""
    on_behalf: Annotated[str, msgspec.Meta(max_length=ON_BEHALF_LIMIT)] = ""
    """For whom its sender calls, see motes.model.caller; empty: for itself."""

    @property
    def caller(self) -> str:
        """The address of the function that makes the call; empty for one from outside."""
        return self.through[-1] if self.through else ""

    @property
    def depth(self) -> int:
        """How many calls it was made inside of."""
        return len(self.through)


FROM_OUTSIDE = Context()
_context_encoder = msgspec.msgpack.Encoder()
_context_decoder = msgspec.msgpack.Decoder(Context)


def pack_request(call_id: bytes, budget_s: float, body: bytes, context: Context = FROM_OUTSIDE) -> bytes:
    """A request; `call_id` is 16 bytes, `budget_s` how long the caller will wait from now."""
    budget_ms = min(int(budget_s * 1000), 0xFFFFFFFF)
    if context is FROM_OUTSIDE:
        return _REQUEST.pack(call_id, budget_ms, 0) + body
    told = _context_encoder.encode(context)
    return _REQUEST.pack(call_id, budget_ms, len(told)) + told + body


def unpack_request(data: bytes) -> tuple[bytes, float, bytes, Context]:
    """`(call_id, budget_s, body, context)`. Raises ValueError when `data` is no request."""
    if len(data) < REQUEST_HEAD_BYTES:
        raise ValueError(f"a call of under {REQUEST_HEAD_BYTES} bytes")
    call_id, budget_ms, size = _REQUEST.unpack_from(data)
    if not size:
        return call_id, budget_ms / 1000, data[REQUEST_HEAD_BYTES:], FROM_OUTSIDE
    end = REQUEST_HEAD_BYTES + size
    if len(data) < end:
        raise ValueError("a call that ends in its context")
    try:
        context = _context_decoder.decode(data[REQUEST_HEAD_BYTES:end])
    except UNREADABLE as error:
        raise ValueError(f"a context that is none: {error}") from None
    return call_id, budget_ms / 1000, data[end:], context


def pack_more(call_id: bytes, count: int) -> bytes:
    """A caller's word that it has taken `count` items."""
    return _MORE.pack(call_id, count)


def unpack_more(data: bytes) -> tuple[bytes, int]:
    """`(call_id, count)`; with count 0 it is a question after the call. Raises ValueError."""
    if len(data) < _MORE.size:
        raise ValueError(f"no `more` of {_MORE.size} bytes")
    call_id, count = _MORE.unpack_from(data)
    return call_id, count


class Heard(NamedTuple):
    """A host's heartbeat, the last that a caller had heard: what came to the agent of that start, came after it."""

    boot: str = ""
    number: int = 0
    """From 1 on."""


def pack_asked(call_id: bytes, heard: Heard) -> bytes:
    """A caller's question after its call. A host says its heartbeats' boot and number as it likes."""
    number = min(max(heard.number, 0), 0xFFFFFFFF)
    return _ASKED.pack(call_id, 0, number) + heard.boot.encode()[:BOOT_LIMIT]


def unpack_asked(data: bytes) -> Heard:
    """What the caller had heard when it sent the call; nothing when it does not say. Raises ValueError."""
    if len(data) < _ASKED.size:
        return Heard()
    return Heard(data[_ASKED.size :].decode(errors="replace"), _ASKED.unpack_from(data)[2])


def inbox_token(call_id: bytes, number: int, *, asks: bool = False) -> str:
    """The last token of where an answer goes: to the call's sending of this number, or to a question after it."""
    return f"{call_id.hex()}{'a' if asks else 's'}{number}"


def read_inbox_token(token: str) -> tuple[bytes, int, bool]:
    """`(call_id, number, asks)`. Raises ValueError for what is no such token."""
    kind = token[2 * CALL_ID_BYTES :]
    if kind[:1] not in ("s", "a"):
        raise ValueError(f"no inbox of a call: {token[:80]}")
    return bytes.fromhex(token[: 2 * CALL_ID_BYTES]), int(kind[1:]), kind[0] == "a"


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
        except UNREADABLE:
            return MotesError("an answer that is no answer")


def held(size: int) -> Outcome:
    """What goes before a large result."""
    return Outcome(STATUS_HELD, _SIZE.pack(size))


def held_bytes(outcome: Outcome) -> int:
    """How large the result is that waits. Raises ValueError."""
    if len(outcome.body) != _SIZE.size:
        raise ValueError(f"a size of {len(outcome.body)} bytes")
    return int(_SIZE.unpack(outcome.body)[0])


def unpack_reply(data: bytes) -> Outcome:
    """Raises ValueError when `data` is empty."""
    if not data:
        raise ValueError("an empty reply")
    return Outcome(data[0], data[1:])


def failed(error: MotesError, *, try_elsewhere: bool = False) -> Outcome:
    """The outcome of a call that ended with `error`."""
    return Outcome(STATUS_TRY_ELSEWHERE if try_elsewhere else STATUS_ERROR, _error_encoder.encode(error.to_wire()))


def lost(why: str) -> Outcome:
    """The answer of a host that cannot say how a call ended."""
    return Outcome(STATUS_LOST, _error_encoder.encode(HostLost(why).to_wire()))
