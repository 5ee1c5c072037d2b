"""What an instance may say of an error, and what a process's end means."""

from __future__ import annotations

import json

import pytest

from motes.errors import FunctionError, LimitExceeded
from motes.model.instance import EndReason
from motes.space.daemon_space import reason_of_exit
from motes.space.link import reason_of_status
from motes.space.replies import MESSAGE_LIMIT, TRACEBACK_LIMIT, Untrustworthy, outcome_of_error


def frame(code: str, message: str = "m", **detail: object) -> bytes:
    return json.dumps({"code": code, "message": message, "detail": detail}).encode()


def test_a_functions_error_is_passed_on_within_bounds() -> None:
    body = frame("function_error", "x" * 10**6, type="ValueError", traceback="t" * 10**6, host="secret", path=[1])
    outcome, limit = outcome_of_error(body)
    error = outcome.error()
    assert isinstance(error, FunctionError) and limit is None
    assert len(error.message) == MESSAGE_LIMIT and len(error.detail["traceback"]) == TRACEBACK_LIMIT
    assert error.detail["type"] == "ValueError" and set(error.detail) == {"type", "traceback"}


@pytest.mark.parametrize(
    "code", ["host_lost", "overloaded", "space_failed", "refused", "timed_out", "error", "", "x" * 999]
)
def test_only_an_instances_own_errors_are_believed(code: str) -> None:
    with pytest.raises(Untrustworthy):
        outcome_of_error(frame(code))


@pytest.mark.parametrize("body", [b"[", b'{"code": "\xff"}', frame("function_error")[:-2] + b'"d": ' + b"[" * 10_000])
def test_what_cannot_be_read_is_no_error(body: bytes) -> None:
    with pytest.raises(Untrustworthy):
        outcome_of_error(body)


@pytest.mark.parametrize("reason", ["time_limit", "host_stopped", "", None, ["memory_limit"]])
def test_only_limits_that_it_can_know_of_are_believed(reason: object) -> None:
    with pytest.raises(Untrustworthy):
        outcome_of_error(frame("limit_exceeded", reason=reason))


def test_a_limit_becomes_the_end_reason() -> None:
    outcome, limit = outcome_of_error(frame("limit_exceeded", "too much", reason="memory_limit"))
    assert limit == (EndReason.MEMORY_LIMIT, "too much") and isinstance(outcome.error(), LimitExceeded)


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'"x"', b'{"code":1,"message":""}', b'{"code":"\xff"}'])
def test_what_is_no_error_is_not_believed(body: bytes) -> None:
    with pytest.raises(Untrustworthy):
        outcome_of_error(body)


def test_an_instances_status_tells_its_end() -> None:
    assert reason_of_status(0) == (EndReason.RETURNED, "exit code 0")
    assert reason_of_status(3 << 8) == (EndReason.EXITED, "exit code 3")
    assert reason_of_status(11) == (EndReason.CRASHED, "SIGSEGV")
    assert reason_of_status(None)[0] == EndReason.CRASHED


def test_a_daemons_exit_tells_its_end() -> None:
    assert reason_of_exit(0) == (EndReason.RETURNED, "exit code 0")
    assert reason_of_exit(3) == (EndReason.EXITED, "exit code 3")
    assert reason_of_exit(137) == reason_of_exit(-9) == (EndReason.CRASHED, "signal SIGKILL")
