"""What an agent does again and again goes on, whatever fails in one turn of it; and who asks it hears something."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from types import SimpleNamespace
from typing import Any

import pytest

from motes.agent import service
from motes.agent.hearing import Hearing
from motes.agent.service import Agent
from motes.bus.connection import Message
from motes.errors import BadBundle, TooLarge
from motes.model.keeper import decode_answer
from motes.model.release import Manifest
from waiting import until


class Faulty:
    """As much of an agent as looks after its host; `fails` is what does."""

    def __init__(self, fails: str) -> None:
        self._fails = fails
        self.did: list[str] = []
        self.sending = self.code = self.membership = self.telling = self
        self._logs = self.spaces = self.outputs = self
        self.is_host = True
        self._tell = lambda: Agent._tell(self)  # type: ignore[arg-type]

    def __getattr__(self, name: str) -> Any:
        def do() -> dict[str, int]:
            self.did.append(name)
            if name == self._fails:
                raise TooLarge("over what NATS carries")
            return {}

        return do


async def three_rounds(agent: Faulty, looking_after: Coroutine[Any, Any, None], act: str) -> None:
    """Let it go on until it did `act` three times, or ended."""
    rounds = asyncio.create_task(looking_after)
    async with asyncio.timeout(10):
        await until(lambda: agent.did.count(act) >= 3 or rounds.done())
    rounds.cancel()
    await asyncio.wait((rounds,))


@pytest.mark.parametrize("fails", ["_watch", "tick", "missing", "beat", "report_if_due", ""])
def test_one_mistake_ends_none_of_the_later_turns(fails: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "BEAT_INTERVAL_S", 0.0)
    agent = Faulty(fails)
    asyncio.run(three_rounds(agent, Agent._beats(agent), "_watch"))  # type: ignore[arg-type]
    assert agent.did.count(fails or "beat") >= 2


@pytest.mark.parametrize("fails", ["flush", "resume", ""])
def test_nor_does_one_in_passing_on_what_was_written(fails: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else all that write too much would wait for ever."""
    monkeypatch.setattr(service, "FLUSH_S", 0.0)
    agent = Faulty(fails)
    asyncio.run(three_rounds(agent, Agent._flushes(agent), "resume"))  # type: ignore[arg-type]
    assert agent.did.count("resume") >= 3


def test_who_deploys_hears_that_what_was_found_cannot_be_told() -> None:
    """As of a thousand functions with long schemas, where NATS carries a MiB."""
    said: list[bytes] = []

    def publish(subject: str, data: bytes) -> None:
        if len(data) > 1000:
            raise TooLarge("a message of much; NATS here carries little", limit_bytes=1000)
        said.append(data)

    async def answer(data: bytes) -> bytes:
        return data

    agent: Any = SimpleNamespace(connection=SimpleNamespace(publish=publish), inspection=SimpleNamespace(answer=answer))
    ears: Any = SimpleNamespace(_agent=agent)
    asyncio.run(Hearing._inspect(ears, Message("", "_INBOX.x", b"x" * 1001, False)))
    with pytest.raises(BadBundle, match="carries little"):
        decode_answer(said[0], Manifest)
