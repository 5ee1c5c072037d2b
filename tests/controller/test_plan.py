"""Which hosts: placement, lost hosts, failing hosts, and what a host's own report changes."""

from __future__ import annotations

import pytest

from controller.keeper_bench import Bench, function, new_core
from motes.controller.core.plan import MOST_ENDING
from motes.controller.core.scheduler import LOST_S
from motes.controller.core.state import FAILED_S
from motes.controller.core.summary import statuses
from motes.errors import NoRoom, Unavailable
from motes.model.host import Lease
from motes.model.platform import PLATFORMS
from motes.model.release import MIB, Daemon, Packages
from motes.model.walls import Walls

WEB = Daemon("web", ("serve",), 8080)


def where(bench: Bench, name: str = "web") -> list[str]:
    return list(bench.ceilings(name))


def test_equal_hosts_get_different_daemons() -> None:
    bench = Bench("a", "b", "c", "d")
    bench.deploy(*(Daemon(f"d{number}", ("serve",)) for number in range(20)))
    assert len({where(bench, f"d{number}")[0] for number in range(20)}) == 4


def test_a_host_that_lends_too_little_memory_is_passed_over() -> None:
    bench = Bench()
    bench.join("small", memory_bytes=100 * MIB)
    bench.join("large")
    bench.deploy(Daemon("web", ("serve",), memory_bytes=200 * MIB))
    assert where(bench) == ["large"]


def test_what_no_host_can_hold_is_refused_with_the_limit() -> None:
    bench = Bench()
    bench.join("small", memory_bytes=256 * MIB)
    bench.deploy(function(memory_bytes=512 * MIB))
    error = bench.refusal()
    assert isinstance(error, NoRoom)
    assert "512 MiB" in error.message and "256 MiB" in error.message


def test_without_hosts_the_answer_is_that_none_is_up() -> None:
    bench = Bench()
    bench.deploy()
    assert isinstance(bench.refusal(), Unavailable)


def test_a_lost_hosts_work_is_placed_again() -> None:
    bench = Bench("a", "b")
    bench.deploy(WEB)
    (first,) = where(bench)
    bench.wait(LOST_S + 1, first)
    (second,) = where(bench)
    assert second != first
    assert bench.routed("web") == (second,)


def test_a_host_that_is_away_for_a_moment_keeps_its_work() -> None:
    bench = Bench("a")
    bench.deploy(function(least=1))
    lease = bench.core.state.lease("a", "app.f")
    bench.wait(1.5, "a")
    assert bench.routed() == ()
    bench.wait(1.0)
    assert bench.routed() == ("a",)
    assert bench.core.state.lease("a", "app.f") == lease


def test_a_lost_host_that_returns_gives_up_what_others_have_got() -> None:
    bench = Bench("a", "b")
    bench.deploy(WEB)
    (first,) = where(bench)
    bench.hosts[first].deaf = True
    bench.wait(LOST_S + 1, first)
    bench.hosts[first].deaf = False
    bench.wait(1.0)
    bench.report()
    assert bench.on_hosts("web") == 1
    assert len(where(bench)) == 1


def test_the_maximum_holds_again_at_once_when_a_lost_host_returns() -> None:
    bench = Bench("a", "b")
    bench.deploy(function(most=4))
    bench.activate()
    bench.rest(2)
    bench.hosts["a"].deaf = True
    bench.wait(LOST_S + 1, "a")
    assert bench.ceilings() == {"b": 4}
    bench.hosts["a"].deaf = False
    bench.beat("a")
    assert sum(bench.ceilings().values()) <= 4
    bench.rest()
    assert bench.ceilings() == {"a": 2, "b": 2}


def test_a_host_where_a_daemon_cannot_start_is_left_for_another() -> None:
    bench = Bench("a", "b")
    bench.deploy(WEB)
    (first,) = where(bench)
    bench.hosts[first].failing["app.web"] = "space_failed"
    bench.report(first)
    (second,) = where(bench)
    assert second != first


def test_a_daemon_that_starts_nowhere_does_not_circle_among_the_hosts() -> None:
    bench = Bench("a", "b", "c")
    for host in bench.hosts.values():
        host.failing["app.web"] = "not_listening"
    bench.deploy(WEB)
    bench.rest(50)
    assert len([lease for lease in bench.gives() if lease.ceiling == 1]) <= 4


def test_a_failure_is_forgiven_after_a_while_and_by_a_new_release() -> None:
    bench = Bench("a", "b")
    for host in bench.hosts.values():
        host.failing["app.web"] = "not_listening"
    bench.deploy(WEB)
    bench.rest(5)
    assert len(bench.core.state.failures) == 2
    bench.deploy(Daemon("web", ("serve", "better")), release="r2")
    assert not bench.core.state.failures
    bench.rest(5)
    for host in bench.hosts.values():
        host.failing.clear()
    bench.wait(FAILED_S + 1)
    assert not bench.core.state.failures


def test_a_draining_host_gets_no_work_and_loses_what_it_had() -> None:
    bench = Bench("a", "b")
    bench.deploy(WEB)
    (first,) = where(bench)
    bench.hosts[first].draining = True
    bench.report(first)
    (second,) = where(bench)
    assert second != first


def test_a_host_that_withdraws_loses_its_work_and_gets_some_again_when_it_is_back() -> None:
    bench = Bench("a", "b")
    bench.deploy(function(least=2), WEB)
    assert bench.routed() == ("a", "b")
    bench.hosts["a"].withdraw()
    bench.report("a")
    assert bench.routed() == ("b",) and where(bench) == ["b"]
    (told,) = bench.told("host.away")
    assert (told.host, told.detail) == ("a", "its owner is here")
    bench.rest(3)
    assert not bench.core.state.leases["a"], "that its leases have ended is agreed"
    assert len(bench.told("host.away")) == 1
    bench.hosts["a"].away = ""
    bench.report("a")
    assert bench.routed() == ("a", "b")
    bench.rest(3)
    assert bench.floors() == {"a": 1, "b": 1}, "once its lease is there, it also keeps what always runs"
    assert [each.reason for each in bench.told("host.up") if each.host == "a"] == ["joined", "back"]


def test_a_host_that_was_away_while_it_could_not_be_heard_gets_new_leases_for_those_it_laid_down() -> None:
    bench = Bench("a")
    bench.deploy(function(least=1))
    before = bench.hosts["a"].leases["app.f"]
    bench.hosts["a"].withdraw()
    bench.hosts["a"].away = ""
    bench.report("a")
    after = bench.hosts["a"].leases["app.f"]
    assert after.epoch > before.epoch and after.ceiling == before.ceiling and bench.routed() == ("a",)
    given = len(bench.gives())
    bench.rest(3)
    assert len(bench.gives()) == given


def test_an_instance_that_a_host_still_runs_after_it_withdrew_counts_for_the_maximum() -> None:
    bench = Bench("a", "b")
    bench.deploy(function(most=1))
    bench.activate()
    ((first, ceiling),) = bench.ceilings().items()
    assert ceiling == 1
    host = bench.hosts[first]
    host.withdraw()
    host.instances["app.f"] = 1
    bench.report(first)
    bench.activate()
    assert not bench.ceilings(), "two would run"
    host.instances.clear()
    bench.report(first)
    bench.activate()
    assert bench.ceilings() == {({"a", "b"} - {first}).pop(): 1}


def test_where_all_hosts_are_away_the_reason_is_told() -> None:
    bench = Bench("a")
    bench.deploy(function())
    bench.hosts["a"].withdraw("it is not on its charger")
    bench.report("a")
    error = bench.refusal()
    assert isinstance(error, Unavailable) and "a: it is not on its charger" in error.message
    (status,) = statuses(bench.core.state)
    assert (status.state, status.away) == ("away", "it is not on its charger")


def test_a_lease_that_did_not_arrive_is_sent_again() -> None:
    bench = Bench("a")
    bench.hosts["a"].deaf = True
    bench.deploy(WEB)
    assert not bench.hosts["a"].leases
    bench.hosts["a"].deaf = False
    bench.report()
    assert bench.hosts["a"].leases["app.web"] == bench.core.state.lease("a", "app.web")


def test_a_lease_is_not_given_anew_when_nothing_has_changed() -> None:
    bench = Bench("a", "b")
    bench.deploy(function(least=2), WEB)
    bench.rest(2)
    count = len(bench.effects)
    bench.rest(5)
    bench.wait(5.0)
    assert len(bench.effects) == count


def test_what_a_host_holds_from_an_earlier_controller_is_taken_over_when_it_is_deployed() -> None:
    bench = Bench(core=new_core(10))
    bench.deploy()
    bench.join("a", holds=[Lease("a", "app", "f", "r1", 100, 0, 7)])
    assert bench.ceilings() == {"a": 100}


def test_what_a_host_holds_of_an_app_that_is_gone_ends() -> None:
    bench = Bench(core=new_core(10))
    bench.join("a", holds=[Lease("a", "old", "f", "r0", 100, 0, 7)])
    assert bench.hosts["a"].leases["old.f"].ceiling == 0
    bench.report()
    assert bench.core.state.leases["a"] == {} and not bench.core.state.active


@pytest.mark.parametrize("epoch", [7, 11, 10**6, 2**62])
def test_a_host_gets_no_calls_by_saying_that_it_holds_a_lease(epoch: int) -> None:
    """Neither one of an earlier controller, of which it said nothing at first, nor one of this controller."""
    bench = Bench("a", "b", core=new_core(10))
    bench.deploy(WEB)
    (honest,) = where(bench)
    (liar,) = bench.hosts.keys() - {honest}
    for _ in range(3):
        bench.hosts[liar].leases["app.web"] = Lease(liar, "app", "web", "r1", 1, 1, epoch)
        bench.report()
    assert bench.routed("web") == (honest,) and bench.ceilings("web") == {honest: 1}


def test_a_host_that_says_it_uses_everything_leaves_the_others_what_is_theirs() -> None:
    bench = Bench("a", "b", "c")
    bench.deploy(function(most=4))
    bench.hosts["c"].deaf = True
    lie = Lease("c", "app", "f", "r1", 10**6, 0, 1)
    bench.hosts["c"].leases["app.f"], bench.hosts["c"].instances["app.f"] = lie, 10**6
    bench.report()
    bench.activate()
    bench.rest()
    assert sum(bench.ceilings().values()) == 4


def test_a_host_with_thousands_of_claims_is_answered_a_few_at_a_time() -> None:
    bench = Bench("a")
    bench.deploy()
    for number in range(5000):
        bench.hosts["a"].leases[f"old{number}.f"] = Lease("a", f"old{number}", "f", "r", 1, 0, 1)
    bench.hosts["a"].deaf = True
    before = len(bench.gives())
    bench.rest(5)
    assert len(bench.gives()) - before <= 5 * MOST_ENDING
    bench.hosts["a"].deaf = False
    bench.rest(2 * 5000 // MOST_ENDING)
    assert all(lease.ceiling == 0 for lease in bench.hosts["a"].leases.values())


def test_an_ended_lease_is_remembered_until_the_host_has_confirmed_its_end() -> None:
    bench = Bench("a")
    bench.deploy(WEB)
    bench.hosts["a"].deaf = True
    bench.do(bench.core.on_removed("app", bench.now))
    bench.rest(3)
    assert bench.hosts["a"].leases["app.web"].ceiling == 1
    bench.hosts["a"].deaf = False
    bench.rest(2)
    assert bench.hosts["a"].leases["app.web"].ceiling == 0
    assert bench.core.state.leases["a"] == {}


def test_a_host_that_started_anew_gets_its_leases_again() -> None:
    bench = Bench("a")
    bench.deploy(WEB)
    bench.hosts["a"].leases.clear()
    bench.hosts["a"].boot = 2
    bench.report()
    assert bench.hosts["a"].leases["app.web"].ceiling == 1


def test_a_release_goes_only_where_its_python_and_its_packages_are_at_home() -> None:
    bench = Bench()
    bench.join("old", python="3.11.7", platform=PLATFORMS[0])
    bench.join("new", python="3.12.1", platform=PLATFORMS[0])
    bench.join("arm", python="3.12.1", platform=PLATFORMS[1])
    bench.join("other", python="3.12.1", platform="")
    bench.deploy(WEB, packages=Packages(layers={f"cp312-{PLATFORMS[0]}": "0" * 64}))
    assert where(bench) == ["new"]
    bench.deploy(WEB, packages=Packages(python="<3.12"))
    assert where(bench) == ["old"]
    bench.deploy(WEB, packages=Packages(python=">=3.13"))
    error = bench.refusal(name="web")
    assert isinstance(error, NoRoom)
    assert ">=3.13" in error.message and "3.11.7" in error.message and "deploy again" in error.message


def test_a_daemon_goes_only_where_there_are_namespaces_for_it() -> None:
    bench = Bench()
    bench.join("bare", walls=Walls.LANDLOCK)
    bench.deploy(WEB, function(least=1))
    error = bench.refusal(name="web")
    assert isinstance(error, NoRoom) and "namespaces" in error.message and "motes doctor" in error.message
    assert where(bench, "f") == ["bare"]
    bench.join("strange", walls="a wall of a later version")
    bench.join("whole", walls=Walls.NAMESPACES)
    bench.wait(1.0)
    assert where(bench) == ["whole"]


def test_a_requirement_that_cannot_be_read_fits_no_host() -> None:
    assert not Packages(python="three").fits("3.12.1", PLATFORMS[0])
    assert not Packages(python=">=3").fits("my own", PLATFORMS[0])
    assert not Packages(layers={"": "0" * 64}).fits("3.12", "windows"), "an unknown host is no target"
