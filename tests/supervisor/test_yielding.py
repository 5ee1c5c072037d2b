"""What the machine that a keeper leaves says of that, where its disk fails."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast
from unittest.mock import MagicMock

import pytest

from motes import home as home_module
from motes.home import Home
from motes.supervisor.control import Asker
from motes.supervisor.service import Supervisor
from motes.supervisor.yielding import FORWARD, Yielding


@pytest.mark.parametrize("is_decided", [True, False])
def test_whoever_hands_over_hears_where_the_keeper_is_also_when_the_disk_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_decided: bool
) -> None:
    home = Home(tmp_path)
    supervisor = MagicMock(home=home, children={"controller": MagicMock()}, started=True)
    supervisor.end = lambda child, tell: (supervisor.children.clear(), tell({}))
    told: list[dict[str, Any]] = []
    asker = cast(Asker, MagicMock(side_effect=told.append))

    def fail(path: Path) -> None:
        if home.keeper_file.exists() or not is_decided:
            raise OSError(5, "Input/output error")

    monkeypatch.setattr(home_module, "sync", fail)
    yielding = Yielding(cast(Supervisor, supervisor))
    yielding.verbs["freeze"]({}, asker)
    yielding.verbs["hand-over"]({"facts": {"moved": {"address": "b:1"}, "keeper": {"addresses": ["b:1"]}}}, asker)
    yielding.see_to()
    assert told[0] == {"frozen": True} and home.keeper_file.exists() == is_decided
    if is_decided:
        assert told[1] == {"moved": True}
        supervisor.start_program.assert_called_once_with(FORWARD, FORWARD)
    else:
        assert "Input/output error" in told[1]["error"] and "it stays here" in told[1]["error"]
        supervisor.start_nats.assert_called_once_with()
