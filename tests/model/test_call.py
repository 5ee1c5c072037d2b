"""What is said of one call: where its answers go, and how its caller asks after it."""

from __future__ import annotations

import pytest

from motes.errors import HostLost
from motes.model.call import (
    BOOT_LIMIT,
    STATUS_ERROR,
    STATUS_LOST,
    Heard,
    Outcome,
    inbox_token,
    lost,
    pack_asked,
    pack_more,
    read_inbox_token,
    unpack_asked,
    unpack_more,
    unpack_reply,
    unpack_request,
)

CALL = bytes(range(16))


@pytest.mark.parametrize("asks", [False, True])
@pytest.mark.parametrize("number", [1, 12_345])
def test_an_inbox_says_which_sending_of_which_call_is_answered_or_asked_after(number: int, asks: bool) -> None:
    token = inbox_token(CALL, number, asks=asks)
    assert read_inbox_token(token) == (CALL, number, asks) and token.isalnum()


@pytest.mark.parametrize("token", ["", "abc", CALL.hex(), CALL.hex() + "x1", CALL.hex() + "s", "z" * 32 + "s1"])
def test_what_is_no_inbox_of_a_call_is_refused(token: str) -> None:
    with pytest.raises(ValueError):
        read_inbox_token(token)


def test_a_question_says_what_was_heard_of_the_host_before_the_call_was_sent() -> None:
    data = pack_asked(CALL, Heard("a start", 7))
    assert unpack_more(data) == (CALL, 0) and unpack_asked(data) == Heard("a start", 7)


def test_a_question_without_that_heard_nothing() -> None:
    assert unpack_asked(pack_more(CALL, 0)) == Heard()


@pytest.mark.parametrize("number", [-1, 2**80])
def test_what_a_host_says_of_its_start_does_not_make_the_question_fail_or_long(number: int) -> None:
    data = pack_asked(CALL, Heard("é" * 10_000, number))
    assert len(data) <= 24 + BOOT_LIMIT
    assert unpack_asked(data).number in (0, 2**32 - 1)


def test_a_lost_answer_is_an_error_with_a_status_of_its_own() -> None:
    outcome = unpack_reply(lost("it is gone").pack())
    assert outcome.status == STATUS_LOST and isinstance(outcome.error(), HostLost)


@pytest.mark.parametrize(
    "body", [b"", b"[]", b'{"message": "\xff"}', b'{"detail": ' + b"[" * 10_000 + b"]" * 10_000 + b"}"]
)
def test_an_error_that_cannot_be_read_is_an_error_all_the_same(body: bytes) -> None:
    assert Outcome(STATUS_ERROR, body).error().message == "an answer that is no answer"


@pytest.mark.parametrize("context", [b"\x91" * 10_000 + b"\xc0", b"\x93\x90\xa1\xff\xa0"])
def test_a_call_whose_context_cannot_be_read_is_none(context: bytes) -> None:
    with pytest.raises(ValueError):
        unpack_request(CALL + bytes(4) + len(context).to_bytes(2, "big") + context)
