"""What the owner says at deploy of the place, beside what a host tells that the functions declare."""

from __future__ import annotations

import pytest

from motes.client.placing import Placing
from motes.errors import BadInput
from motes.model.release import Daemon, Function, Manifest, Workload


def placed(placing: Placing, workload: Workload) -> Workload:
    (found,) = placing.apply(Manifest("app", (workload,))).workloads
    return found


def f(*place: str) -> Function:
    return Function("f", "app", "f", place=place)


def test_the_owners_place_holds_beside_the_functions_own() -> None:
    assert placed(Placing(("own", "gpu")), f("gpu", "!attic")).place == ("own", "gpu", "!attic")
    assert placed(Placing(), f("gpu")).place == ("gpu",)


def test_of_a_daemon_nothing_is_the_hosts_word() -> None:
    told = Daemon("main", ("serve",), place=("liar",), spread="pack")
    daemon = placed(Placing(("own",)), told)
    assert (daemon.place, daemon.spread) == (("own",), "machines")


def test_places_that_exclude_each_other_are_refused() -> None:
    with pytest.raises(BadInput, match=r"'f' and --place.*gpu"):
        placed(Placing(("gpu",)), f("!gpu"))


def test_where_an_app_is_tried_it_runs_whatever_its_place() -> None:
    assert placed(Placing(anywhere=True), f("gpu")).place == ()
