"""Ten minutes without a line between a host and the keeper, both ways and one: work moves, and nothing is done twice.

Which calls ran, and how often, the world itself checks all the time.
"""

from __future__ import annotations

import pytest

from motes.controller.core.scheduler import Scheduler
from motes.errors import HostLost
from sim.callers import Entry
from sim.settled import check_that_it_settles
from sim.test_clusters import a_world, all_succeeded, load
from sim.world import World

TEN_MINUTES_S = 600.0
CUTS = ("both ways", "towards the keeper", "towards the machine")


def cut(world: World, name: str, which: str) -> None:
    if which == "both ways":
        world.host_cut(name, noticed=False)
    else:
        world.host_cut_one_way(name, speaks=which == "towards the machine")


def busiest(world: World) -> str:
    return max(world.living(), key=lambda host: len(host.machine.calls)).name


@pytest.mark.parametrize("which", CUTS)
@pytest.mark.parametrize("seed", range(3))
def test_a_cut_of_ten_minutes_moves_the_work_and_nothing_runs_twice(which: str, seed: int) -> None:
    world = a_world("work", "base", hosts=2, seed=seed)
    pure, once = (load(world, name, 20, 0.0, timeout_s=60.0, seconds=2.0) for name in ("pure", "once"))
    world.run(1.0)
    name = busiest(world)
    assert world.hosts[name].machine.calls, "nothing runs there that could be lost"
    cut(world, name, which)
    world.run(5.0)
    during = load(world, "pure", 200, 2.9, timeout_s=10.0, seconds=0.01)
    world.run(TEN_MINUTES_S - 5.0)
    assert all_succeeded(during, 200), "who calls while the line is cut notices nothing"
    assert all_succeeded(pure, 20), "what may run twice runs elsewhere"
    assert len(once) == 20 and [each for each in once if not each.succeeded and not is_lost(each)] == []
    assert (
        not world.keeper.core or name not in world.keeper.core.state.hosts or world.keeper.core.state.hosts[name].lost
    )
    world.network.up(name)
    check_that_it_settles(world)
    assert world.keeper.core is not None and world.keeper.core.state.hosts[name].lives, "it serves again"


def is_lost(entry: Entry) -> bool:
    """Whether its caller was told that nobody knows whether it ran."""
    return isinstance(entry.error, HostLost)


def test_a_controller_that_gives_up_no_host_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Scheduler, "_lose", lambda core, name, now: [])
    with pytest.raises(AssertionError):
        test_a_cut_of_ten_minutes_moves_the_work_and_nothing_runs_twice(CUTS[1], 0)
