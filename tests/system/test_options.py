"""The Python on the page of options, run as it stands there."""

from __future__ import annotations

import re
import subprocess
import sys
import textwrap
from pathlib import Path

from system.running import DEADLINE_S, RunningCluster

PAGE = (Path(__file__).parents[2] / "docs" / "OPTIONS.md").read_text()
HELLO = """
    from motes import function

    @function
    def greet(name: str) -> str:
        return f"hello, {name}"
"""


def block(section: str) -> str:
    """The one block of code in a section."""
    prose = PAGE.partition(f"\n## {section}\n")[2].partition("\n## ")[0]
    (found,) = re.findall(r"(?:^    .*\n|^\n(?=\n*    ))+", prose, re.MULTILINE)
    return textwrap.dedent(found)


def test_the_functions_that_call_functions_do_as_the_page_says(cluster: RunningCluster) -> None:
    cluster.deploy("bills", block("Functions that call functions"))
    assert cluster.json("call", "bills.bill", '["a", "bb", "ccc"]') == 6
    cluster.motes("rm", "bills")


def test_a_program_uses_a_cluster_as_the_page_says(cluster: RunningCluster) -> None:
    cluster.deploy("hello", HELLO)
    program = f"import asyncio\n{block('A cluster in a program')}\nprint(asyncio.run(greeting('Ada')))"
    done = subprocess.run(
        [sys.executable, "-c", program], env=cluster.environment, capture_output=True, text=True, timeout=DEADLINE_S
    )
    assert (done.stdout, done.stderr) == ("hello, Ada\n", "")
    cluster.motes("rm", "hello")
