"""What the supervisor's control socket asks of it."""

from __future__ import annotations

import json
import socket
import sys
from pathlib import Path
from typing import Any, cast

import pytest

from motes.home import Home
from motes.supervisor import control, service
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


def test_a_host_that_never_gets_ready_is_given_up_with_words_and_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "START_TIMEOUT_S", 0.1)
    home = Home(tmp_path)
    home.create()
    supervisor = Supervisor(home, "", {"agent": [sys.executable, "-S", "-c", "import time; time.sleep(60)"]})
    supervisor.started = True
    told: list[dict[str, Any]] = []
    supervisor._start_host("b", told.append)
    pid = supervisor.children["agent-b"].pid
    assert pid is not None
    for _ in range(100):
        supervisor._turn()
        if not supervisor.waiting:
            break
    assert not supervisor.waiting and not supervisor.children and not Path(f"/proc/{pid}").exists()
    (answer,) = told
    for words in ("host 'b'", "0.1 s", str(home.log("agent-b")), "once more"):
        assert words in answer["error"]
