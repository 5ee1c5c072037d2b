"""Of a user's connections those that came last are too many; this machine's own programs never are."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from motes.bus.connection import Message
from motes.controller import crowd
from motes.controller.crowd import MOST, too_many


@pytest.mark.parametrize(
    ("user", "most"), [("guest-0", MOST["guest"]), ("host-a", MOST["host"]), ("shop", MOST["caller"])]
)
def test_the_newest_beyond_the_limit_are_ended_and_nobody_elses(user: str, most: int) -> None:
    users = {cid: user if cid % 2 else f"{user}1" for cid in range(2 * most + 6)}
    assert too_many(users) == [cid for cid in users if cid >= 2 * most]


@pytest.mark.parametrize("user", ["local", "keeper", "gateway", "gateway-answers", "gateway-streams"])
def test_this_machines_own_programs_have_as_many_as_they_like(user: str) -> None:
    assert too_many(dict.fromkeys(range(10_000), user)) == []


def test_a_list_that_cannot_be_read_keeps_nobody_from_being_looked_at_later(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crowd, "PAUSE_S", 0.0)
    asked: list[bytes] = []

    class System:
        inbox = "_INBOX.system.x"

        async def request(self, subject: str, data: bytes, timeout_s: float) -> bytes:
            asked.append(data)
            return b'{"data": []}'

    async def story() -> None:
        watching = crowd.Crowd(cast(Any, System()), "A")
        notice = b'{"client": {"jwt": "x.eyJuYW1lIjoic2hvcCJ9.x"}}'
        for _ in range(2):
            for _ in range(MOST["caller"] + 1):
                watching._note(Message("", "", notice, False), 1)
            await asyncio.sleep(0.01)
        await watching.close()

    asyncio.run(story())
    assert len(asked) > 1


def test_nobody_is_counted_who_has_gone() -> None:
    watching = crowd.Crowd(cast(Any, None), "A")
    for change in (1, -1, -1):
        watching._note(Message("", "", b'{"client": {"jwt": "x.eyJuYW1lIjoic2hvcCJ9.x"}}', False), change)
    assert not watching._about
