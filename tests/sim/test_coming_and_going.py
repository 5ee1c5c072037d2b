"""Hosts that come and go by the hour: places and floors hold, and what runs there is moved seldom. Damping taken away,
the bounds are broken.

`Days` itself checks after each event that everything is at its place, that each floor is kept, and over two machines.
"""

from __future__ import annotations

import pytest

from motes.controller.core import floors, placement
from motes.controller.core.moves import Moves
from motes.model.release import Daemon
from sim.days import WORKLOADS, Days

LEASES_AN_EVENT = 3.0
"""On the average, over eleven workloads."""
LEASES_AN_HOUR = 30
"""Without events; each adds twice the average at most."""
MOVES_A_DAY = 6
"""Of one workload, beside those that its hosts forced."""


def restless(days: Days, length: float) -> list[str]:
    """What moved more than it may."""
    given = sum(sum(count.values()) for count in days.gives.values())
    found = []
    if given > LEASES_AN_EVENT * sum(days.events.values()):
        found.append(f"{given} leases in {sum(days.events.values())} events")
    for hour, count in days.gives.items():
        most = LEASES_AN_HOUR + 2 * LEASES_AN_EVENT * days.events[hour]
        if hour and sum(count.values()) > most:
            found.append(f"{sum(count.values())} leases in hour {hour}, over {most:.0f}")
    for workload in WORKLOADS:
        address = f"app.{workload.name}"
        first = 1 if isinstance(workload, Daemon) else workload.scale.min
        unforced = days.moves[address] - days.endings[address] - first
        if unforced > MOVES_A_DAY * length:
            found.append(f"{workload.name} moved {unforced} times without need")
    return found


@pytest.mark.parametrize("seed", [1, 2])
def test_by_the_hour_hosts_come_and_go_and_little_moves(seed: int) -> None:
    days = Days(seed)
    days.run(0.7)
    assert sum(days.events.values()) > 150
    assert days.looked > 100
    assert restless(days, 0.7) == []


def test_without_the_buckets_work_goes_back_and_forth(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("early", "apart", "roomier"):
        monkeypatch.setattr(Moves, name, lambda moves, address, now: True)
    monkeypatch.setattr(placement, "LASTING_S", 0.0)
    days = Days(1)
    days.run(0.5)
    assert any("without need" in each for each in restless(days, 0.5))


def test_with_the_floors_by_the_rank_of_the_moment_the_plan_flaps(monkeypatch: pytest.MonkeyPatch) -> None:
    def by_rank(state, address, count, hosts, packs, now, is_bounded):  # type: ignore[no-untyped-def]
        each, more = divmod(count, max(len(hosts), 1))
        order = sorted(hosts, key=lambda host: state.hosts[host].report.spaces_used)
        return {host: each + (index < more) for index, host in enumerate(order)}

    monkeypatch.setattr("motes.controller.core.scaling.floors", by_rank)
    monkeypatch.setattr(Days, "_spread_holds", lambda *given: None)
    days = Days(1)
    days.run(0.5)
    assert len(restless(days, 0.5)) > 1


def test_a_controller_that_forgets_the_place_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("motes.controller.core.feasible.unmet", lambda place, traits: [])
    with pytest.raises(AssertionError, match="may be at"):
        Days(1).run(0.5)


def test_a_controller_that_packs_every_floor_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "motes.controller.core.scaling.floors", lambda *given: floors.floors(*given[:4], True, *given[5:])
    )
    two = [each for each in WORKLOADS if each.name == "two"]
    monkeypatch.setattr("sim.days.WORKLOADS", tuple(two))
    with pytest.raises(AssertionError, match="two is on one machine"):
        Days(1).run(1.0)
