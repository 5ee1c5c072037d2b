"""The first process of a daemon's or a script's space: harden, then become the daemon, or run the script.

Stdlib only, and light: a daemon's space keeps one small helper of it, which makes sockets for the agent.
"""

from __future__ import annotations

import _socket
import binascii
import os
import resource
import signal
import sys
from collections.abc import Iterator
from types import ModuleType
from typing import NoReturn

from motes.space.guest import harden, kernel
from motes.space.guest.packets import Packets
from motes.space.guest.places import HERE
from motes.space.guest.wire import HELLO, LIMIT, MAKE, SOCKETS, SOCKETS_AT_ONCE

STACK_BYTES = 2 * 2**20
"""What a daemon's thread gets: stacks count against RLIMIT_DATA, with 8 MiB each."""
OWN_TASKS = 2
"""Bubblewrap's first process and the helper count against the limit on processes."""
THREADS_ALONE = 32
"""What a process has that may not fork."""
NOT_FOUND, NOT_EXECUTABLE = 127, 126

_DEVICES = ("null", "zero", "full", "random", "urandom")
_TERMINALS = ("tty", "ptmx")


class Order:
    """What to run and within which limits; words of the command line, in this order."""

    def __init__(self, words: list[str]) -> None:
        self.control = int(words[0])
        self.kind = words[1]
        self.serves = words[2] == "serves"
        self.filter = binascii.a2b_base64(words[3])
        self.memory_bytes, self.processes, self.open_files, self.file_bytes = map(int, words[4:8])
        self.command = words[8:]


def main(arguments: list[str]) -> None:
    """Harden and run what `arguments` say (see Order)."""
    kernel.be_as_idle_as_the_host()
    order = Order(arguments)
    packets = Packets(order.control)
    abi = kernel.landlock_abi()
    if order.serves:
        _start_helper(packets, abi)
    packets.hand_over(
        HELLO, b'{"landlock":%d}' % abi, [os.pidfd_open(os.getpid()), *map(harden.open_path, HERE.writable)]
    )
    _harden(order, abi)
    if order.kind == "script":
        _run_script(order.command, packets)
    else:
        _become(order.command)


def _harden(order: Order, abi: int) -> None:
    # 1. Landlock: only /tmp and /dev/shm are writable; no signals or traces beyond itself, so not to the helper either.
    kernel.forbid_new_privileges()
    kernel.restrict(abi, _rules(abi), tcp=not HERE.are_bare)
    # 2. Resource limits, hard. The stacks of its threads are allowed on top: they are mostly empty.
    alone = order.processes == 1
    tasks = THREADS_ALONE if alone else order.processes
    if not HERE.are_bare:
        # There all processes of the host's user would count, and the filter lets nobody fork.
        harden.limit(resource.RLIMIT_NPROC, tasks + OWN_TASKS)
    harden.limit(resource.RLIMIT_DATA, order.memory_bytes + tasks * STACK_BYTES)
    harden.limit(resource.RLIMIT_FSIZE, order.file_bytes)
    harden.limit(resource.RLIMIT_NOFILE, order.open_files)
    harden.limit(resource.RLIMIT_CORE, 0)
    _, hard = resource.getrlimit(resource.RLIMIT_STACK)
    resource.setrlimit(resource.RLIMIT_STACK, (STACK_BYTES, hard))
    # 3. The filter of the whole space stands already; a process that is alone may not fork, and a script not exec.
    if order.filter:
        kernel.install_filter(order.filter)


def _rules(abi: int) -> Iterator[tuple[int, int]]:
    rights = kernel.all_rights(abi)
    yield from harden.readable_rules()
    yield from harden.opened(HERE.writable, rights)
    yield from harden.opened((f"/dev/{name}" for name in _DEVICES), kernel.file_rights(rights))
    if HERE.are_bare:
        yield from harden.own_entry()
    else:
        yield from harden.opened((f"/dev/{name}" for name in _TERMINALS), kernel.file_rights(rights))
        yield from harden.opened(("/dev/pts",), rights)


def _become(command: list[str]) -> NoReturn:
    """Exec the daemon. It keeps this process's id, so signals for it need no relay."""
    try:
        os.execvp(command[0], command)
    except OSError as error:
        os.write(2, f"{command[0]}: {error.strerror}\n".encode())
        os._exit(NOT_FOUND if isinstance(error, FileNotFoundError) else NOT_EXECUTABLE)


# The script.


def _run_script(command: list[str], packets: Packets) -> None:
    """Run a file as Python does, in this process: one that may not exec could not start another."""
    import threading

    threading.stack_size(harden.THREAD_STACK_BYTES)
    # Its output is for people, who see each line when it is printed.
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    _restore_interactive_names()
    command[0] = f"{HERE.app}/{command[0]}"
    sys.argv = command
    sys.path[0:0] = [os.path.dirname(command[0])]
    if os.path.isdir(HERE.wheels):
        sys.path.append(HERE.wheels)
    module = sys.modules["__main__"] = ModuleType("__main__")
    module.__dict__.update(__file__=command[0], __builtins__=__builtins__)
    try:
        with open(command[0], "rb") as file:
            code = compile(file.read(), command[0], "exec", dont_inherit=True)
        exec(code, module.__dict__)
    except SystemExit:
        raise
    except KeyboardInterrupt:
        os._exit(128 + signal.SIGINT)
    except BaseException as error:
        _tell_limit(error, packets)
        # Without the frame of this file.
        behind = error.__traceback__.tb_next if error.__traceback__ else None
        sys.excepthook(type(error), error.with_traceback(behind), behind)
        sys.exit(1)


def _restore_interactive_names() -> None:
    """`exit` and `quit`, which scripts use and which come from site."""
    import site

    site.setquit()


def _tell_limit(error: BaseException, packets: Packets) -> None:
    from motes.space.guest import failures

    found = failures.exceeded(error)
    if found is not None:
        packets.send(LIMIT, b'{"reason":"%s"}' % found["detail"]["reason"].encode())


# The helper.


def _start_helper(packets: Packets, abi: int) -> None:
    """Fork it twice, so that the daemon has no child that it does not know of."""
    child = os.fork()
    if child:
        os.waitpid(child, 0)
        return
    if os.fork():
        os._exit(0)
    try:
        _help(packets, abi)
    finally:
        os._exit(0)


def _help(packets: Packets, abi: int) -> None:
    """Make sockets in this space's network, where the agent cannot, and pass them out unconnected.

    The agent connects them to the daemon's port. No copy is kept: who shares a descriptor's file could clear
    O_NONBLOCK and hang the agent.
    """
    kernel.forbid_new_privileges()
    kernel.set_not_dumpable()
    kernel.restrict(abi, [], tcp=True)
    os.closerange(0, packets.descriptor)
    while True:
        kind, _, _ = packets.receive()
        if kind != MAKE:
            return
        made = [_socket.socket(_socket.AF_INET, _socket.SOCK_STREAM) for _ in range(SOCKETS_AT_ONCE)]
        packets.hand_over(SOCKETS, b"{}", [each.detach() for each in made])
