"""How many instances may run where: ceilings and floors."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from controller.keeper_bench import Bench, function
from motes.controller.core.plan import ASLEEP_S
from motes.controller.core.scaling import FIRST_HOSTS
from motes.model.host import Load
from motes.model.release import Daemon


def test_what_nobody_calls_gets_no_lease() -> None:
    bench = Bench("a", "b")
    bench.deploy(function())
    assert bench.ceilings() == {}


def test_a_function_without_a_maximum_may_fill_its_hosts_at_once() -> None:
    bench = Bench("a", "b", spaces=70)
    bench.deploy(function())
    bench.activate()
    assert bench.ceilings() == {"a": 70, "b": 70}


def test_a_function_starts_on_a_few_hosts_and_gets_more_while_they_are_saturated() -> None:
    names = [f"h{number:02}" for number in range(20)]
    bench = Bench(*names, spaces=10)
    bench.deploy(function())
    bench.activate()
    assert len(bench.ceilings()) == FIRST_HOSTS
    bench.rest(2)
    assert len(bench.ceilings()) == FIRST_HOSTS
    for host in bench.ceilings():
        bench.hosts[host].wanted["app.f"] = 50
    bench.report()
    assert len(bench.ceilings()) == 2 * FIRST_HOSTS


def test_a_function_that_nobody_called_for_long_gives_its_leases_up() -> None:
    bench = Bench("a")
    bench.deploy(function())
    bench.activate()
    bench.wait(ASLEEP_S - 1)
    assert bench.ceilings() == {"a": 100}
    bench.wait(2)
    assert bench.ceilings() == {}


def test_calls_that_run_keep_a_function_awake() -> None:
    bench = Bench("a")
    bench.deploy(function())
    bench.activate()
    bench.wait(ASLEEP_S - 1)
    bench.beat(load={"app.f": Load(busy=1)})
    bench.wait(ASLEEP_S - 1)
    assert bench.ceilings() == {"a": 100}


def test_a_minimum_of_two_is_spread_over_two_hosts() -> None:
    bench = Bench("a", "b", "c")
    bench.deploy(function(least=2))
    assert sorted(bench.floors().values()) == [0, 1, 1]


def test_a_minimum_of_five_is_spread_as_evenly_as_it_goes() -> None:
    bench = Bench("a", "b")
    bench.deploy(function(least=5))
    assert sorted(bench.floors().values()) == [2, 3]


def test_a_minimum_needs_nobody_who_calls() -> None:
    bench = Bench("a")
    bench.deploy(function(least=1))
    bench.wait(ASLEEP_S + 1)
    assert bench.floors() == {"a": 1}


def test_a_maximum_is_divided_between_two_hosts() -> None:
    bench = Bench("a", "b", "c")
    bench.deploy(function(most=10))
    bench.activate()
    bench.rest(2)
    assert sorted(bench.ceilings().values()) == [5, 5]


def test_a_maximum_of_one_is_on_one_host() -> None:
    bench = Bench("a", "b")
    bench.deploy(function(most=1))
    bench.activate()
    assert list(bench.ceilings().values()) == [1]


def test_ceilings_move_from_a_host_with_spare_to_one_that_is_short_and_never_exceed_the_maximum() -> None:
    bench = Bench("a", "b")
    bench.deploy(function(most=10))
    bench.activate()
    bench.rest(2)
    bench.hosts["a"].wanted["app.f"] = 9
    for _ in range(30):
        for name in ("a", "b"):
            bench.report(name)
            assert bench.on_hosts() <= 10
    assert bench.ceilings() == {"a": 9, "b": 1}


def test_a_ceiling_that_is_not_confirmed_yet_is_not_given_to_another() -> None:
    bench = Bench("a", "b")
    bench.deploy(function(most=10))
    bench.activate()
    bench.rest(2)
    bench.hosts["b"].deaf = True
    bench.hosts["a"].wanted["app.f"] = 9
    bench.rest()
    assert bench.ceilings()["a"] == 5 and bench.on_hosts() == 10
    bench.hosts["b"].deaf = False
    bench.rest()
    assert bench.ceilings() == {"a": 9, "b": 1}


def test_ceilings_come_back_when_the_wish_turns() -> None:
    bench = Bench("a", "b")
    bench.deploy(function(most=10))
    bench.activate()
    bench.hosts["a"].wanted["app.f"] = 9
    bench.rest()
    bench.hosts["a"].wanted["app.f"], bench.hosts["b"].wanted["app.f"] = 0, 9
    bench.rest()
    assert bench.ceilings() == {"a": 1, "b": 9}


def test_a_small_host_gets_no_more_than_its_spaces_and_the_other_the_rest() -> None:
    bench = Bench()
    bench.join("small", spaces=2)
    bench.join("large", spaces=50)
    bench.deploy(function(most=20))
    bench.activate()
    bench.rest(3)
    assert bench.ceilings() == {"large": 18, "small": 2}


def test_a_lowered_maximum_is_kept_also_while_the_old_ceilings_last() -> None:
    bench = Bench("a", "b")
    bench.deploy(function(most=10))
    bench.activate()
    bench.rest(2)
    bench.deploy(function(most=4), release="r2")
    bench.rest(2)
    assert sorted(bench.ceilings().values()) == [2, 2]


def test_a_daemon_has_one_instance_on_one_host() -> None:
    bench = Bench("a", "b")
    bench.deploy(Daemon("web", ("serve",), 8080))
    assert list(bench.ceilings("web").values()) == [1] == list(bench.floors("web").values())


wishes = st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 12), st.booleans()), min_size=1, max_size=60)


@settings(max_examples=60, deadline=None)
@given(wishes, st.integers(1, 12), st.integers(1, 8))
def test_whatever_the_hosts_wish_the_maximum_holds_on_them(
    events: list[tuple[str, int, bool]], most: int, spaces: int
) -> None:
    bench = Bench("a", "b", "c", spaces=spaces)
    bench.deploy(function(most=most))
    bench.activate()
    for name, wanted, deaf in events:
        host = bench.hosts[name]
        host.wanted["app.f"], host.deaf = wanted, deaf
        bench.report(name)
        assert bench.on_hosts() <= most
        assert sum(bench.ceilings().values()) <= most
    for host in bench.hosts.values():
        host.deaf = False
    bench.rest(60)
    epoch = bench.core.state.epoch
    bench.rest(3)
    assert bench.core.state.epoch == epoch, "ceilings never come to rest"
