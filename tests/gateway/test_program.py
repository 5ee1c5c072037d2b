"""`python -m motes.gateway` as the supervisor starts it, with no cluster to connect to."""

from __future__ import annotations

import contextlib
import http.client
import os
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from motes.home import Home

DEADLINE_S = 30.0


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home(tmp_path / "home")
    home.create()
    return home


@contextlib.contextmanager
def gateway(home: Home, address: str, *through: str) -> Iterator[subprocess.Popen[str]]:
    command = [*through, sys.executable, "-m", "motes.gateway", "--home", str(home.path), "--http", address]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()
            process.communicate()


def wait_for_port(home: Home) -> int:
    """The port that the gateway wrote down and answers on."""
    deadline = time.monotonic() + DEADLINE_S
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError, ValueError):
            port = int((home.run / "http_port").read_text())
            if get(port, "/healthz") == 200:
                return port
        time.sleep(0.02)
    raise AssertionError("the gateway does not answer")


def get(port: int, path: str) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=DEADLINE_S)
    try:
        connection.request("GET", path)
        return connection.getresponse().status
    finally:
        connection.close()


def test_it_listens_before_there_is_a_cluster_and_says_that_it_is_not_ready(home: Home) -> None:
    with gateway(home, "127.0.0.1:0"):
        port = wait_for_port(home)
        assert get(port, "/readyz") == 503
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=DEADLINE_S)
        connection.request("POST", "/hello/greet", b"1")
        response = connection.getresponse()
        assert (response.status, response.getheader("retry-after")) == (503, "1")
        assert b"the cluster is starting" in response.read()
        connection.close()


def test_it_may_open_as_many_files_as_this_machine_lets_it(home: Home) -> None:
    """A connection to a daemon on another machine takes three."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with gateway(home, "127.0.0.1:0", "prlimit", f"--nofile=256:{hard}") as process:
        wait_for_port(home)
        assert resource.prlimit(process.pid, resource.RLIMIT_NOFILE) == (hard, hard)


def test_any_free_port_stays_the_same_after_a_restart(home: Home) -> None:
    ports = []
    for _ in range(2):
        with gateway(home, "127.0.0.1:0") as process:
            ports.append(wait_for_port(home))
            process.kill()
            process.wait(DEADLINE_S)
    assert ports[0] == ports[1]


def test_a_port_that_was_taken_meanwhile_is_replaced_by_another(home: Home) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = other.getsockname()[1]
        (home.run / "http_port").write_text(f"{taken}\n")
        with gateway(home, "127.0.0.1:0"):
            deadline = time.monotonic() + DEADLINE_S
            while int((home.run / "http_port").read_text()) == taken:
                assert time.monotonic() < deadline
                time.sleep(0.02)
            assert wait_for_port(home) != taken


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_with_clients_connected(home: Home, number: signal.Signals) -> None:
    with gateway(home, "127.0.0.1:0") as process:
        port = wait_for_port(home)
        with socket.create_connection(("127.0.0.1", port)) as silent, socket.create_connection(("127.0.0.1", port)):
            silent.sendall(b"GET / HT")
            os.kill(process.pid, number)
            assert process.wait(DEADLINE_S) == 0


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("0.0.0.0:0", "listens on a loopback address only"),
        ("192.0.2.1:0", "listens on a loopback address only"),
        ("example.org:0", "listens on a loopback address only"),
        ("8080", "is no address"),
        ("127.0.0.1:99999", "is no address"),
    ],
)
def test_an_address_that_cannot_be_is_one_clear_line(home: Home, address: str, message: str) -> None:
    with gateway(home, address) as process:
        output, errors = process.communicate(timeout=DEADLINE_S)
        assert process.returncode not in (0, 1)
        assert message in errors
        assert (output, errors.count("\n")) == ("", 1)


def test_a_port_in_use_is_one_clear_line(home: Home) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        address = f"127.0.0.1:{other.getsockname()[1]}"
        with gateway(home, address) as process:
            _, errors = process.communicate(timeout=DEADLINE_S)
            assert process.returncode == 8
            assert f"cannot listen on {address}: Address already in use" in errors
            assert errors.count("\n") == 1
