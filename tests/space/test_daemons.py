"""Daemons in real spaces: connections, output, ends."""

from __future__ import annotations

import asyncio
import os
import select
import signal
import socket
import threading
from typing import Any
from unittest import mock

import pytest
from tests.space.trials import Lab, trial

from motes.errors import LoadFailed, SpaceFailed
from motes.model.instance import EndReason
from motes.space import daemon_space
from motes.space.daemon_space import DaemonSpace
from motes.space.view import View

ECHO = """
    import os, signal, socketserver, sys, threading, time

    class Echo(socketserver.StreamRequestHandler):
        def handle(self):
            for line in self.rfile:
                self.wfile.write(line)

    def stop(number, frame):
        print("stopping")
        sys.exit(5)

    signal.signal(signal.SIGTERM, stop)
    print("in", os.getcwd(), "as", sys.executable)
    socketserver.ThreadingTCPServer.allow_reuse_address = True
    socketserver.ThreadingTCPServer.daemon_threads = True
    server = socketserver.ThreadingTCPServer(("127.0.0.1", 7000), Echo)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    while True:
        time.sleep(0.1)  # signal.pause() would miss a signal that comes just before it.
"""


class Told:
    """What a daemon's space told."""

    def __init__(self) -> None:
        self.printed = b""
        self.ends: list[tuple[EndReason, str]] = []
        self.over = asyncio.Event()

    def output(self, number: int, data: bytes) -> None:
        assert number == 0 and not self.ends
        self.printed += data

    def closed(self, reason: EndReason, detail: str) -> None:
        self.ends.append((reason, detail))
        self.over.set()


async def start(lab: Lab, source: str, *command: str, port: int | None = 7000, **view: Any) -> tuple[DaemonSpace, Told]:
    told = Told()
    settings = {"system": True, "processes": 32, "memory_bytes": 2**28, **view}
    code = lab.app({"server.py": source})
    space = await DaemonSpace.open(View(code=code, **settings), command or ("python", "server.py"), port, told)
    return space, told


async def echo(space: DaemonSpace, text: bytes) -> bytes:
    loop = asyncio.get_running_loop()
    connection = await space.connect()
    with connection:
        await loop.sock_sendall(connection, text)
        return await loop.sock_recv(connection, 65536)


@trial
async def test_a_daemon_serves_connections_from_outside(lab: Lab) -> None:
    # A thread for each of the 50: on a busy machine they live at the same time.
    space, told = await start(lab, ECHO, processes=64)
    await space.wait_until_listening(20)
    for n in range(40):
        assert await echo(space, b"line %d\n" % n) == b"line %d\n" % n
    replies = await asyncio.gather(*(echo(space, b"at once %d\n" % n) for n in range(50)))
    assert replies == [b"at once %d\n" % n for n in range(50)]
    assert told.printed.startswith(b"in /app as /python/bin/python")
    used = space.usage()
    assert used.cpu_s > 0 and 2**20 < used.memory_bytes < 2**27 and used.threads >= 2
    await space.close(5)


DEAF = """
    import socket, time

    server = socket.create_server(("", 7000), backlog=10)
    other = socket.create_server(("127.0.0.1", 7001))
    others = socket.create_connection(("127.0.0.1", 7001)), other.accept()
    taken = [server.accept() for _ in range({takes})]
    time.sleep(99)
"""


@trial
async def test_it_is_seen_whether_anybody_is_connected(lab: Lab) -> None:
    # Also to one that takes connections and never lets them go, and to one that does not even take them.
    for takes in (0, 2):
        source = DEAF.format(takes=takes)
        space, _ = await start(lab, source)
        await space.wait_until_listening(20)
        assert not await space.has_clients()
        with await space.connect() as connection:
            assert await space.has_clients()
            connection.shutdown(socket.SHUT_WR)
            assert await space.has_clients()
        assert not await space.has_clients()
        with await space.connect():
            await space.close(0)
            assert not await space.has_clients()


@trial
async def test_others_go_on_while_the_kernel_is_asked_who_is_connected(lab: Lab) -> None:
    space, _ = await start(lab, DEAF.format(takes=0))
    others_went_on = threading.Event()
    with mock.patch.object(daemon_space, "has_connections", lambda pid, port: others_went_on.wait(10)):
        looking = asyncio.create_task(space.has_clients())
        await asyncio.sleep(0.01)
        others_went_on.set()
        assert await looking


@trial
async def test_a_daemon_may_say_goodbye(lab: Lab) -> None:
    space, told = await start(lab, ECHO)
    await space.wait_until_listening(20)
    await space.close(10)
    assert told.ends == [(EndReason.EXITED, "exit code 5")], told.ends
    assert told.printed.endswith(b"stopping\n"), told.printed
    with pytest.raises(SpaceFailed):
        await space.connect()


@trial
async def test_one_that_ignores_the_signal_is_killed(lab: Lab) -> None:
    space, told = await start(
        lab, "import signal, time\nsignal.signal(15, signal.SIG_IGN)\nprint('up')\ntime.sleep(99)\n"
    )
    while not told.printed:  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    pid = space.pid
    await space.close(0.2)
    assert told.ends[0][0] == EndReason.CRASHED and not os.path.exists(f"/proc/{pid}")


@trial
async def test_one_that_has_time_to_end_can_be_ended_at_once_meanwhile(lab: Lab) -> None:
    space, told = await start(
        lab, "import signal, time\nsignal.signal(15, signal.SIG_IGN)\nprint('up')\ntime.sleep(99)\n"
    )
    while not told.printed:  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    pid, closing = space.pid, asyncio.create_task(space.close(1000.0))
    await asyncio.sleep(0)
    await asyncio.wait_for(asyncio.gather(space.close(0), closing), 20)
    assert len(told.ends) == 1 and not os.path.exists(f"/proc/{pid}")


@trial
async def test_a_daemon_that_ends_by_itself_is_told_once(lab: Lab) -> None:
    for source, expected in {
        "print('bye')": (EndReason.RETURNED, "exit code 0"),
        "raise SystemExit(3)": (EndReason.EXITED, "exit code 3"),
        "import os; os.abort()": (EndReason.CRASHED, "signal SIGABRT"),
    }.items():
        space, told = await start(lab, source, port=None)
        await told.over.wait()
        await space.close(0)
        assert told.ends == [expected]


@trial
async def test_a_daemon_that_was_killed_is_no_broken_protocol_though_its_helper_ends_first(lab: Lab) -> None:
    space, told = await start(lab, ECHO)
    await space.wait_until_listening(20)
    os.kill(space.pid, signal.SIGKILL)
    # Both have ended before the loop looks, and it looks at the channel first.
    hung_up = select.poll()
    hung_up.register(space._control._socket, 0)
    assert hung_up.poll(20_000)
    space._control.read()
    await told.over.wait()
    await space.close(0)
    assert told.ends == [(EndReason.CRASHED, "signal SIGKILL")]


@trial
async def test_one_that_is_closed_is_no_broken_protocol_though_its_channel_ends_first(lab: Lab) -> None:
    space, told = await start(lab, ECHO)
    await space.wait_until_listening(20)
    closing = asyncio.create_task(space.close(0))
    await asyncio.sleep(0)
    # All has ended before the loop looks again, and it looks at the channel first.
    hung_up = select.poll()
    hung_up.register(space._control._socket, 0)
    assert hung_up.poll(20_000)
    space._control.read()
    await closing
    assert told.ends == [(EndReason.CRASHED, "signal SIGKILL")]


@trial
async def test_a_command_that_does_not_exist_is_said(lab: Lab) -> None:
    space, told = await start(lab, "", "no-such-program", port=None)
    await told.over.wait()
    assert told.ends == [(EndReason.EXITED, "exit code 127")] and b"no-such-program" in told.printed
    await space.close(0)


@trial
async def test_one_that_never_listens_or_ends_before_is_a_load_failure(lab: Lab) -> None:
    space, _ = await start(lab, "import time\nprint('hello')\ntime.sleep(99)")
    with pytest.raises(LoadFailed, match="did not listen on port 7000") as caught:
        await space.wait_until_listening(0.5)
    assert caught.value.detail["log"] == "hello\n"
    await space.close(0)
    space, _ = await start(lab, "print('no')")
    with pytest.raises(LoadFailed, match="ended before it listened"):
        await space.wait_until_listening(20)
    await space.close(0)


@trial
async def test_a_shell_command_of_several_processes_runs(lab: Lab) -> None:
    space, told = await start(lab, "", "sh", "-c", "echo one | cat; python3 -c 'print(2)'; ls /app", port=None)
    await told.over.wait()
    assert told.printed.split() == [b"one", b"2", b"server.py"]
    await space.close(0)


@trial
async def test_a_space_that_cannot_be_made_says_why(lab: Lab) -> None:
    with pytest.raises(SpaceFailed, match="No such file"):
        await DaemonSpace.open(View(code=lab.folder / "gone"), ["true"], None, Told())
