"""Hosts and apps come and go for years, and leave nothing behind in the core but the names of hosts."""

from __future__ import annotations

from typing import Any

import msgspec

from controller.keeper_bench import Bench, function
from motes.controller.core.scheduler import FORGET_S
from motes.controller.core.steadiness import FORGIVEN_S
from motes.model.instance import Event

LONG_S = FORGET_S + 60.0


def sizes(thing: Any, path: str = "core", seen: set[int] | None = None) -> dict[str, int]:
    """How many entries each collection in it has that is not empty, by where it is."""
    seen = set() if seen is None else seen
    if id(thing) in seen or isinstance(thing, str | bytes | int | float | type) or callable(thing) or thing is None:
        return {}
    seen.add(id(thing))
    found: dict[str, int] = {}
    if isinstance(thing, dict | set | frozenset | list | tuple):
        found = {path: len(thing)} if thing else {}
        inner = [*thing.values()] if isinstance(thing, dict) else [*thing]
        parts = [(f"{path}[]", each) for each in inner]
    elif isinstance(thing, msgspec.Struct):
        parts = [(f"{path}.{name}", getattr(thing, name)) for name in thing.__struct_fields__]
    else:
        parts = [(f"{path}.{name}", each) for name, each in vars(thing).items()]
    for where, part in parts:
        for each, count in sizes(part, where, seen).items():
            found[each] = found.get(each, 0) + count
    return found


def pass_by(bench: Bench, number: int) -> None:
    """A host of a name of its own comes and goes, with or without a word, and so does an app; another app gets a new
    release, with another function."""
    host, app, name = f"h{number}", f"passing{number}", f"f{number}"
    bench.join(host)
    bench.deploy(function(name, least=1), release=f"r{number}")
    bench.deploy(function(name, least=1), app=app)
    bench.activate(name)
    bench.rest(3)
    bench.core.on_event(Event(0.0, "instance.start", "load", host, "app", name, f"r{number}", 7))
    bench.hosts[host].failing = {f"app.{name}": "it does not start"}
    bench.hosts[host].running = {f"app.{name}": [8]}
    bench.report()
    bench.do(bench.core.on_drained(host, True, bench.now))
    bench.do(bench.core.on_drained(host, False, bench.now))
    bench.wait(10.0, host, "stays")
    bench.do(bench.core.on_removed(app, bench.now))
    bench.report()
    bench.do(bench.core.on_gone(host, bench.now))
    bench.wait(5.0, host)
    if number % 2:
        bench.do(bench.core.on_left(host, bench.now))
    else:
        bench.wait(LONG_S, host)
    # As when it is removed (motes.controller.service), which may be long after it was last heard.
    bench.core.state.forget_all_given(host)
    bench.do(bench.core.on_left(host, bench.now))
    del bench.hosts[host]
    # An agent forgets leases that have ended.
    bench.hosts["stays"].leases = {at: lease for at, lease in bench.hosts["stays"].leases.items() if lease.ceiling}


def much_later(bench: Bench) -> dict[str, int]:
    bench.now += FORGIVEN_S
    bench.wait(1.0)
    bench.report()
    return sizes(bench.core)


def test_hosts_and_apps_that_come_and_go_leave_nothing_behind() -> None:
    bench = Bench("stays")
    bench.core.remember([])
    for number in range(3):
        pass_by(bench, number)
    before = much_later(bench)
    for number in range(3, 7):
        pass_by(bench, number)
    after = much_later(bench)
    grown = {where: (before.get(where, 0), count) for where, count in after.items() if count > before.get(where, 0)}
    # Why those stay, it says there.
    assert grown == {"core.state.inherited": (4, 8)}
