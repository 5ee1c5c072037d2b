"""The page about two machines, typed from its first line to its last: two homes stand for them."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.system.test_readme import shell

from system.running import MOTES, Keeper, RunningCluster, wait_until

PAGE = (Path(__file__).parents[2] / "docs" / "TWO_MACHINES.md").read_text()
BLOCKS = re.compile(
    r"```python\n# (\S+)\n(.*?)```|^    (server|laptop)\$ ([^\n]*)\n((?:    (?!(?:server|laptop)\$ )[^\n]*\n)*)",
    re.DOTALL | re.MULTILINE,
)


@pytest.fixture
def machines(tmp_path: Path) -> Iterator[dict[str, RunningCluster]]:
    found = {"server": Keeper(tmp_path / "server"), "laptop": RunningCluster(tmp_path / "laptop")}
    for each in found.values():
        each.environment |= {"PATH": f"{Path(MOTES).parent}:{os.environ['PATH']}"}
    yield found
    for each in reversed(found.values()):
        each.down()


def test_the_page_about_two_machines_goes_as_it_says(machines: dict[str, RunningCluster], tmp_path: Path) -> None:
    server = machines["server"]
    assert isinstance(server, Keeper)
    invite, shown_lines, rests = "", 0, 0
    for name, content, machine, command, shown in BLOCKS.findall(PAGE):
        if name:
            (tmp_path / name).write_text(content)
            continue
        line = command.replace("motes1-...", invite).replace("0.0.0.0", f"127.0.0.1:{server.port} --http 127.0.0.1:0")
        if command.startswith("motes usage"):
            wait_until(lambda count=rests: rests_accounted_for(machines) == (count, count), "it is signed by both")
        told = shell(machines[machine], tmp_path, f"{{ {line}; }} 2>&1")
        if command == "motes invite":
            invite = re.search(r"motes1-\S+", told)[0]  # type: ignore[index]
        for expected in shown.split("\n"):
            shown_lines += bool(expected.strip())
            assert expected.strip() in told, (command, expected, told)
        rests += command == "motes call sofa.rest"
    assert invite and shown_lines >= 20 and rests >= 2


def rests_accounted_for(machines: dict[str, RunningCluster]) -> tuple[int, ...]:
    """Calls of `sofa` on the laptop, as the server and as the laptop itself has them; what does not hold fails."""
    told = [machines[name].json("usage", "--app", "sofa", "--host", "laptop") for name in ("server", "laptop")]
    return tuple(sum(each["calls"] for each in rows) for rows in told)
