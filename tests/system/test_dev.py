"""`motes dev`: a private cluster in the foreground that leaves nothing behind."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from system.running import DEADLINE_S, MOTES, family, is_alive, wait_until

APP = """
from motes import function

@function
def version() -> int:
    print("asked for {number}")
    return {number}
"""


class Dev:
    """A running `motes dev`; its temporary home lies in `folder`."""

    def __init__(self, folder: Path, *words: str) -> None:
        self.folder = folder / "tmp"
        self.folder.mkdir()
        self._output = folder / "output"
        environment = {**os.environ, "TMPDIR": str(self.folder)}
        with self._output.open("wb") as file:
            self.process = subprocess.Popen(
                [MOTES, "dev", *words], env=environment, stdin=subprocess.DEVNULL, stdout=file, stderr=file
            )

    def output(self) -> str:
        return self._output.read_text()

    def url(self) -> str:
        """Where it serves, as soon as it says so."""
        wait_until(lambda: re.search(r"motes dev: (\S+)", self.output()) or self.process.poll() is not None)
        found = re.search(r"motes dev: (\S+)", self.output())
        assert found is not None, self.output()
        return found[1]

    def children(self) -> list[int]:
        """Every process below it."""
        return family(self.process.pid)[1:]


@pytest.fixture
def dev(tmp_path: Path) -> Iterator[Callable[..., Dev]]:
    started: list[Dev] = []

    def start(*words: str) -> Dev:
        folder = tmp_path / f"dev-{len(started)}"
        folder.mkdir()
        started.append(Dev(folder, *words))
        return started[-1]

    yield start
    for each in started:
        each.process.kill()
        each.process.wait()


def serving(dev: Callable[..., Dev], app: Path) -> Dev:
    """What serves version 1 of that app."""
    app.write_text(APP.format(number=1))
    running = dev(str(app))
    wait_until(lambda: version(running.url()) == "1")
    return running


def version(url: str) -> str:
    """What the function answers now, or why it does not."""
    try:
        with urllib.request.urlopen(f"{url}/app/version", b"", timeout=DEADLINE_S) as answer:
            return str(answer.read().decode())
    except urllib.error.URLError as error:
        return str(error)


def test_it_serves_follows_changes_survives_errors_and_shows_logs(dev: Callable[..., Dev], tmp_path: Path) -> None:
    app = tmp_path / "app.py"
    running = serving(dev, app)
    url = running.url()
    assert f"curl -X POST {url}/app/version" in running.output()
    wait_until(lambda: "asked for 1" in running.output())
    app.write_text(APP.format(number=2) + "# longer\n")
    wait_until(lambda: version(url) == "2")
    app.write_text("1 / 0\n")
    wait_until(lambda: "ZeroDivisionError" in running.output())
    assert version(url) == "2"
    app.write_text(APP.format(number=3) + "# mended\n")
    wait_until(lambda: version(url) == "3")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_end_leaves_no_process_and_no_file(dev: Callable[..., Dev], tmp_path: Path, number: signal.Signals) -> None:
    running = serving(dev, tmp_path / "app.py")
    children = running.children()
    assert len(children) >= 5
    running.process.send_signal(number)
    assert running.process.wait(DEADLINE_S) == 0
    assert not [pid for pid in children if is_alive(pid)]
    assert list(running.folder.iterdir()) == []


def test_a_kill_leaves_no_process(dev: Callable[..., Dev], tmp_path: Path) -> None:
    running = serving(dev, tmp_path / "app.py")
    children = running.children()
    running.process.kill()
    wait_until(lambda: not [pid for pid in children if is_alive(pid)])


def test_it_takes_the_next_free_port(dev: Callable[..., Dev], tmp_path: Path) -> None:
    app = tmp_path / "app.py"
    app.write_text(APP.format(number=1))
    first, second = dev(str(app)), dev(str(app))
    ports = {int(each.url().rpartition(":")[2]) for each in (first, second)}
    assert len(ports) == 2
    assert all(8080 <= port < 8180 for port in ports)
    for each in (first, second):
        wait_until(lambda each=each: version(each.url()) == "1")  # type: ignore[misc]


def test_what_cannot_be_packed_is_said_before_anything_starts(dev: Callable[..., Dev], tmp_path: Path) -> None:
    running = dev(str(tmp_path / "nothing.py"))
    assert running.process.wait(DEADLINE_S) == 6
    assert running.output().startswith("motes: cannot read ")
    assert list(running.folder.iterdir()) == []


def test_a_folder_with_a_daemon_runs_too(dev: Callable[..., Dev], tmp_path: Path) -> None:
    site = tmp_path / "site"
    site.mkdir()
    (site / "index.html").write_text("from a space")
    command = "python -m http.server 8000 --bind 127.0.0.1"
    running = dev(str(site), "--cmd", command, "--port", "8000")
    port = int(running.url().rpartition(":")[2])
    wait_until(lambda: f"curl http://site.localhost:{port}/" in running.output())

    def page() -> bytes:
        with socket.create_connection(("127.0.0.1", port), DEADLINE_S) as connection:
            connection.sendall(f"GET / HTTP/1.1\r\nHost: site.localhost:{port}\r\nConnection: close\r\n\r\n".encode())
            return connection.makefile("rb").read()

    wait_until(lambda: page().endswith(b"from a space"))
