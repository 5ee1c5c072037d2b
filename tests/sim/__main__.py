"""Run a seed again: `PYTHONPATH=tests python -m sim SEED [FAULT,FAULT...]`."""

from __future__ import annotations

import sys

from sim.scenario import FAULTS, Scenario

if __name__ == "__main__":
    named = sys.argv[2].split(",") if len(sys.argv) > 2 else FAULTS
    world = Scenario(int(sys.argv[1]), frozenset(fault for fault in named if fault)).run()
    calls = world.ledger.entries.values()
    print(f"{len(calls)} calls, {sum(entry.succeeded for entry in calls)} of them succeeded; all held")
