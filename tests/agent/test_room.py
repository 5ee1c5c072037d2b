"""A host that is full, or short of memory."""

from __future__ import annotations

from agent.lent_host import LentHost, function
from motes.agent.core.effects import Close, Prepare
from motes.agent.core.pool import START_COST_S
from motes.agent.core.releases import ZYGOTE_IDLE_S
from motes.agent.core.room import KEPT_S
from motes.errors import (
    Overloaded,
    SpaceFailed,
)
from motes.model.call import STATUS_TRY_ELSEWHERE
from motes.model.host import Offer
from motes.model.release import MIB


def test_all_instances_together_never_exceed_what_is_lent() -> None:
    host = LentHost(function("f"), function("g"), offer=Offer(spaces=5))
    host.lease("f"), host.lease("g")
    for _ in range(50):
        host.call("f"), host.call("g")
        host.wait(START_COST_S)
        assert len(host.machine.instances) <= 5


def test_on_a_full_host_idle_instances_make_room_for_others() -> None:
    host = LentHost(function("f"), function("g"), offer=Offer(spaces=2))
    host.lease("f"), host.lease("g")
    for _ in range(2):
        host.call("f")
    host.wait(0.01)
    while host.busy("f"):
        host.reply(host.busy("f")[0])
    assert len(host.live("f")) == 2
    host.call("g")
    host.wait(0.01)
    assert len(host.live("g")) == 1
    assert "pressure" in host.ends()


def test_on_a_full_host_a_space_that_is_given_up_goes_to_who_needs_it() -> None:
    host = LentHost(function("f"), function("g"), offer=Offer(spaces=4))
    host.lease("f"), host.lease("g")
    for _ in range(50):
        host.call("f")
    for _ in range(5):
        host.wait(START_COST_S)
    assert len(host.live("f")) == 4
    host.call("g"), host.call("g")
    for _ in range(10):
        host.wait(START_COST_S)
        for number in list(host.busy("f")):
            host.reply(number)
    assert len(host.busy("g")) == 2 and len(host.live("f")) == 2


def test_on_a_host_full_of_floors_calls_go_elsewhere_and_the_floors_stay() -> None:
    host = LentHost(function("f"), function("g"), offer=Offer(spaces=2))
    host.lease("f", floor=2), host.lease("g")
    call = host.call("g")
    assert isinstance(host.error(call), Overloaded)
    assert host.answers(call)[0].status == STATUS_TRY_ELSEWHERE
    assert len(host.live("f")) == 2 and not host.ends()


def test_a_space_that_fails_all_day_brings_no_trouble_but_its_own() -> None:
    host = LentHost(by_hand=[Prepare])
    host.lease(floor=1)
    for _ in range(1100):
        host.do(host.machine.on_space_failed("r1", SpaceFailed("no namespaces"), host.now))
        host.wait(30.0)
    host.do(host.machine.on_space_ready("r1", host.now))
    assert len(host.live()) == 1


def test_memory_over_the_offer_ends_idle_instances_but_not_the_floor() -> None:
    host = LentHost(offer=Offer(memory_bytes=100 * MIB))
    host.lease(floor=1)
    for _ in range(3):
        host.call()
    host.wait(0.01)
    while host.busy():
        host.reply(host.busy()[0])
    for _ in range(10):
        host.do(host.machine.on_usage({}, 200 * MIB, host.now))
    assert len(host.live()) == 1
    assert host.ends() == ["pressure", "pressure"]


def test_a_space_that_nobody_called_for_long_ends_and_wakes_on_the_next_call() -> None:
    host = LentHost(function(idle_s=1.0))
    host.lease()
    host.call()
    host.reply(host.busy()[0])
    host.wait(2.0)
    host.wait(ZYGOTE_IDLE_S + 1)
    assert [effect.release for effect in host.seen(Close)] == ["r1"]
    host.call()
    assert len(host.busy()) == 1


def two_busy_functions(spaces: int) -> LentHost:
    """In bursts that come by turns: each finds the other's instances idle for a moment. For two seconds."""
    host = LentHost(function("f"), function("g"), offer=Offer(spaces=spaces))
    host.lease("f"), host.lease("g")
    for turn in range(200):
        name = "fg"[turn % 2]
        for _ in range(spaces):
            host.call(name)
        for _ in range(5):
            host.wait(0.002)
        while host.busy(name):
            host.reply(host.busy(name)[0])
    return host


def test_two_busy_functions_on_a_full_host_do_not_end_each_other_all_the_time() -> None:
    host = two_busy_functions(spaces=4)
    assert len(host.live("f")) == len(host.live("g")) == 2
    assert host.ends().count("pressure") <= 4, "each is two processes for nothing"


def test_two_functions_that_share_one_space_take_turns_of_half_a_second() -> None:
    host = LentHost(function("f"), function("g"), offer=Offer(spaces=1))
    host.lease("f"), host.lease("g")
    served = {"f": 0, "g": 0}
    host.call("f"), host.call("g")
    for _ in range(2500):
        host.wait(0.002)
        for name in ("f", "g"):
            for number in list(host.busy(name)):
                host.reply(number)
                served[name] += 1
                host.call(name)
    assert 4 <= host.ends().count("pressure") <= 5 / KEPT_S + 1
    assert min(served.values()) >= 100


def test_what_is_idle_between_two_calls_is_not_taken_by_who_has_its_part_already() -> None:
    host = LentHost(function("f"), function("g"), offer=Offer(spaces=2))
    host.lease("f"), host.lease("g")
    host.call("f"), host.call("g")
    host.wait(0.01)
    host.reply(host.busy("g")[0])
    host.call("f")
    host.wait(0.1)
    assert len(host.live("g")) == 1 and not host.ends()
    host.wait(KEPT_S)
    assert len(host.live("f")) == 2 and host.ends() == ["pressure"]
