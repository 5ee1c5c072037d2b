"""Commands that change hosts.json at the same time: what one of them says, no other takes back."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from motes.cli import host, lend
from motes.errors import NotFound, Unavailable
from motes.home import Home
from motes.supervisor import control, launch

AT_ONCE = 4
EACH = 25
MANY_CHANGES = f"""
import sys
from motes.home import Home
for number in range({EACH}):
    with Home(sys.argv[1]).changing_offers() as offers:
        offers[f"{{sys.argv[2]}}-{{number}}"] = {{}}
"""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    """With the hosts a and b, of a cluster that a test plays."""
    monkeypatch.setenv("MOTES_HOME", str(tmp_path))
    home = Home(tmp_path)
    home.create()
    home.write_json(home.hosts_file, {"a": {"cpus": 1.0}, "b": {"cpus": 1.0}})
    return home


def run(command: Any, *words: str) -> None:
    CliRunner().invoke(command, words, catch_exceptions=False, standalone_mode=False)


def plays(monkeypatch: pytest.MonkeyPatch, answer: Any) -> None:
    monkeypatch.setattr(launch, "running", lambda home: {"pid": 1})
    monkeypatch.setattr(control, "ask", answer)


def test_what_the_owner_says_while_another_host_ends_counts(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    def ask(home: Home, do: str, timeout_s: float, name: str) -> dict[str, Any]:
        if do == "stop-host":
            run(lend.command, "--host", "a", "cpus=0.5")
        return {}

    plays(monkeypatch, ask)
    run(host.stop, "--name", "b")
    assert list(home.offers()) == ["a"] and home.offers()["a"]["cpus"] == 0.5


def test_a_host_that_cannot_be_started_takes_back_only_its_own_entry(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ask(home: Home, do: str, timeout_s: float, name: str) -> dict[str, Any]:
        if do == "start-host":
            run(lend.command, "--host", "a", "cpus=0.5")
            raise Unavailable("it ended")
        return {}

    plays(monkeypatch, ask)
    home.write_json(home.cluster_file, {"http": "", "nats": "", "home": "", "pid": 1})
    monkeypatch.setattr(host, "_claim", lambda home, name: None)
    for name, left in (("c", ["a", "b"]), ("b", ["a", "b"])):
        with pytest.raises(Unavailable):
            run(host.start, "--name", name)
        assert sorted(home.offers()) == left and home.offers()["a"]["cpus"] == 0.5


def test_lend_brings_no_host_back_that_is_stopped_meanwhile(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    read = Home.offers

    def read_and_stop(self: Home) -> dict[str, dict[str, Any]]:
        found = read(self)
        monkeypatch.setattr(Home, "offers", read)
        home.write_json(home.hosts_file, {"a": found["a"]})
        return found

    monkeypatch.setattr(Home, "offers", read_and_stop)
    with pytest.raises(NotFound):
        run(lend.command, "--host", "b", "cpus=0.5")
    assert list(home.offers()) == ["a"]


def test_of_many_changes_at_once_none_is_lost(home: Home) -> None:
    command = [sys.executable, "-c", MANY_CHANGES, str(home.path)]
    started = [subprocess.Popen([*command, f"h{number}"]) for number in range(AT_ONCE)]
    assert [each.wait(60) for each in started] == [0] * AT_ONCE
    assert len(home.offers()) == 2 + AT_ONCE * EACH
    json.loads(home.hosts_file.read_text())
