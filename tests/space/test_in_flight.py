"""Descriptors on their way through sockets: counted for a user, and against the limit of whoever sends one more."""

from __future__ import annotations

import os
import resource
import subprocess
import sys

import pytest

from motes.space.guest.harden import most_zygote_files

HARD = 2000
SENDS_ALL_IT_CAN = """
import os, resource, socket, sys

limit, user = map(int, sys.argv[1:])
if user:
    os.setuid(user)
resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
pairs, sent = [], 0
try:
    while sent < 10_000:
        try:
            socket.send_fds(pairs[-1][0], [b"x"], [0] * 200)
            sent += 200
        except (IndexError, BlockingIOError):
            pairs.append(socket.socketpair())
            pairs[-1][0].setblocking(False)
except OSError:
    pass
print(sent, flush=True)
sys.stdin.read()
"""
NOBODY = 54_321
"""A user of whom no other process is, where this runs as root: root is not counted."""


def sending(limit: int) -> tuple[subprocess.Popen[str], int]:
    """A process that keeps as many on their way as it may, and how many those are."""
    user = NOBODY if os.geteuid() == 0 else 0
    words = [sys.executable, "-I", "-S", "-c", SENDS_ALL_IT_CAN, str(limit), str(user)]
    made = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert made.stdout is not None
    return made, int(made.stdout.readline())


def test_what_module_code_sends_leaves_the_agent_of_its_host_some_to_send() -> None:
    guest, sent = sending(most_zygote_files(HARD))
    agent, more = sending(HARD)
    equal, none = sending(most_zygote_files(HARD))
    try:
        assert sent > 0 and more >= HARD // 4
        assert none == 0, "and one that has no more than the guest has none: that is what the limit is for"
    finally:
        for each in (guest, agent, equal):
            each.communicate("")


@pytest.mark.parametrize(("hard", "most"), [(resource.RLIM_INFINITY, 16384), (2**20, 16384), (4096, 2048), (256, 128)])
def test_a_zygote_may_have_half_of_what_its_host_may(hard: int, most: int) -> None:
    assert most_zygote_files(hard) == most
