"""A host's accounts of many apps are signed some at a time, in one chain, and none is lost where that is cut short."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import msgspec
import pytest

from motes.agent import receipts
from motes.agent.receipts import SIGNED_AT_ONCE, Receipts
from motes.errors import BadInput, MotesError, Unavailable, Untrusted
from motes.grants.keys import Key, Nkey
from motes.grants.receipts import digest, read_batch, sign_receipt
from motes.model.credentials import Credentials
from motes.model.keeper import encode_answer, encode_error
from motes.model.receipt import Batch, Receipt, Spent
from motes.model.release import Signed
from turns import calls_by_turn

APPS = 200


class Agent:
    """One on which APPS apps used something, and whose keeper is away."""

    def __init__(self, folder: Path) -> None:
        self.key = Key.generate()
        seed = self.key.nkey_seed(Nkey.USER)
        self.host, self.telling, self.connection = "h", SimpleNamespace(boot="b"), self
        self.credentials = Credentials("host-h", "", seed)
        self.spaces = SimpleNamespace(cpu=SimpleNamespace(seconds=dict))
        apps = [f"app{number}" for number in range(APPS)]
        meter = SimpleNamespace(owners={app: self.key.public for app in apps}, permits={})
        self.machine = SimpleNamespace(meter=meter, cut=lambda cpu_s, now: {app: Spent(calls=1) for app in apps})
        self.receipts = Receipts(cast(Any, self), self.key.public, folder)
        self.refusal: MotesError = Unavailable("nobody is there")

    def now(self) -> float:
        return 0.0

    async def request(self, subject: str, data: bytes, timeout_s: float) -> bytes:
        raise self.refusal

    def chain(self) -> list[Batch]:
        """What waits for the keeper; each is checked to follow the one before."""
        unsent = list(self.receipts._kept.unsent)
        found = [read_batch(each, self.key.public) for each in unsent]
        for place in range(1, len(found)):
            assert found[place].before == digest(unsent[place - 1])
            assert found[place].number == found[place - 1].number + 1
        return found


@pytest.fixture
def agent(tmp_path: Path) -> Agent:
    return Agent(tmp_path)


def test_a_thousand_apps_keep_nobody_waiting_until_all_is_signed(agent: Agent, monkeypatch: pytest.MonkeyPatch) -> None:
    signed = calls_by_turn(monkeypatch, receipts, "sign_batch", agent.receipts.finish)
    assert max(signed.values()) <= SIGNED_AT_ONCE
    assert [each.app for each in agent.chain()] == [f"app{number}" for number in range(APPS)]


def test_nor_do_those_that_have_to_be_signed_anew(agent: Agent, monkeypatch: pytest.MonkeyPatch) -> None:
    asyncio.run(agent.receipts.finish())
    refusal = receipts.Refused("it knows more", number=1_000, digest=b"\1".hex())
    signed = calls_by_turn(monkeypatch, receipts, "sign_batch", lambda: agent.receipts._begin_anew(refusal))
    assert max(signed.values()) <= SIGNED_AT_ONCE
    assert [each.number for each in agent.chain()] == list(range(1_001, 1_001 + APPS))


def test_what_was_cut_and_not_signed_is_signed_when_the_host_stops(agent: Agent) -> None:
    async def story() -> None:
        agent.receipts._cut()
        signing = asyncio.create_task(agent.receipts._sign())
        await asyncio.sleep(0)
        signing.cancel()
        await asyncio.wait((signing,))
        assert 0 < len(agent.receipts._kept.unsent) < APPS
        await agent.receipts.finish()

    asyncio.run(story())
    assert Counter(each.app for each in agent.chain()) == {f"app{number}": 2 for number in range(APPS)}


def test_one_that_the_keeper_can_never_take_does_not_hold_up_those_that_follow(agent: Agent) -> None:
    asyncio.run(agent.receipts.finish())
    asked: list[int] = []

    async def request(subject: str, data: bytes, timeout_s: float) -> bytes:
        signed = msgspec.msgpack.decode(data, type=Signed)
        asked.append(read_batch(signed, agent.key.public).number)
        if len(asked) == 2:
            return encode_error(BadInput("a batch that cannot be read"))
        return encode_answer(sign_receipt(agent.key, Receipt(signed, 1.0)))

    agent.request = request  # type: ignore[method-assign]
    asyncio.run(agent.receipts._send())
    assert asked == list(range(1, APPS + 1)) and not agent.receipts._kept.unsent


def test_one_that_the_keeper_may_take_later_is_kept(agent: Agent) -> None:
    agent.refusal = Untrusted("the signature does not hold")
    asyncio.run(agent.receipts.finish())
    assert len(agent.chain()) == APPS


def test_a_mistake_in_the_last_accounts_keeps_no_host_from_leaving(agent: Agent) -> None:
    agent.machine.cut = lambda cpu_s, now: 1 / 0
    asyncio.run(agent.receipts.finish())
