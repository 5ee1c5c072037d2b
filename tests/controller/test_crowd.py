"""Of a user's connections those that came last are too many; this machine's own programs never are."""

from __future__ import annotations

import pytest

from motes.controller.crowd import MOST, too_many


@pytest.mark.parametrize(
    ("user", "most"), [("guest-0", MOST["guest"]), ("host-a", MOST["host"]), ("shop", MOST["caller"])]
)
def test_the_newest_beyond_the_limit_are_ended_and_nobody_elses(user: str, most: int) -> None:
    users = {cid: user if cid % 2 else f"{user}1" for cid in range(2 * most + 6)}
    assert too_many(users) == [cid for cid in users if cid >= 2 * most]


@pytest.mark.parametrize("user", ["local", "keeper", "gateway", "gateway-answers"])
def test_this_machines_own_programs_have_as_many_as_they_like(user: str) -> None:
    assert too_many(dict.fromkeys(range(10_000), user)) == []
