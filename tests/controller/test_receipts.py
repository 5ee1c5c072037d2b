"""The batches of many hosts that come at a time are checked one by one, with everybody else's turn between them."""

from __future__ import annotations

import asyncio
import time
from types import SimpleNamespace
from typing import Any, cast

import msgspec
import pytest

from motes.bus import subjects
from motes.controller import receipts
from motes.controller.core.judging import LATE_S
from motes.controller.receipts import Receipts
from motes.errors import BadInput, MotesError, Untrusted
from motes.grants.keys import Key
from motes.grants.receipts import read_receipt, sign_batch
from motes.model.host import Offer
from motes.model.keeper import decode_answer
from motes.model.receipt import Batch, Permit, Spent
from motes.model.release import Signed
from motes.tasks import Tasks
from turns import calls_by_turn

HOSTS = 50
KEEPER, OWNER = Key.generate(), Key.generate()


class Controller:
    """One whose store takes everything."""

    def __init__(self) -> None:
        self.keys = {f"h{number}": Key.generate() for number in range(HOSTS)}
        self.store, self.admission, self.connection, self.disk, self.proofs = self, self, self, self, self
        self.owners = frozenset({OWNER.public})
        offer = SimpleNamespace(report=SimpleNamespace(offer=Offer(1.0, 2**30, 10)))
        self.core = SimpleNamespace(state=SimpleNamespace(hosts=dict.fromkeys(self.keys, offer)))
        self.answers: list[Signed] = []
        self.refusals: list[MotesError] = []
        self.tasks = Tasks("controller")

    async def key_of(self, host: str) -> bytes:
        return self.keys[host].public

    async def last_receipt(self, host: str) -> tuple[int, bytes]:
        return 0, b""

    async def add_receipt(self, host: str, data: bytes, after: int) -> int:
        await asyncio.sleep(0)
        return 1

    def check(self) -> None:
        pass

    def hold(self, *_: object) -> bool:
        return True

    def publish(self, reply: str, data: bytes) -> None:
        try:
            self.answers.append(decode_answer(data, Signed))
        except MotesError as error:
            self.refusals.append(error)


def test_batches_of_many_hosts_at_a_time_keep_nobody_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    controller = Controller()

    async def take_all() -> None:
        found = Receipts(cast(Any, controller), KEEPER)
        for host, key in controller.keys.items():
            batch = Batch(host, "b", 1, b"", "app", OWNER.public, 1.0, 2.0, Spent(1), Permit("f", 1, 1))
            data = msgspec.msgpack.encode(sign_batch(key, batch))
            found.take(host, cast(Any, SimpleNamespace(reply=f"{subjects.inbox(f'host-{host}')}.1", data=data)))
        await controller.tasks.wait()

    checked = calls_by_turn(monkeypatch, receipts, "read_batch", take_all)
    assert checked.total() == HOSTS and max(checked.values()) == 1
    read_ones = [read_receipt(each, KEEPER.public) for each in controller.answers]
    assert sorted(batch.host for _, batch in read_ones) == sorted(f"h{number}" for number in range(HOSTS))
    assert {receipt.refused for receipt, _ in read_ones} == {""}


def test_a_host_hears_that_a_batch_of_its_own_can_never_be_read_and_of_no_other() -> None:
    async def story() -> list[MotesError]:
        controller = Controller()
        found = Receipts(cast(Any, controller), KEEPER)
        # As by a clock of before 1970.
        batch = Batch("h0", "b", 1, b"", "app", OWNER.public, -1.0, 2.0, Spent(1), Permit("f", 1, 1))
        for signer in ("h0", "h1"):
            data = msgspec.msgpack.encode(sign_batch(controller.keys[signer], batch))
            found.take("h0", cast(Any, SimpleNamespace(reply=f"{subjects.inbox('host-h0')}.1", data=data)))
        await controller.tasks.wait()
        assert not controller.answers
        return controller.refusals

    own, foreign = asyncio.run(story())
    assert isinstance(own, BadInput) and "cannot be read" in own.message
    assert isinstance(foreign, Untrusted)


def test_what_was_known_of_hosts_that_came_and_went_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    async def story() -> None:
        controller = Controller()
        found = Receipts(cast(Any, controller), KEEPER)

        def tell(host: str, number: int) -> None:
            batch = Batch(host, "b", number, b"", "app", OWNER.public, 1.0, 2.0, Spent(1), Permit("f", 1, 1))
            data = msgspec.msgpack.encode(sign_batch(controller.keys[host], batch))
            found.take(host, cast(Any, SimpleNamespace(reply=f"{subjects.inbox(f'host-{host}')}.1", data=data)))

        for host in controller.keys:
            tell(host, 1)
        await controller.tasks.wait()
        found.forget()
        assert found._ledgers.keys() == found._turns.keys() == controller.keys.keys()
        long_after = time.time() + LATE_S
        monkeypatch.setattr(receipts, "time", SimpleNamespace(time=lambda: long_after))
        tell("h0", 2)
        await asyncio.sleep(0)
        found.forget()
        assert found._ledgers.keys() == found._turns.keys() == {"h0"}, "one that tells just now"
        await controller.tasks.wait()
        assert not controller.refusals and len(controller.answers) == HOSTS + 1

    asyncio.run(story())
