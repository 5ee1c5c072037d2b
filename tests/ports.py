"""Ports for servers of tests that are told where to listen."""

from __future__ import annotations

import contextlib
import os
import random
import socket

_WORKER = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
_WORKERS = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
_BELOW_THE_KERNELS_OWN = range(15_000 + _WORKER, 32_000, _WORKERS)
_untried = random.sample(_BELOW_THE_KERNELS_OWN, len(_BELOW_THE_KERNELS_OWN))


def free_port() -> int:
    """One that nobody listens at, and that nobody is given before the server is there.

    Neither is it an outgoing connection's, nor does this return it again, here or in another worker of this run.
    """
    while True:
        port = _untried.pop()
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
