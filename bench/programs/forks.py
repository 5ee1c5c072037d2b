"""The peers of an instance's start: os.fork from a warm parent, and a new bare Python. No walls, no cluster."""

from __future__ import annotations

import gc
import os
import signal
import socket
import subprocess
import sys
import time

# A warm parent has loaded what a zygote has.
import motes.space.guest.instance
import motes.space.guest.load  # noqa: F401
from bench.processes import private_mib
from bench.programs.serving import serve

QUESTION = b'"' + b"x" * 98 + b'"'
ECHO = "import os\nwhile data := os.read(0, 65536): os.write(1, data)"


class Child:
    """A fork that echoes."""

    def __init__(self) -> None:
        self.channel, theirs = socket.socketpair()
        self.pid = os.fork()
        if self.pid == 0:
            self.channel.close()
            while data := os.read(theirs.fileno(), 65536):
                os.write(theirs.fileno(), data)
            os._exit(0)
        theirs.close()

    def end(self) -> None:
        self.channel.close()
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)


def round_trips(count: int) -> list[float]:
    """Seconds of each of `count` echoes over a unix socket, by one fork."""
    child, taken = Child(), []
    for _ in range(count):
        began = time.perf_counter()
        child.channel.send(QUESTION)
        child.channel.recv(65536)
        taken.append(time.perf_counter() - began)
    child.end()
    return taken


def first_replies(count: int) -> list[float]:
    """Seconds from before the fork to the first reply, `count` times, one after the other."""
    taken = []
    for _ in range(count):
        began = time.perf_counter()
        child = Child()
        child.channel.send(QUESTION)
        child.channel.recv(65536)
        taken.append(time.perf_counter() - began)
        child.end()
    return taken


def burst(count: int) -> float:
    """Seconds until `count` forks at once have all replied."""
    began = time.perf_counter()
    children = []
    for _ in range(count):
        children.append(Child())
        children[-1].channel.send(QUESTION)
    for child in children:
        child.channel.recv(65536)
    taken = time.perf_counter() - began
    for child in children:
        child.end()
    return taken


def memory(count: int) -> float:
    """Private MiB of each of `count` idle forks that have replied once, on average."""
    children = [Child() for _ in range(count)]
    for child in children:
        child.channel.send(QUESTION)
        child.channel.recv(65536)
    mean = sum(private_mib(child.pid) for child in children) / count
    for child in children:
        child.end()
    return mean


def python_starts(count: int) -> list[float]:
    """Seconds from before the start of `python -I -S` to its first reply, `count` times."""
    taken = []
    for _ in range(count):
        began = time.perf_counter()
        with subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", ECHO], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0
        ) as process:
            assert process.stdin is not None and process.stdout is not None
            process.stdin.write(QUESTION)
            process.stdout.read(len(QUESTION))
            taken.append(time.perf_counter() - began)
            process.stdin.close()
    return taken


if __name__ == "__main__":
    gc.collect()
    gc.freeze()
    serve({each.__name__: each for each in (first_replies, round_trips, burst, memory, python_starts)})
