"""`motes demo`, all of it but the download."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path

from motes.demo.plain import library
from motes.demo.web import REQUIREMENTS
from system.running import MOTES

LIMIT_S = 150.0


def test_the_demo_ends_well_with_its_table_and_leaves_nothing(tmp_path: Path) -> None:
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    done = subprocess.run(
        [MOTES, "demo", "--no-daemon"], env=environment, capture_output=True, text=True, timeout=LIMIT_S
    )
    assert done.returncode == 0, done
    assert done.stderr == ""
    figures = dict(re.findall(r"^(\S.*?)  +(\S.*)$", done.stdout, re.MULTILINE))
    assert int(figures["files indexed, and the same as in a plain process"]) == len(library())
    assert int(figures["instances started"]) >= int(figures["instances at the peak"]) > 1
    kill = next(name for name in figures if "when its agent was killed" in name)
    assert int(figures[kill]) >= 1
    assert list(tmp_path.iterdir()) == []


def test_the_demo_for_a_program_is_one_object() -> None:
    done = subprocess.run([MOTES, "demo", "--no-daemon", "--json"], capture_output=True, text=True, timeout=LIMIT_S)
    assert done.returncode == 0, done
    told = json.loads(done.stdout)
    assert told["index"]["files"] == len(library()) and told["index"]["kill"]["busy"] >= 1
    assert told["web"] is None


def test_every_requirement_of_the_web_daemon_is_pinned_with_hashes() -> None:
    lines = [line for line in REQUIREMENTS.read_text().splitlines() if line and not line.lstrip().startswith("#")]
    pins = [line for line in lines if not line.startswith(" ")]
    assert pins and all(re.fullmatch(r"[\w.-]+==[\w.]+ (; .+)?\\", pin) for pin in pins), pins
    assert sum("--hash=sha256:" in line for line in lines) >= len(pins)
    assert not any("://" in line for line in lines)
