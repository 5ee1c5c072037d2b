"""The first process of a space without namespaces: it forks what runs there, and ends all of that when its time comes.

No kernel object holds such a space together, as a process namespace does. So everything in it descends from this
process, whoever loses its parent comes here, and nobody who is in it may signal, trace or see anybody outside.
"""

from __future__ import annotations

import importlib
import os
import signal
from contextlib import suppress
from typing import NoReturn

from motes.space.guest import kernel
from motes.space.guest.places import HERE
from motes.space.guest.sweep import remove_tree

_OWN_FOLDER_MODE = 0o700
_TOLD = {signal.SIGTERM, signal.SIGCHLD}


class Order:
    """What the agent wrote: fields with a NUL behind each, in this order."""

    def __init__(self, fields: list[str]) -> None:
        self.agent = int(fields[0])
        self.folder, self.app, self.wheels, self.script = fields[1:5]
        self.filter = bytes.fromhex(fields[5])
        listed = int(fields[6])
        self.listable, self.readable = tuple(fields[7 : 7 + listed]), tuple(fields[7 + listed :])


def main(arguments: list[str]) -> None:
    """`arguments`: descriptors of the Order and of the script (or -1), then a module and the words for its `main`."""
    kernel.be_as_idle_as_the_host()
    order = Order(_content(int(arguments[0])).decode().split("\0")[:-1])
    _prepare(order, int(arguments[1]))
    kernel.set_death_signal(signal.SIGTERM)
    kernel.adopt_orphans()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _TOLD)
    monitor, space = os.getpid(), os.fork()
    if space:
        kernel.set_not_dumpable()
        _watch(space, order)
    signal.pthread_sigmask(signal.SIG_SETMASK, before)
    _enter(order, monitor)
    importlib.import_module(arguments[2]).main(arguments[3:])


def _content(descriptor: int) -> bytes:
    with open(descriptor, "rb") as file:
        return file.read()


def _prepare(order: Order, script: int) -> None:
    tmp = f"{order.folder}/tmp"
    os.mkdir(tmp, _OWN_FOLDER_MODE)
    if script >= 0:
        os.mkdir(order.app, _OWN_FOLDER_MODE)
        with open(f"{order.app}/{order.script}", "wb") as file:
            file.write(_content(script))
    HERE.app, HERE.wheels, HERE.tmp, HERE.writable = order.app, order.wheels, tmp, (tmp,)
    HERE.readable, HERE.listable = order.readable, order.listable
    others = (path for path in order.readable if os.path.dirname(path) not in order.listable)
    HERE.roots = (*order.listable, *others)
    os.chdir(order.app)


def _enter(order: Order, monitor: int) -> None:
    """In the child: what bubblewrap does for other spaces, as far as it can be done."""
    # 1. It ends with the monitor, which may have ended before this line.
    kernel.set_death_signal(signal.SIGKILL)
    if os.getppid() != monitor:
        os._exit(1)
    # 2. No terminal to write into.
    os.setsid()
    # 3. What no Landlock rule is about: rights and times of files, other processes, sockets (profiles.BARE).
    kernel.forbid_new_privileges()
    kernel.install_filter(kernel.for_this_process(order.filter))


def _watch(space: int, order: Order) -> NoReturn:
    """Until what runs here has ended, or the agent wants it to; then nothing is left, and the status tells how."""
    status = None
    # The agent may have ended before the kernel was told to tell of it.
    while os.getppid() == order.agent and status is None and signal.sigwait(_TOLD) != signal.SIGTERM:
        status = _reap(space)
    _end_all()
    remove_tree(f"{order.folder}/tmp")
    for folder in (order.app,) if order.script else ():
        remove_tree(folder)
    with suppress(OSError):
        os.rmdir(order.folder)
    if status is None:
        os.kill(os.getpid(), signal.SIGKILL)
    code = os.waitstatus_to_exitcode(status or 0)
    os._exit(128 - code if code < 0 else code)


def _reap(space: int) -> int | None:
    """Bury who has ended; returns the wait status of `space` when it is among them."""
    status = None
    with suppress(ChildProcessError):
        # Who forks faster than this buries must not keep it from hearing the agent.
        while signal.SIGTERM not in signal.sigpending() and (ended := os.waitpid(-1, os.WNOHANG))[0]:
            status = ended[1] if ended[0] == space else status
    return status


def _end_all() -> None:
    """Kill the children, and those who come here when their parents end, until there are none."""
    with suppress(ChildProcessError):
        while True:
            for pid in _children():
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            os.waitpid(-1, 0)
            # All that have ended: each that is still listed makes the next round longer, in which others fork.
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass


def _children() -> list[int]:
    with open(f"/proc/self/task/{os.getpid()}/children", "rb") as file:
        return [int(word) for word in file.read().split()]
