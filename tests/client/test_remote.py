"""One connection for a whole program, and for each that it forks another."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from motes.client import remote

NAME: Any = SimpleNamespace(
    name="f",
    body=lambda args, kwargs: b"",
    app_names=lambda: ["app"],
    result_of=lambda data: int(data),
)


class Cluster:
    """It answers with the process that it was opened in."""

    def __init__(self) -> None:
        self._opened_in = os.getpid()

    @classmethod
    async def open(cls, home: object) -> Cluster:
        return cls()

    async def call_bytes(self, app: str, workload: str, body: bytes) -> bytes:
        await asyncio.sleep(0)
        return b"%d" % self._opened_in

    async def close(self) -> None:
        pass


@pytest.fixture(autouse=True)
def program(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(remote, "Cluster", Cluster)
    monkeypatch.setattr(remote, "_running_home", lambda: None)
    yield
    remote.close()


def test_a_program_that_was_forked_opens_its_own_connection() -> None:
    """As by multiprocessing: the thread that served the connection is not there any more."""
    assert remote.call(NAME, (), {}) == remote.call(NAME, (), {}) == os.getpid()
    child = os.fork()
    if not child:
        signal.alarm(20)
        try:
            is_own = remote.call(NAME, (), {}) == os.getpid()
            remote.close()
        finally:
            os._exit(0 if is_own else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert remote.call(NAME, (), {}) == os.getpid()
