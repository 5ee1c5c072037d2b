"""Whole clusters in virtual time, from random seeds. A run that fails prints how to repeat it."""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from sim.scenario import FAULTS, Scenario

RUNS = int(os.environ.get("MOTES_SIM_RUNS", "40"))
# Drawing a seed is cheap, a run takes a tenth of a second: that is no sign of slow drawing. A seed has no simpler seed,
# so a failure is shown as it was found.
lab = settings(
    max_examples=RUNS,
    derandomize=True,
    deadline=None,
    phases=[Phase.generate],
    suppress_health_check=[HealthCheck.too_slow],
)

seeds = st.integers(0, 2**32 - 1)


@lab
@given(seeds)
def test_without_trouble_the_cluster_serves_and_settles(seed: int) -> None:
    Scenario(seed, frozenset()).run()


@lab
@given(seeds, st.frozensets(st.sampled_from(FAULTS), min_size=1, max_size=4))
def test_a_few_troubles_break_no_promise(seed: int, faults: frozenset[str]) -> None:
    Scenario(seed, faults).run()


@lab
@given(seeds)
def test_all_troubles_at_once_break_no_promise(seed: int) -> None:
    Scenario(seed).run()


@pytest.mark.parametrize("seed", [5148])
def test_what_once_broke_a_promise_breaks_none_any_more(seed: int) -> None:
    """5148: a host refused a call, and then, asked after it, said that it never came: by then another had it."""
    Scenario(seed).run()


def test_the_same_seed_gives_the_same_run() -> None:
    first, second = Scenario(7, frozenset({"host_killed"})).run(), Scenario(7, frozenset({"host_killed"})).run()
    assert first.clock.now == second.clock.now
    assert list(first.clock.trace) == list(second.clock.trace)
    assert first.ledger.entries == second.ledger.entries
