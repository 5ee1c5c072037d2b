"""What a test changes in the Python of one machine: its clock, or the Motes that it has."""

from __future__ import annotations

import textwrap
from pathlib import Path

from system.running import RunningCluster


def change_programs(machine: RunningCluster, folder: Path, code: str) -> None:
    """Run `code` first in each of Motes' programs and commands that the machine starts from now on."""
    folder.mkdir(exist_ok=True)
    (folder / "sitecustomize.py").write_text(textwrap.dedent(code))
    machine.environment = {**machine.environment, "PYTHONPATH": str(folder)}


def own_programs(machine: RunningCluster) -> None:
    """Motes' programs as they are."""
    machine.environment = {name: value for name, value in machine.environment.items() if name != "PYTHONPATH"}


WITNESS = """
    import os, sys
    if "motes.agent" in sys.orig_argv:
        import motes.agent.logs as logs
        # Before the agent gives up its rights.
        witness = os.open({path!r}, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        add = logs.Logs.add
        def add_and_note(self, address, pid, data):
            os.write(witness, data)
            return add(self, address, pid, data)
        logs.Logs.add = add_and_note
"""
"""What the machine's functions write is kept there as well: on its way to the keeper it may be lost in a cut."""

CLOCK_OFF = """
    import time
    _time, _time_ns = time.time, time.time_ns
    time.time = lambda: _time() + {seconds}
    time.time_ns = lambda: _time_ns() + {seconds} * 10**9
"""
"""The machine's clock is so many seconds ahead, or behind where it is negative. Time that only passes stays right."""

WIRE = """
    import motes.model.wire, motes.version
    motes.model.wire.WIRE = {wire}
    motes.__version__ = motes.version.__version__ = {version!r}
"""
"""The machine's Motes is another one, and says so."""
