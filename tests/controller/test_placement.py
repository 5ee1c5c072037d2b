"""Which hosts are meant by a place, over which machines work is spread, and who is given work gently."""

from __future__ import annotations

import pytest

from controller.keeper_bench import Bench, function, new_core
from motes.controller.core.ground import STARTS_AT_ONCE
from motes.controller.core.moves import Moves
from motes.controller.core.placement import LASTING_S
from motes.controller.core.scheduler import LOST_S
from motes.controller.core.steadiness import FORGIVEN_S, WAIT_MAX_S, WAIT_S, Steadiness
from motes.errors import NoRoom
from motes.model.host import Offer
from motes.model.release import MIB, Daemon


def web(**more: object) -> Daemon:
    return Daemon("web", ("serve",), **more)  # type: ignore[arg-type]


def where(bench: Bench, name: str = "web") -> list[str]:
    return list(bench.ceilings(name))


# ---------------------------------------------------------------------- places


def test_a_label_chooses_the_hosts_that_have_it_or_do_not() -> None:
    bench = Bench("plain")
    bench.join("big", labels=("gpu",))
    bench.join("hot", labels=("gpu", "attic"))
    bench.deploy(web(place=("gpu", "!attic")))
    assert where(bench) == ["big"]
    bench.deploy(web(place=("!gpu",)), release="r2")
    assert where(bench) == ["plain"]


def test_a_processor_chooses_the_hosts_that_have_it() -> None:
    bench = Bench()
    bench.join("pc", architecture="x86_64")
    bench.join("board", architecture="aarch64")
    bench.deploy(web(place=("arch:aarch64",)))
    assert where(bench) == ["board"]


def test_own_are_the_keepers_hosts_and_those_that_their_owner_named_so() -> None:
    bench = Bench("laptop", "nas")
    bench.core.state.joined = {"laptop", "nas"}
    bench.deploy(function(least=1, place=("own",)))
    assert isinstance(bench.refusal(), NoRoom) and where(bench, "f") == []
    bench.core.state.sets["nas"] = frozenset({"own"})
    bench.do(bench.core.on_named(bench.now))
    assert where(bench, "f") == ["nas"]
    bench.join("local")
    bench.wait(LOST_S + 1, "nas")
    assert where(bench, "f") == ["local"]


def test_a_set_is_what_the_keeper_says_and_no_label() -> None:
    bench = Bench()
    bench.join("liar", labels=("named:lab", "own", "lab"))
    bench.core.state.joined = {"liar"}
    bench.deploy(web(place=("named:lab",)), function(least=1, place=("own",)))
    assert where(bench) == where(bench, "f") == []
    bench.core.state.sets["liar"] = frozenset({"lab"})
    bench.do(bench.core.on_named(bench.now))
    assert where(bench) == ["liar"] and where(bench, "f") == []


def test_what_may_not_be_there_any_more_leaves_at_once() -> None:
    bench = Bench("a", "b")
    bench.core.state.sets = {"a": frozenset({"lab"}), "b": frozenset({"lab"})}
    bench.deploy(web(place=("named:lab",)))
    (first,) = where(bench)
    del bench.core.state.sets[first]
    bench.do(bench.core.on_named(bench.now))
    assert where(bench) == ["b" if first == "a" else "a"]


@pytest.mark.parametrize(
    ("place", "said"),
    [
        (("gpu",), ["no host is gpu;", "--lend labels=gpu"]),
        (("named:lab",), ["no host is named:lab;", "motes host name lab HOST"]),
        (("arch:riscv64",), ["no host is arch:riscv64;", "arch:aarch64"]),
        (("!attic", "!ssd"), ["no host is all of that;"]),
        (("own",), ["no host is own;", "motes host name own HOST"]),
    ],
)
def test_where_no_host_is_meant_the_refusal_says_which_term_and_what_there_is(place: object, said: list[str]) -> None:
    bench = Bench()
    bench.join("board", labels=("attic",), architecture="aarch64")
    bench.join("nas", labels=("ssd",), architecture="x86_64")
    bench.core.state.joined = {"board", "nas"}
    bench.deploy(function(place=place))
    error = bench.refusal()
    assert isinstance(error, NoRoom)
    for words in [*said, "board (arch:aarch64, attic)", "nas (arch:x86_64, ssd)"]:
        assert words in error.message


def test_of_the_hosts_at_the_place_the_refusal_says_what_else_they_lack() -> None:
    bench = Bench()
    bench.join("big", memory_bytes=900 * MIB)
    bench.join("small", labels=("gpu",), memory_bytes=100 * MIB)
    bench.deploy(function(place=("gpu",), memory_bytes=500 * MIB))
    assert "of those at gpu" in bench.refusal().message and "100 MiB" in bench.refusal().message


def test_a_daemon_with_a_port_may_be_on_a_machine_that_has_joined_as_one_without_may() -> None:
    bench = Bench("nas")
    bench.core.state.joined = {"nas"}
    bench.deploy(web(port=8000), Daemon("bot", ("run",)))
    assert where(bench, "bot") == where(bench) == ["nas"]
    bench.join("local")
    bench.wait(60, "nas")
    assert where(bench, "bot") == where(bench) == ["local"]


# ---------------------------------------------------------------------- machines


def two_machines() -> Bench:
    bench = Bench()
    for name in ("a1", "a2", "a3", "a4", "a5", "a6"):
        bench.join(name, machine="A")
    bench.join("b1", machine="B")
    return bench


@pytest.mark.parametrize("scale", [(2, None), (2, 4), (0, 2)])
def test_the_first_hosts_of_a_function_are_of_different_machines(scale: tuple[int, int | None]) -> None:
    bench = two_machines()
    bench.deploy(function(least=scale[0], most=scale[1]))
    bench.activate()
    bench.rest(3)
    assert "b1" in where(bench, "f")
    if scale[0]:
        assert bench.floors()["b1"] == 1


def test_floors_are_even_over_machines_and_not_over_hosts() -> None:
    bench = two_machines()
    bench.deploy(function(least=6))
    floors = bench.floors()
    assert floors.pop("b1") == 3 and sum(floors.values()) == 3 and max(floors.values()) == 1


@pytest.mark.parametrize("name", ["f", "g", "h", "i"])
def test_three_hosts_are_of_three_machines_where_there_are_so_many(name: str) -> None:
    bench = two_machines()
    bench.join("c1", machine="C")
    bench.deploy(function(name, least=3, most=3))
    bench.rest(3)
    assert {"b1", "c1"} < bench.ceilings(name).keys() and len(bench.ceilings(name)) == 3


def test_a_pack_is_on_one_host_and_grows_to_the_next_when_that_is_full() -> None:
    bench = Bench("a", "b", "c", spaces=4)
    bench.deploy(function(least=3, spread="pack"), function("g", most=4, spread="pack"))
    bench.activate("g")
    assert len(where(bench, "f")) == len(where(bench, "g")) == 1
    bench.deploy(function(least=6, spread="pack"), release="r2")
    assert sorted(bench.floors().values()) == [2, 4]


def test_a_pack_goes_to_the_fullest_host_that_has_room() -> None:
    bench = Bench("empty", "half", "full", spaces=10)
    for name, used in (("half", 5), ("full", 9)):
        bench.hosts[name].spaces_used = used
    bench.report()
    bench.deploy(web(spread="pack"))
    assert where(bench) == ["half"]


def test_when_another_machine_comes_a_floor_moves_there_once() -> None:
    bench = Bench()
    bench.join("a1", machine="A")
    bench.join("a2", machine="A")
    bench.deploy(function(least=2))
    assert bench.floors() == {"a1": 1, "a2": 1}
    bench.join("b1", machine="B")
    bench.rest(3)
    floors = bench.floors()
    assert floors["b1"] == 1 and sum(floors.values()) == 2
    gives = len(bench.gives())
    bench.wait(60.0)
    bench.rest(5)
    assert len(bench.gives()) == gives


# ---------------------------------------------------------------------- nothing moves for nothing


def test_swinging_loads_move_no_floor_and_no_daemon() -> None:
    bench = Bench("a", "b", "c", "d", "e", spaces=10)
    bench.deploy(function(least=1), web(), function("two", least=2, most=3))
    bench.rest(3)
    gives = len(bench.gives())
    for turn in range(50):
        for index, host in enumerate(bench.hosts.values()):
            host.spaces_used = 7 if (turn + index) % 3 else 0
        bench.rest(1)
        bench.wait(5.0)
    assert len(bench.gives()) == gives


@pytest.mark.parametrize("kind", ["daemon", "floor", "few"])
def test_work_does_not_come_back_with_its_host(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Moves, "early", lambda moves, address, now: False)
    bench = Bench("a", "b", "c")
    names = [f"w{number}" for number in range(9)]
    scale = {"floor": (1, None), "few": (1, 1)}
    bench.deploy(
        *(Daemon(name, ("x",)) if kind == "daemon" else function(name, *scale[kind]) for name in names),
    )

    def homes() -> dict[str, list[str]]:
        return {name: [host for host, floor in bench.floors(name).items() if floor] for name in names}

    assert ["a"] in homes().values()
    bench.hosts["a"].deaf = True
    bench.wait(LOST_S + 1, "a")
    moved = homes()
    assert ["a"] not in moved.values()
    bench.hosts["a"].deaf = False
    bench.wait(120.0)
    bench.rest(5)
    assert homes() == moved


def test_a_daemon_leaves_a_silent_host_at_once_twice_and_then_only_a_lost_one() -> None:
    bench = Bench("a", "b", "c", "d", "e")
    bench.deploy(web())
    moved = []
    for _ in range(4):
        (home,) = where(bench)
        bench.wait(1.5, home)
        moved.append(where(bench) != [home])
        bench.wait(10.0)
    assert moved == [True, True, False, False]
    (home,) = where(bench)
    bench.wait(LOST_S + 1, home)
    assert where(bench) != [home]


def test_out_of_a_crowd_a_daemon_moves_once_in_hours_and_only_when_it_lasts() -> None:
    bench = Bench("a", "b", spaces=10)
    bench.deploy(web())
    (first,) = where(bench)
    bench.hosts[first].spaces_used = 9
    bench.rest(2)
    bench.wait(LASTING_S - 10)
    bench.report()
    assert where(bench) == [first]
    bench.wait(20.0)
    bench.report()
    (second,) = where(bench)
    assert second != first
    for _ in range(20):
        bench.hosts[first].spaces_used, bench.hosts[second].spaces_used = 0, 9
        bench.report()
        bench.wait(LASTING_S + 1)
        bench.report()
        assert where(bench) == [second], "it goes back and forth"


# ---------------------------------------------------------------------- gently


def test_a_host_that_has_just_come_is_not_given_everything_at_once() -> None:
    bench = Bench("a", "b", spaces=1000)
    for host in bench.hosts.values():
        host.spaces_used = 300
    bench.report()
    bench.join("new")
    bench.deploy(*(Daemon(f"d{number}", ("serve",)) for number in range(30)))
    on_new = sum(where(bench, f"d{number}") == ["new"] for number in range(30))
    assert on_new <= 30 // 3 + STARTS_AT_ONCE


def test_a_host_whose_connection_breaks_often_gets_floors_last_and_is_forgiven() -> None:
    bench = Bench("flaps", "other")
    for _ in range(4):
        bench.do(bench.core.on_gone("flaps", bench.now))
        bench.report("flaps")
    bench.deploy(*(Daemon(f"d{number}", ("serve",)) for number in range(8)))
    assert all(where(bench, f"d{number}") == ["other"] for number in range(8))
    bench.wait(4 * WAIT_S)
    bench.deploy(*(Daemon(f"e{number}", ("serve",)) for number in range(8)), app="app", release="r2")
    assert {where(bench, f"e{number}")[0] for number in range(8)} == {"flaps", "other"}


def test_where_there_is_no_steadier_host_one_that_flaps_will_do() -> None:
    bench = Bench("flaps")
    for _ in range(9):
        bench.do(bench.core.on_gone("flaps", bench.now))
        bench.report("flaps")
    bench.deploy(web(), function(least=1), function("few", least=1, most=2))
    assert where(bench) == where(bench, "f") == where(bench, "few") == ["flaps"]


def test_the_wait_of_a_host_that_flaps_doubles_has_an_end_and_is_forgotten() -> None:
    steadiness = Steadiness()
    waits, now = [], 0.0
    for _ in range(12):
        steadiness.broke("h", now)
        steadiness.came_back("h", now)
        waited = 0.0
        while not steadiness.holds("h", now + waited):
            waited += WAIT_S
        waits.append(waited)
    assert waits[:5] == [0, WAIT_S, 2 * WAIT_S, 4 * WAIT_S, 8 * WAIT_S] and waits[-1] == WAIT_MAX_S
    steadiness.forgive(now + FORGIVEN_S)
    steadiness.broke("h", now + FORGIVEN_S)
    steadiness.came_back("h", now + FORGIVEN_S)
    assert steadiness.holds("h", now + FORGIVEN_S)


def test_a_new_controller_leaves_floors_where_they_are_and_knows_of_them() -> None:
    bench = Bench("a", "b", "c", "d")
    bench.deploy(*(function(f"f{number}", least=1) for number in range(8)))
    bench.rest(2)
    before = {f"f{number}": bench.floors(f"f{number}") for number in range(8)}
    after = Bench(core=new_core(10**6, settled_at=1.0))
    after.deploy(*(function(f"f{number}", least=1) for number in range(8)))
    for name, host in bench.hosts.items():
        after.join(name, holds=list(host.leases.values()))
    after.wait(2.0)
    after.rest(3)
    assert {name: after.floors(name) for name in before} == before and not after.gives()


def test_a_host_that_starts_anew_is_not_given_for_a_moment_what_others_have_got(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Moves, "early", lambda moves, address, now: False)
    bench = Bench("a", "b")
    bench.deploy(*(Daemon(f"d{number}", ("x",)) for number in range(6)))
    assert any(where(bench, f"d{number}") == ["a"] for number in range(6))
    bench.hosts["a"].deaf = True
    bench.do(bench.core.on_gone("a", bench.now))
    bench.wait(LOST_S + 1, "a")
    bench.hosts["a"].deaf, bench.hosts["a"].boot = False, 2
    bench.hosts["a"].leases.clear()
    bench.effects.clear()
    bench.report("a")
    assert not [lease for lease in bench.gives() if lease.host == "a" and lease.ceiling]


def test_a_floor_stays_with_a_host_that_fails_where_the_others_have_no_room_for_it() -> None:
    bench = Bench()
    bench.join("large", spaces=10)
    bench.join("small", spaces=1)
    bench.deploy(function(least=2, most=6))
    bench.rest(2)
    assert bench.floors() == {"large": 1, "small": 1}
    bench.hosts["large"].failing["app.f"] = "space_failed"
    bench.rest(5)
    assert bench.floors() == {"large": 1, "small": 1}


def test_floors_over_what_a_host_lends_now_go_to_others() -> None:
    bench = Bench("a", "b", spaces=10)
    bench.deploy(function(least=8))
    assert bench.floors() == {"a": 4, "b": 4}
    bench.hosts["a"].offer = Offer(spaces=1)
    bench.rest(2)
    assert bench.floors() == {"a": 1, "b": 7}
