"""Errors as instances send them, let through only in the forms that an instance may use."""

from __future__ import annotations

from typing import Any

import msgspec

from motes.errors import BadInput, BadResult, FunctionError, LimitExceeded, MotesError, TooLarge
from motes.model.bounds import UNREADABLE
from motes.model.call import Outcome, failed
from motes.model.instance import EndReason

MESSAGE_LIMIT = 4096
TRACEBACK_LIMIT = 20000
NAME_LIMIT = 200
"""Characters."""

_KINDS: dict[str, type[MotesError]] = {
    kind.code: kind for kind in (FunctionError, BadInput, BadResult, LimitExceeded, TooLarge)
}
_LIMITS = (EndReason.MEMORY_LIMIT, EndReason.FILE_LIMIT, EndReason.PROCESS_LIMIT)
_TEXTS = {"path": NAME_LIMIT, "type": NAME_LIMIT, "traceback": TRACEBACK_LIMIT}


class _Error(msgspec.Struct, frozen=True):
    code: str
    message: str
    detail: dict[str, Any] = {}


_decoder = msgspec.json.Decoder(_Error)


class Untrustworthy(Exception):
    """An instance sent an error that it may not send."""


def outcome_of_error(body: bytes) -> tuple[Outcome, tuple[EndReason, str] | None]:
    """The outcome for the caller, and the limit it tells of, after which the instance ends. Raises Untrustworthy."""
    try:
        error = _decoder.decode(body)
    except UNREADABLE as failure:
        raise Untrustworthy(f"it sent an error that is none: {failure}") from None
    kind = _KINDS.get(error.code)
    if kind is None:
        raise Untrustworthy(f"it sent an error of kind {error.code[:NAME_LIMIT]!r}")
    message = error.message[:MESSAGE_LIMIT]
    detail = _detail(error.detail)
    reason = _limit(error) if kind is LimitExceeded else None
    return failed(kind(message, **detail)), (reason, message) if reason else None


def _detail(given: dict[str, Any]) -> dict[str, Any]:
    kept: dict[str, Any] = {
        name: given[name][:most] for name, most in _TEXTS.items() if isinstance(given.get(name), str)
    }
    if isinstance(given.get("limit_bytes"), int):
        kept["limit_bytes"] = given["limit_bytes"]
    if given.get("reason") in _LIMITS:
        kept["reason"] = given["reason"]
    return kept


def _limit(error: _Error) -> EndReason:
    reason = error.detail.get("reason")
    if reason not in _LIMITS:
        raise Untrustworthy("it sent a limit that it cannot know of")
    return EndReason(reason)
