"""Ports for servers of tests that are told where to listen."""

from __future__ import annotations

import random
import socket

_BELOW_THE_KERNELS_OWN = range(15_000, 32_000)


def free_port() -> int:
    """One that nobody listens at, and that the kernel gives no outgoing connection before the server is there."""
    for port in random.sample(_BELOW_THE_KERNELS_OWN, 100):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise AssertionError("no free port found")
