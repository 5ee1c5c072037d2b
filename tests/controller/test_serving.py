"""Hosts that serve some apps only: what goes where, and what is said where nobody serves an app."""

from __future__ import annotations

import msgspec
import pytest

from controller.keeper_bench import Bench, function
from motes.controller.core.summary import statuses, summaries
from motes.errors import NoRoom
from motes.model.host import Held
from motes.model.release import MIB, Daemon, Workload

WEB = Daemon("web", ("serve",))


def serve(bench: Bench, host: str, *apps: str) -> None:
    """As its owner has it: it lays down what it serves no more."""
    fake = bench.hosts[host]
    fake.offer = msgspec.structs.replace(fake.offer, serve=apps)
    for address, lease in fake.leases.items():
        if not fake.offer.serves(lease.app):
            fake.leases[address] = msgspec.structs.replace(lease, ceiling=0, floor=0)
            fake.instances.pop(address, None)
    bench.report(host)


def where(bench: Bench, name: str = "f") -> list[str]:
    return list(bench.ceilings(name))


def test_an_app_runs_only_where_it_is_served() -> None:
    bench = Bench("a")
    bench.join("b", serve=("mail", "shop"))
    bench.join("c", serve=("mail", "app"))
    bench.deploy(function(least=4), WEB)
    assert where(bench) == ["a", "c"] and set(where(bench, "web")) <= {"a", "c"}
    assert {each.name: each.lends.serve for each in statuses(bench.core.state)}["b"] == ("mail", "shop")


@pytest.mark.parametrize("workload", [function("w", least=1), Daemon("w", ("serve",))])
def test_what_must_always_run_moves_off_at_once_and_stays_where_it_went(workload: Workload) -> None:
    bench = Bench("a", "b")
    bench.deploy(workload)
    first = next(host for host, floor in bench.floors("w").items() if floor)
    other = "b" if first == "a" else "a"
    serve(bench, first, "mail")
    assert where(bench, "w") == [other] and bench.floors("w") == {other: 1} and bench.routed("w") == (other,)
    serve(bench, first)
    bench.rest()
    assert bench.floors("w")[other] == 1


def test_where_it_is_served_nowhere_it_ends_and_it_is_back_as_soon_as_it_is_served_again() -> None:
    bench = Bench("a")
    bench.deploy(function(least=1), WEB)
    serve(bench, "a", "mail")
    assert where(bench) == where(bench, "web") == []
    (shown,) = summaries(bench.core.state)
    assert shown.nowhere.keys() == {"f", "web"} and "host a serves only mail" in shown.nowhere["web"]
    serve(bench, "a", "app")
    (shown,) = summaries(bench.core.state)
    assert not shown.nowhere
    assert where(bench) == where(bench, "web") == ["a"]


def test_a_drained_host_keeps_nothing_that_it_does_not_serve() -> None:
    bench = Bench("a")
    bench.deploy(WEB)
    bench.do(bench.core.on_drained("a", True, bench.now))
    assert where(bench, "web") == ["a"]
    serve(bench, "a", "mail")
    assert where(bench, "web") == []


def test_a_maximum_is_kept_to_while_calls_still_end_where_it_was_served() -> None:
    bench = Bench("a", "b")
    bench.deploy(function(most=1))
    bench.activate()
    (first,) = where(bench)
    bench.hosts[first].instances["app.f"] = 1
    bench.report()
    serve(bench, first, "mail")
    bench.hosts[first].instances["app.f"] = 1
    ended = bench.hosts[first].leases["app.f"]
    assert bench.hosts[first].report().held["app.f"] == Held(ended.epoch, "r1", 0, 1, proof=ended.proof)
    bench.report()
    assert bench.on_hosts() <= 1


def test_where_no_host_serves_it_the_refusal_names_each_and_what_it_serves() -> None:
    bench = Bench()
    bench.join("laptop", serve=("mail",))
    bench.join("nas", serve=("shop", "mail", "a", "b", "c", "d"), labels=("gpu",))
    bench.deploy(function(), function("g", place=("gpu",)))
    error = bench.refusal()
    assert isinstance(error, NoRoom)
    assert "no host serves app 'app': host laptop serves only mail; host nas serves only" in error.message
    assert "and 2 more" in error.message and "motes lend serve=owner" in error.message
    error = bench.refusal(name="g")
    assert "no host of those at gpu serves app 'app': host nas" in error.message and "laptop" not in error.message


def test_the_refusal_says_what_those_lack_that_serve_it() -> None:
    bench = Bench()
    bench.join("big", serve=("mail",), memory_bytes=900 * MIB)
    bench.join("small", memory_bytes=100 * MIB)
    bench.deploy(function(memory_bytes=500 * MIB))
    assert "offers more than 100 MiB" in bench.refusal().message


def test_what_a_host_says_that_it_serves_gives_a_terminal_no_orders() -> None:
    bench = Bench()
    bench.join("liar", serve=("\x1b[2J", "mail"))
    bench.deploy()
    assert "serves only mail" in bench.refusal().message and "\x1b" not in bench.refusal().message
