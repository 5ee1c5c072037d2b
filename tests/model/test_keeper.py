"""What a keeper's answer may be."""

from __future__ import annotations

import pytest

from motes.errors import Unavailable
from motes.model.keeper import Admitted, decode_answer, encode_answer


def test_a_keeper_that_names_nobody_whom_its_host_is_to_believe_is_not_understood() -> None:
    assert decode_answer(encode_answer(Admitted("token", bytes(32), [bytes(32)])), Admitted).token == "token"
    with pytest.raises(Unavailable, match="owners"):
        decode_answer(encode_answer(Admitted("token", bytes(32), [])), Admitted)
