"""The tutorial, typed from its first line to its last; only the port is that of this test's cluster."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.system.test_packages import only_index, wheelhouse  # noqa: F401  a fixture
from tests.system.test_readme import port_in, shell

from system.running import MOTES, RunningCluster

PAGE = (Path(__file__).parents[2] / "docs" / "TUTORIAL.md").read_text()


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[RunningCluster]:
    with RunningCluster(tmp_path / "home") as cluster:
        cluster.environment |= {"PATH": f"{Path(MOTES).parent}:{os.environ['PATH']}"}
        yield cluster


def test_the_tutorial_goes_as_it_says(cluster: RunningCluster, tmp_path: Path, wheelhouse: Path) -> None:  # noqa: F811
    blocks = re.findall(
        r"```python\n# (\S+)\n(.*?)```|^    \$ ([^\n]*)\n((?:    (?!\$ )[^\n]*\n|\n(?=    (?!\$ )))*)",
        PAGE,
        re.DOTALL | re.MULTILINE,
    )
    typed = [command for _, _, command, _ in blocks if command]
    assert sum(1 for *_, shown in blocks if shown.strip()) >= 15
    assert len(typed) > 25 and typed[0] == "motes up" and typed[-1] == "motes down"
    port = "8080"
    with only_index(cluster, wheelhouse):
        for name, content, command, shown in blocks:
            if name:
                (tmp_path / name).write_text(content)
                continue
            line = "motes up --http 127.0.0.1:0" if command == "motes up" else command.replace(":8080", f":{port}")
            told = shell(cluster, tmp_path, line)
            if command == "motes up":
                port = port_in(told)
            expected = "\n".join(part.removeprefix("    ") for part in shown.strip("\n").splitlines())
            assert expected in told, (command, expected, told)
