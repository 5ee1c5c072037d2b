"""One daemon on one host: started, watched, replaced and started again."""

from __future__ import annotations

from agent.lent_host import LentHost, function
from motes.agent.core.daemons import BACKOFF_MAX_S, RAN_WELL_S
from motes.agent.core.effects import End, StartDaemon
from motes.model.host import Offer
from motes.model.instance import EndReason
from motes.model.release import Daemon, Manifest

WEB = Daemon("web", ("serve",), 8080)


def a_host(**more: object) -> LentHost:
    host = LentHost(WEB, **more)  # type: ignore[arg-type]
    host.manifests["r2"] = host.manifests["r1"]
    host.lease("web", ceiling=1, floor=1)
    return host


def test_a_lease_starts_the_daemon_and_it_is_told_as_up() -> None:
    host = a_host()
    assert len(host.seen(StartDaemon)) == 1
    assert host.machine.held(0.0)["app.web"].instances == 1


def test_a_daemon_that_ends_is_started_again_and_the_reason_says_so() -> None:
    host = a_host()
    host.end(host.live("web")[0], EndReason.CRASHED)
    assert host.machine.held(0.0)["app.web"].instances == 0
    host.wait(0.2)
    assert host.starts() == ["floor", "restart"]


def test_a_daemon_that_never_listens_waits_longer_each_time() -> None:
    host = a_host(by_hand=[StartDaemon])
    waits, last = [], 0.0
    for _ in range(5):
        host.end(host.live("web")[0], EndReason.NOT_LISTENING, "port 8080 stays closed")
        assert "port 8080" in host.machine.held(host.now)["app.web"].failing
        while not host.live("web"):
            host.wait(0.05)
        waits.append(host.now - last)
        last = host.now
    assert waits == sorted(waits) and waits[-1] > 8 * waits[0]


def test_the_backoff_has_an_end() -> None:
    host = a_host(by_hand=[StartDaemon])
    for _ in range(50):
        host.end(host.live("web")[0], EndReason.EXITED)
        host.wait(BACKOFF_MAX_S)
        assert host.live("web")


def test_one_that_ran_well_starts_again_soon() -> None:
    host = a_host()
    for _ in range(6):
        host.end(host.live("web")[0], EndReason.CRASHED)
        host.wait(BACKOFF_MAX_S)
    host.wait(RAN_WELL_S)
    host.end(host.live("web")[0], EndReason.CRASHED)
    host.wait(0.2)
    assert host.live("web")


def test_a_new_release_starts_beside_the_old_one_which_ends_when_it_serves() -> None:
    host = a_host(by_hand=[StartDaemon])
    (old,) = host.live("web")
    host.do(host.machine.on_started(old, 7, host.now))
    host.lease("web", ceiling=1, floor=1, release="r2")
    new = next(number for number in host.live("web") if number != old)
    assert host.machine.daemons["app.web"].number == old
    host.do(host.machine.on_started(new, 8, host.now))
    assert host.live("web") == [new] and host.ends() == ["replaced"]
    assert host.machine.held(0.0)["app.web"].release == "r2"


def test_a_new_release_that_does_not_come_up_leaves_the_old_one_serving() -> None:
    host = a_host(by_hand=[StartDaemon])
    (old,) = host.live("web")
    host.do(host.machine.on_started(old, 7, host.now))
    host.lease("web", ceiling=1, floor=1, release="r2")
    for _ in range(3):
        new = next(number for number in host.live("web") if number != old)
        host.end(new, EndReason.NOT_LISTENING)
        host.wait(5.0)
    assert host.machine.daemons["app.web"].number == old
    assert host.machine.held(0.0)["app.web"].instances == 1


def test_where_there_is_one_space_a_new_release_takes_the_place_of_the_old_one() -> None:
    host = a_host(offer=Offer(spaces=1))
    host.lease("web", ceiling=1, floor=1, release="r2")
    host.wait(0.2)
    host.wait(0.2)
    assert [host.machine.instances[number].release for number in host.live("web")] == ["r2"]
    # And not "replaced": nothing serves in its stead, for whom it could wait until its clients are done.
    assert host.ends() == ["pressure"]


def test_on_a_full_host_an_idle_instance_makes_room_for_a_daemon() -> None:
    host = LentHost(function("f", idle_s=1e6), WEB, offer=Offer(spaces=2))
    host.lease("f")
    host.call("f"), host.call("f")
    host.wait(0.01)
    while host.busy("f"):
        host.reply(host.busy("f")[0])
    assert len(host.live("f")) == 2
    host.lease("web", ceiling=1, floor=1)
    host.wait(0.1)
    host.wait(0.1)
    assert len(host.live("web")) == 1
    assert host.ends() == ["pressure"]


def test_the_end_of_the_lease_ends_the_daemon() -> None:
    host = a_host()
    host.lease("web", ceiling=0)
    assert host.ends() == ["removed"] and not host.machine.daemons


def test_a_lease_that_ends_during_the_start_ends_the_start() -> None:
    host = a_host(by_hand=[StartDaemon, End])
    (number,) = host.live("web")
    host.lease("web", ceiling=0)
    host.do(host.machine.on_started(number, 7, host.now))
    host.end(number, EndReason.REMOVED)
    assert not host.machine.daemons and not host.machine.instances
    host.wait(60.0)
    assert len(host.seen(StartDaemon)) == 1


def test_a_daemon_is_fetched_before_it_starts() -> None:
    host = LentHost(WEB)
    host.manifests["r1"] = Manifest("app", (WEB, function("f")))
    host.lease("web", ceiling=1)
    host.lease("f")
    host.call("f")
    assert host.live("web") and host.busy("f")
