"""Network namespaces: machines that share a kernel and no network. Needs root and iproute2."""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

TIMEOUT_S = 30.0
_NEW_NETWORK = 0x40000000


def why_not() -> str:
    """Why no machines of this kind can be made here; empty where they can."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    if shutil.which("ip") is None:
        return "network namespaces need iproute2"
    return "" if Path("/dev/net/tun").exists() else "a cable needs /dev/net/tun"


def ip(*words: str) -> None:
    """A command of iproute2, which must succeed."""
    done = subprocess.run(["ip", *words], capture_output=True, text=True, timeout=TIMEOUT_S)
    if done.returncode != 0:
        raise RuntimeError(f"ip {' '.join(words)}: {done.stderr.strip()}")


def make(name: str) -> str:
    """A namespace with nothing but a loopback."""
    ip("netns", "add", name)
    ip("-n", name, "link", "set", "lo", "up")
    return name


def delete(name: str) -> None:
    ip("netns", "delete", name)


@contextlib.contextmanager
def entered(name: str) -> Iterator[None]:
    """This thread, and whatever it starts or connects meanwhile, is in that namespace."""
    libc = ctypes.CDLL(None, use_errno=True)
    with open("/proc/thread-self/ns/net") as own, open(f"/run/netns/{name}") as other:
        _check(libc.setns(other.fileno(), _NEW_NETWORK))
        try:
            yield
        finally:
            _check(libc.setns(own.fileno(), _NEW_NETWORK))


def _check(result: int) -> None:
    if result != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
