"""A host whose owner wants it back, lends less of it, and lends it again."""

from __future__ import annotations

import pytest

from agent.lent_host import DONE, LentHost, function
from motes.agent.core.effects import Close, Fetch, Prepare, Report, Spawn, StartDaemon
from motes.agent.core.withdrawal import GRACE_S
from motes.errors import HostLost, NotFound, Overloaded, SpaceFailed
from motes.model.call import STATUS_ERROR, STATUS_TRY_ELSEWHERE
from motes.model.host import Offer
from motes.model.release import Daemon

HERE = "its owner is here"


def withdraw(host: LentHost) -> None:
    host.do(host.machine.on_withdraw(HERE, host.now))


def free(host: LentHost) -> None:
    host.wait(3.0)
    host.do(host.machine.on_free(host.now))


def lend(host: LentHost, spaces: int) -> None:
    host.do(host.machine.on_offer(Offer(cpus=2.0, spaces=spaces), host.now))


def test_an_idle_host_that_withdraws_has_nothing_left_at_once_not_even_the_space() -> None:
    host = LentHost()
    host.lease()
    host.call()
    host.reply(host.busy()[0])
    withdraw(host)
    assert host.machine.is_empty() and host.ends() == ["withdrawn"]
    assert [each.release for each in host.seen(Close)] == ["r1"] and host.machine.away == HERE


def test_calls_that_run_may_finish_and_new_ones_are_sent_elsewhere() -> None:
    host = LentHost()
    host.lease(ceiling=1)
    running, waiting = host.call(), host.call()
    withdraw(host)
    assert isinstance(host.error(waiting), NotFound) and isinstance(host.error(host.call()), NotFound)
    assert all(each.status == STATUS_TRY_ELSEWHERE for each in host.answers(waiting))
    assert not host.seen(Close), "its call still needs the space"
    host.reply(host.busy()[0])
    assert host.answers(running) == [DONE] and host.seen(Close) and host.machine.is_empty()


@pytest.mark.parametrize(("idempotent", "status"), [(True, STATUS_TRY_ELSEWHERE), (False, STATUS_ERROR)])
def test_what_is_not_done_in_time_ends_and_runs_elsewhere_where_that_is_harmless(idempotent: bool, status: int) -> None:
    host = LentHost(function(idempotent=idempotent))
    host.lease()
    call = host.call()
    withdraw(host)
    free(host)
    assert host.answers(call)[0].status == status and isinstance(host.error(call), HostLost)
    assert "wants the machine" in host.error(call).message and host.error(call).detail["host"] == "h"
    assert host.machine.is_empty() and host.seen(Close)


def test_an_app_that_is_being_loaded_is_given_up() -> None:
    host = LentHost(by_hand=(Prepare,))
    host.lease()
    call = host.call()
    withdraw(host)
    assert [each.release for each in host.seen(Close)] == ["r1"]
    assert isinstance(host.error(call), NotFound)
    host.do(host.machine.on_return())
    host.lease()
    host.call()
    assert len(host.seen(Prepare)) == 2, "it is loaded anew"


def test_code_that_is_being_fetched_is_given_up_without_a_word_and_fetched_again_later() -> None:
    host = LentHost(by_hand=(Fetch,))
    host.lease()
    withdraw(host)
    effects = host.machine.on_fetch_failed("r1", SpaceFailed("given up"), host.now)
    assert not effects
    host.do(host.machine.on_return())
    host.lease()
    assert len(host.seen(Fetch)) == 2


def test_a_daemon_ends_and_starts_nowhere_here_until_the_host_is_back() -> None:
    host = LentHost(Daemon("web", ("serve",)))
    host.lease("web", ceiling=1, floor=1)
    assert len(host.live("web")) == 1
    withdraw(host)
    host.wait(60.0)
    assert host.live("web") == [] and len(host.seen(StartDaemon)) == 1
    host.do(host.machine.on_return())
    host.wait(60.0)
    assert host.live("web") == [], "its lease is laid down"
    host.lease("web", ceiling=1, floor=1)
    assert len(host.live("web")) == 1


def test_no_lease_makes_a_host_work_that_is_away() -> None:
    host = LentHost(by_hand=(Fetch,))
    withdraw(host)
    host.lease(ceiling=100, floor=10)
    host.wait(10.0)
    assert not host.seen(Fetch) and not host.seen(Spawn)
    assert isinstance(host.error(host.call()), NotFound)
    held = host.machine.held(host.now)["app.f"]
    assert (held.epoch, held.ceiling) == (1, 0), "it says that it has it, and does not use it"


def test_a_lease_from_before_is_powerless_after_and_a_new_one_is_not() -> None:
    host = LentHost()
    host.lease(epoch=7)
    withdraw(host)
    free(host)
    host.do(host.machine.on_return())
    assert host.machine.away == "" and not host.machine.draining
    for epoch in (6, 7):
        host.lease(epoch=epoch, floor=1)
        assert isinstance(host.error(host.call()), NotFound)
    host.lease(epoch=8)
    call = host.call()
    host.reply(host.busy()[0])
    assert host.answers(call) == [DONE]


def test_coming_back_while_calls_still_run_loses_none() -> None:
    host = LentHost()
    host.lease(ceiling=2)
    running = host.call()
    withdraw(host)
    host.do(host.machine.on_return())
    host.lease(ceiling=2)
    new = host.call()
    for number in host.busy() + [each for each in host.machine.instances if each not in host.busy()]:
        host.reply(number)
    assert host.answers(running) == host.answers(new) == [DONE]


def test_another_reason_is_told_and_nothing_else_happens() -> None:
    host = LentHost()
    withdraw(host)
    effects = host.machine.on_withdraw("these are not its hours", host.now)
    assert effects == [Report()] and host.machine.away == "these are not its hours"


def test_a_host_that_lends_less_gets_under_it_idle_ones_first() -> None:
    host = LentHost()
    host.lease(ceiling=10, floor=4)
    calls = [host.call() for _ in range(2)]
    host.wait(0.01)
    assert len(host.live()) == 4
    lend(host, 3)
    assert len(host.live()) == 3 and len(host.busy()) == 2, "an idle one has ended"
    lend(host, 1)
    assert len(host.busy()) == 2, "both may finish"
    host.wait(GRACE_S - 0.1)
    assert len(host.busy()) == 2
    host.wait(0.2)
    assert len(host.busy()) == 1
    (error,) = [host.error(call) for call in calls if host.answers(call)]
    assert isinstance(error, HostLost) and "lends less" in error.message
    host.wait(60.0)
    assert len(host.machine.instances) == 1


def test_a_busy_one_that_is_too_much_takes_no_more_calls_and_daemons_are_spared() -> None:
    host = LentHost(function(), Daemon("web", ("serve",)))
    host.lease("web", ceiling=1, floor=1)
    host.lease(ceiling=1)
    first, second = host.call(), host.call()
    lend(host, 1)
    host.reply(next(number for number in host.machine.instances if host.machine.instances[number].calls_now))
    host.wait(0.01)
    assert host.answers(first) == [DONE] and not host.busy() and host.live("web")
    assert host.machine.spaces_used() == 1
    assert isinstance(host.error(second), Overloaded) and host.answers(second)[0].status == STATUS_TRY_ELSEWHERE


def test_memory_that_is_lent_no_more_is_given_back() -> None:
    host = LentHost()
    host.lease(floor=0)
    host.call()
    host.reply(host.busy()[0])
    host.do(host.machine.on_usage({}, 2**29, host.now))
    assert host.live()
    host.do(host.machine.on_offer(Offer(memory_bytes=2**28), host.now))
    assert not host.live() and host.ends() == ["pressure"]
