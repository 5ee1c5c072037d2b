"""Whoever has a host's name when the owner puts it in a set, and nobody who gets the name meanwhile, is in it."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import msgspec
import pytest

from motes.controller.admission import Admission
from motes.controller.core.scheduler import Scheduler
from motes.controller.door import Door
from motes.controller.members import Member
from motes.controller.naming import Naming
from motes.controller.service import Controller
from motes.errors import Unavailable
from motes.grants.keys import Key
from motes.model.keeper import NameHosts

MEMBER = Member("0" * 64, 1.0, "guest-1")


class Store:
    """One that takes its time over sets."""

    def __init__(self) -> None:
        self.kept: dict[str, frozenset[str]] = {}
        self.members = {"laptop": msgspec.msgpack.encode(MEMBER)}
        self.may_write = asyncio.Event()

    async def put_sets(self, host: str, value: bytes) -> None:
        await self.may_write.wait()
        self.kept[host] = frozenset(msgspec.msgpack.decode(value, type=list[str]))

    async def delete_sets(self, host: str) -> None:
        self.kept.pop(host, None)

    async def member(self, host: str) -> bytes | None:
        return self.members.get(host)

    async def put_member(self, host: str, value: bytes) -> None:
        self.members[host] = value

    async def invite(self, guest: str) -> None: ...
    async def put_drained(self, host: str, drained: bool) -> None: ...


class Keeper:
    def __init__(self) -> None:
        self.store = Store()
        self.core = Scheduler(0, 0.0, lambda host, address, held: False)
        self.core.state.joined.add("laptop")
        self.naming = Naming(cast(Controller, self))
        seal = SimpleNamespace(account=Key.generate(), own_key=lambda name: None)
        self.door: Any = SimpleNamespace(lock=asyncio.Lock(), seal=seal, shut_out=self.shut_out, end=self.end)
        self.admission = Admission(cast(Controller, self), cast(Door, self.door))

    async def shut_out(self, keys: dict[str, int]) -> None: ...

    async def end(self, keys: dict[str, int]) -> bool:
        return True

    def forget_host(self, name: str) -> None: ...
    def carry_out(self, effects: Any) -> None: ...

    def now(self) -> float:
        return 0.0


def test_who_gets_a_name_while_the_owner_trusts_the_one_before_is_not_trusted() -> None:
    async def story() -> None:
        keeper = Keeper()
        naming = asyncio.ensure_future(keeper.admission.name("local", NameHosts("own", ["laptop"])))
        await asyncio.sleep(0)
        removing = asyncio.ensure_future(keeper.admission.remove("local", "laptop"))
        for _ in range(20):
            await asyncio.sleep(0)
        keeper.store.may_write.set()
        await asyncio.gather(naming, removing)
        # Whoever joins now has the name of one that has left, and nothing of what was said of that one.
        keeper.core.state.joined.add("laptop")
        assert not keeper.core.state.is_own("laptop") and not keeper.store.kept

    asyncio.run(story())


def test_a_removal_that_fails_halfway_can_be_given_again() -> None:
    """Who was told that it failed tries again, and the host must be known to be gone then."""

    class Full(Store):
        is_full = True

        async def put_drained(self, host: str, drained: bool) -> None:
            if self.is_full:
                raise Unavailable("the store cannot write drained")

    async def run() -> None:
        keeper = Keeper()
        keeper.store = store = Full()
        with pytest.raises(Unavailable):
            await keeper.admission.remove("local", "laptop")
        store.is_full = False
        assert await keeper.admission.remove("local", "laptop")
        assert "laptop" in keeper.core.state.removed and "laptop" not in keeper.core.state.joined
        assert msgspec.msgpack.decode(store.members["laptop"], type=Member).left_at

    asyncio.run(run())
