"""An app that nobody calls ends its space, and wakes on the next call."""

from motes.agent.core.effects import Close, Prepare, Spawn
from motes.agent.core.machine import Machine
from motes.agent.core.pool import Call, Work
from motes.agent.core.releases import ZYGOTE_IDLE_S
from motes.model.call import STATUS_OK, Outcome
from motes.model.host import Lease, Offer
from motes.model.instance import EndReason
from motes.model.release import Function, Manifest

FUNCTION = Function(name="greet", module="app", qualname="greet", idle_s=1.0)


def machine_with_a_call_done() -> Machine:
    machine = Machine("local", Offer(cpus=2.0, memory_bytes=2**30, spaces=10))
    machine.on_lease(Lease(host="local", app="app", workload="greet", release="r", ceiling=4, floor=0, epoch=1), 0.0)
    machine.on_release("r", Manifest("app", (FUNCTION,)), 0.0)
    machine.on_call(Call(b"1" * 16, "app.greet", b"", 0.0, 60.0, ["_INBOX.a"]), 0.0)
    (spawn,) = [each for each in machine.on_space_ready("r", 0.0) if isinstance(each, Spawn)]
    machine.on_started(spawn.number, 7, 0.0)
    machine.on_reply(spawn.number, 1, Outcome(STATUS_OK, b"1"), Work(0.0, 0.0, None), 0.0)
    machine.tick(2.0)
    machine.on_ended(spawn.number, EndReason.IDLE, "", 2.0)
    return machine


def test_ticks_do_not_keep_an_app_awake_that_nobody_calls():
    machine = machine_with_a_call_done()
    seen = [effect for second in range(3, int(ZYGOTE_IDLE_S) + 4) for effect in machine.tick(float(second))]
    assert seen == [Close("r")]


def test_a_call_wakes_it():
    machine = machine_with_a_call_done()
    machine.tick(2.0 + ZYGOTE_IDLE_S)
    assert machine.on_call(Call(b"2" * 16, "app.greet", b"", 700.0, 760.0, ["_INBOX.a"]), 700.0) == [Prepare("r")]
