"""The real nats-server, for every part that speaks to it."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from motes.bus import server, tls
from motes.home import Home
from motes.supervisor import founding
from ports import free_port

START_TIMEOUT_S = 20.0

# A shell starts what runs in the background with SIGINT ignored, and so would all that tests start and interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)


LONGEST = "system/test_long_cuts.py"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The file that takes minutes comes first, for whoever gets it last is waited for by all others."""
    items.sort(key=lambda item: LONGEST not in item.nodeid)


class NatsServer:
    """A nats-server with the accounts of `home`, which may be killed and started again."""

    def __init__(self, home: Home) -> None:
        self.home = home
        self.port = server.choose_port(home)
        self.process: subprocess.Popen[bytes] | None = None

    certificate = b""

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


class WebNatsServer(NatsServer):
    """One that is reached over WebSocket."""

    def __init__(self, home: Home) -> None:
        founding.listen(home, "127.0.0.1", free_port())
        home.set_listen(web={"host": "127.0.0.1", "port": free_port()})
        super().__init__(home)
        self.certificate = tls.fingerprint_of(home.tls_certificate)

    @property
    def url(self) -> str:
        listen = self.home.listen_web()
        assert listen is not None
        return f"wss://127.0.0.1:{listen.port}"


@pytest.fixture(scope="session")
def nats_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServer]:
    """One server for the whole run, with the hosts `local` and `other`."""
    yield from running_in(tmp_path_factory.mktemp("cluster"))


@pytest.fixture
def own_nats_server(tmp_path: Path) -> Iterator[NatsServer]:
    """A server for one test, which may do to it what it likes."""
    yield from running_in(tmp_path)


@pytest.fixture
def other_nats_server(tmp_path: Path) -> Iterator[NatsServer]:
    """One more, of another cluster."""
    yield from running_in(tmp_path / "other")


def running_in(folder: Path, kind: type[NatsServer] = NatsServer) -> Iterator[NatsServer]:
    """A server in a new home, until the test is over."""
    home = Home(folder)
    founding.found(home)
    founding.admit_host(home, "other")
    running = kind(home)
    running.start()
    yield running
    running.stop(signal.SIGKILL)
