"""What the supervisor's control socket asks of it, without a process."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any, cast

from motes.home import Home
from motes.supervisor import control
from motes.supervisor.service import Supervisor


class Deaf:
    """A host that takes orders, and never answers."""

    name, pid, told, wanted, ready = "agent-a", 1, None, True, True

    def __init__(self) -> None:
        self.orders: list[dict[str, Any]] = []

    def order(self, words: dict[str, Any]) -> bool:
        self.orders.append(words)
        return True

    def see_to(self, now: float, *, restart: bool) -> None:
        pass

    def pause_s(self, now: float, poll_s: float) -> float:
        return 0.0


def test_an_answer_that_never_comes_is_waited_for_only_as_long_as_who_asked_is_there(tmp_path: Path) -> None:
    home = Home(tmp_path)
    home.create()
    home.write_json(home.hosts_file, {"a": {}})
    supervisor, host = Supervisor(home, "", {}), Deaf()
    supervisor.children["agent-a"] = cast(Any, host)
    supervisor.socket = control.ControlSocket(home, supervisor.selector, supervisor._answer)
    with socket.socket(socket.AF_UNIX) as asker, control._short_path(home.supervisor_socket) as path:
        asker.connect(path)
        asker.sendall(json.dumps({"do": "lend", "name": "a"}).encode())
        while not host.orders:
            supervisor._turn()
        supervisor._turn()
        assert len(supervisor.waiting) == 1
    supervisor._turn()
    assert not supervisor.waiting
    supervisor.socket.remove()
