"""The real nats-server, for every part that speaks to it."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from motes.bus import server
from motes.home import Home
from motes.supervisor import founding

START_TIMEOUT_S = 20.0

# A shell starts what runs in the background with SIGINT ignored, and so would all that tests start and interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)


class NatsServer:
    """A nats-server with the accounts of `home`, which may be killed and started again."""

    def __init__(self, home: Home) -> None:
        self.home = home
        self.port = server.choose_port(home)
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"nats://127.0.0.1:{self.port}"

    def start(self) -> None:
        with self.home.log("nats-server").open("ab") as log:
            self.process = subprocess.Popen(
                server.command(self.home, self.port), env={**os.environ, **server.ENVIRONMENT}, stdout=log, stderr=log
            )
        deadline = time.monotonic() + START_TIMEOUT_S
        while not server.ports_file(self.home, self.process.pid).exists():
            assert self.process.poll() is None and time.monotonic() < deadline, self.home.log("nats-server").read_text()
            time.sleep(0.002)

    def stop(self, number: signal.Signals = signal.SIGTERM) -> None:
        if self.process is not None:
            self.process.send_signal(number)
            self.process.wait(START_TIMEOUT_S)
            self.process = None

    def signal(self, number: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(number)


@pytest.fixture(scope="session")
def nats_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServer]:
    """One server for the whole run, with the hosts `local` and `other`."""
    yield from _running(tmp_path_factory.mktemp("cluster"))


@pytest.fixture
def own_nats_server(tmp_path: Path) -> Iterator[NatsServer]:
    """A server for one test, which may do to it what it likes."""
    yield from _running(tmp_path)


def _running(folder: Path) -> Iterator[NatsServer]:
    home = Home(folder)
    founding.found(home)
    founding.admit_host(home, "other")
    running = NatsServer(home)
    running.start()
    yield running
    running.stop(signal.SIGKILL)
