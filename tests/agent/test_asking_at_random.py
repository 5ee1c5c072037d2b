"""In whatever order things happen: what an instance calls is answered once or given up, and nothing is kept of it."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from agent.lent_host import DONE
from agent.test_asking import CallingHost
from motes.agent.core.effects import Inform, Relay, RelayCancel
from motes.agent.core.machine import Machine
from motes.agent.core.pool import Instance
from motes.errors import Overloaded
from motes.model.call import STATUS_ITEM, Outcome, failed
from motes.model.host import Offer
from motes.model.instance import EndReason

STEPS = 80


class Walk:
    """One host, to which things happen at random."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.host = CallingHost(offer=Offer(cpus=2.0, spaces=self.chance.choice((3, 6, 100))))
        for name in ("f", "g"):
            self.host.lease(name, ceiling=self.chance.choice((1, 3, 50)))
        self.calls: list[bytes] = []
        self.asked: dict[bytes, tuple[int, int]] = {}
        """By id, the instance and its number for the call."""
        self.left: set[tuple[int, int]] = set()

    @property
    def machine(self) -> Machine:
        return self.host.machine

    def step(self) -> None:
        actions = [self.call, self.ask, self.ask, self.reply, self.reply, self.crash, self.cancel, self.leave]
        actions += [self.relayed, self.relayed, self.not_relayed, self.item, self.take, self.come_back, self.wait]
        self.chance.choice(actions)()
        self.check()

    def check(self) -> None:
        told = Counter(
            (each.number, each.ask)
            for each in self.host.effects
            if isinstance(each, Inform) and each.outcome.status != STATUS_ITEM
        )
        assert all(count == 1 for count in told.values()), told
        for instance in self.machine.instances.values():
            assert instance.asked_bytes == sum(len(each.body) for each in instance.asks.values())
            for each in instance.asks.values():
                assert (instance.number, each.number) not in told
                assert each.tag in instance.calls_now, "it asks for a call that is over"
                assert each.id in self.machine.calls or each.id in self.machine.relayed, "nobody will ever answer"
        for asker in self.machine.relayed.values():
            assert asker.number in self.machine.instances[asker.instance].asks

    def busy(self) -> Instance | None:
        found = [each for each in self.machine.instances.values() if each.calls_now and not each.ending]
        return self.chance.choice(found) if found else None

    def call(self) -> None:
        self.calls.append(self.host.call(self.chance.choice("fg"), budget_s=self.chance.choice((1.0, 60.0))))

    def ask(self) -> None:
        instance = self.busy()
        if instance is not None:
            name = self.chance.choice(("g", "far.h") if instance.address == "app.f" else ("f",))
            wanted = self.host.ask(instance.number, name)
            self.asked[wanted.id] = instance.number, wanted.number

    def reply(self) -> None:
        instance = self.busy()
        if instance is not None:
            self.host.reply(instance.number)

    def crash(self) -> None:
        instance = self.busy()
        if instance is not None and self.chance.random() < 0.3:
            self.host.end(instance.number, EndReason.CRASHED)

    def cancel(self) -> None:
        if self.calls:
            self.host.cancel(self.chance.choice(self.calls))

    def leave(self) -> None:
        if self.asked:
            number, ask = self.chance.choice(list(self.asked.values()))
            self.host.do(self.machine.on_leave(number, ask, self.host.now))

    def sent(self) -> bytes | None:
        """A call that left this host; it may be over by now."""
        found = [each.call_id for each in self.host.effects if isinstance(each, Relay)]
        return self.chance.choice(found) if found else None

    def relayed(self) -> None:
        call_id = self.sent()
        if call_id is not None:
            refused = failed(Overloaded("full"), try_elsewhere=self.chance.random() < 0.5)
            outcome = self.chance.choice((DONE, DONE, Outcome(STATUS_ITEM, b"1"), refused))
            self.host.do(self.machine.on_relayed(call_id, outcome, self.host.now))

    def not_relayed(self) -> None:
        call_id = self.sent()
        if call_id is not None:
            self.host.do(self.machine.on_not_relayed(call_id, self.host.now))

    def come_back(self) -> None:
        """The gateway sends a relayed call to this very host."""
        call_id = self.sent()
        if call_id is not None and call_id in self.machine.relayed and call_id not in self.machine.calls:
            self.calls.append(self.host.call(self.chance.choice("fg"), call_id=call_id))

    def item(self) -> None:
        instance = self.busy()
        if instance is not None:
            tag = self.chance.choice(list(instance.calls_now))
            if instance.calls_now[tag].window:
                self.host.do(self.machine.on_item(instance.number, tag, b"1"))

    def take(self) -> None:
        if self.asked:
            number, ask = self.chance.choice(list(self.asked.values()))
            self.host.do(self.machine.on_taken(number, ask, self.chance.choice((1, 2**32 - 1))))

    def wait(self) -> None:
        self.host.wait(self.chance.choice((0.001, 0.05, 0.6, 3.0)))

    def settle(self) -> None:
        """Everything ends that can; what is relayed is answered."""
        for _ in range(200):
            for instance in list(self.machine.instances.values()):
                if instance.calls_now and not instance.ending:
                    self.host.reply(instance.number)
            for call_id in list(self.machine.relayed):
                self.host.do(self.machine.on_relayed(call_id, DONE, self.host.now))
            self.host.wait(0.05)
            self.check()


@pytest.mark.parametrize("seeds", [range(0, 100), range(100, 200), range(200, 300)])
def test_each_call_of_an_instance_is_answered_once_or_given_up(seeds: range) -> None:
    for seed in seeds:
        walk = Walk(seed)
        for _ in range(STEPS):
            walk.step()
        walk.settle()
        machine = walk.machine
        assert not machine.calls and not machine.relayed, seed
        assert not any(each.asks for each in machine.instances.values()), seed
        given_up = {each.call_id for each in walk.host.effects if isinstance(each, RelayCancel)}
        told = {(each.number, each.ask) for each in walk.host.effects if isinstance(each, Inform)}
        over = {key for key in walk.asked.values() if key[0] not in machine.instances}
        lost = [each for each, key in walk.asked.items() if key not in told | over and each not in given_up]
        # What is left was asked for a call that its instance has answered since: that gives it up.
        assert all(walk.asked[each][0] in machine.instances for each in lost), seed
