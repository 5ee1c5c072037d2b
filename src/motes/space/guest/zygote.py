"""The first process of a function space: harden, load the app, then fork an instance for each SPAWN, in one loop.

While nothing is asked for, one spare is forked ahead and waits for its order, so that a first call finds it ready.
Before `load` this is trusted; from then on the owner's module code has run here, and the walls are those made before.
"""

from __future__ import annotations

import _socket
import _thread
import binascii
import contextlib
import gc
import os
import select
import signal
import sys
from typing import Any

import msgspec

from motes.space.guest import harden, instance, kernel, nest, rehearsal
from motes.space.guest.load import Loaded, Refused, load
from motes.space.guest.packets import Packets
from motes.space.guest.places import HERE
from motes.space.guest.sweep import remove_tree
from motes.space.guest.wire import EXITED, FAILED, FORKED, HELLO, LOADED, OPEN, REFUSED, SPAWN

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(dict[str, Any]).decode
_NONE = -1
"""The number of a child that is no instance, or not yet."""
_CHANNEL_AND_OUTPUT = 2
_QUIET_S = 0.001
"""A spare is forked when nothing was asked for so long: not between two orders, nor while an instance starts."""
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


def main(arguments: list[str]) -> None:
    """Run the zygote; its one argument is the control channel's descriptor."""
    kernel.be_as_idle_as_the_host()
    packets = Packets(int(arguments[0]))
    # First: a blank space waits here, so that no wake-up waits for this.
    rehearsal.rehearse()
    kind, text, _ = packets.receive()
    if kind != OPEN:
        raise SystemExit("the first message was not OPEN")
    order = _decode(text)
    ground = harden.Ground()
    if ground.abi == 0:
        try:
            nest.check()
        except OSError as error:
            raise SystemExit(f"no Landlock, and no namespaces for its instances either: {error.strerror}") from None
    packets.hand_over(HELLO, b'{"landlock":%d}' % ground.abi, [os.pidfd_open(os.getpid()), harden.open_path(HERE.tmp)])
    harden.harden_zygote(ground, binascii.a2b_base64(order["zygote"]), order["memory_bytes"], order["file_bytes"])
    # Not through `threading`: what that does in each fork costs 0.15 ms, and few apps import it.
    _thread.stack_size(harden.THREAD_STACK_BYTES)
    for stream in (sys.stdout, sys.stderr):
        # What was printed must not be lost, nor printed again by each fork.
        stream.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    try:
        functions = load(order["entries"])
    except Refused as refusal:
        instance.flush()
        told = {"message": refusal.message, "type": refusal.kind, "traceback": refusal.traceback}
        packets.send(FAILED, _encode(told))
        return
    packets.send(LOADED, _encode({"functions": [function.description() for function in functions.values()]}))
    Zygote(packets, ground, functions, binascii.a2b_base64(order["instance"])).serve()


class Child:
    """A process that the zygote forked."""

    def __init__(self, pid: int, folder: str = "", orders: Packets | None = None) -> None:
        self.pid = pid
        self.number = _NONE
        self.folder = folder
        self.orders = orders
        """A spare's: where it waits for its order."""


class Zygote:
    """Forks instances, tells of their ends and clears up behind them."""

    def __init__(self, packets: Packets, ground: harden.Ground, functions: dict[str, Loaded], filter: bytes) -> None:
        self._packets = packets
        self._ground = ground
        self._functions = functions
        self._filter = filter
        self._children: dict[int, Child] = {}
        """By pidfd."""
        self._spare = _NONE
        """Its pidfd."""
        self._forks_ahead = True
        """Not when a spare could not be made, or did not live: the next order tries, and is told why."""
        self._folders = 0
        self._data_bytes = 0
        self._events = select.epoll()

    def serve(self) -> None:
        """Until the agent is gone."""
        # Imported once here, and not in each instance.
        if any(function.typed.is_async for function in self._functions.values()):
            import asyncio  # noqa: F401
        if any(function.has_loop for function in self._functions.values()):
            import motes.space.guest.concurrent  # noqa: F401
        self._events.register(self._packets.descriptor, select.EPOLLIN)
        gc.collect()
        gc.freeze()
        self._data_bytes = _data_bytes()
        while True:
            wants_spare = self._spare == _NONE and self._forks_ahead
            events = self._events.poll(_QUIET_S if wants_spare else None)
            for descriptor, _ in events:
                if descriptor != self._packets.descriptor:
                    self._bury(descriptor)
                elif not self._take_order():
                    return
            if not events:
                self._forks_ahead = False
                with contextlib.suppress(OSError):
                    self._spare = self._fork_spare()
                    self._forks_ahead = True

    def _take_order(self) -> bool:
        kind, text, descriptors = self._packets.receive()
        if kind != SPAWN:
            return False
        number = _decode(text)["number"]
        try:
            if len(descriptors) != _CHANNEL_AND_OUTPUT:
                raise ValueError("its channel and output did not arrive")
            pidfd = self._spare if self._spare != _NONE else self._fork_spare()
            self._spare = _NONE
            self._give_order(self._children[pidfd], text, descriptors)
            self._children[pidfd].number = number
            self._packets.send(FORKED, b'{"number":%d}' % number, [pidfd])
            self._forks_ahead = True
        except (OSError, ValueError) as error:
            # No descriptor, process or memory left for one more; those that live go on.
            self._packets.send(REFUSED, _encode({"number": number, "error": str(error)}))
        finally:
            for descriptor in descriptors:
                os.close(descriptor)
        return True

    @staticmethod
    def _give_order(spare: Child, text: bytes, descriptors: list[int]) -> None:
        assert spare.orders is not None
        try:
            spare.orders.send(SPAWN, text, descriptors)
        finally:
            # One order is all it gets; without that it ends.
            spare.orders.close()

    def _fork_spare(self) -> int:
        """A child that waits for its order: its pidfd. Raises OSError."""
        self._folders += 1
        folder = f"{HERE.tmp}/{self._folders}"
        os.mkdir(folder, 0o700)
        instance.flush()
        ruleset = kernel.NO_RULESET
        ours, theirs = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)
        try:
            ruleset = self._ground.ruleset(folder)
            pid = os.fork()
            if pid == 0:
                self._become_instance(ruleset, folder, theirs.fileno())
            return self._watch(Child(pid, folder, Packets(ours.detach())))
        except OSError:
            ours.close()
            os.rmdir(folder)
            raise
        finally:
            theirs.close()
            kernel.close_ruleset(ruleset)

    def _become_instance(self, ruleset: int, folder: str, orders: int) -> None:
        code = 1
        try:
            harden.harden_spare(self._ground, ruleset, folder, orders)
            code = instance.run(self._functions, self._filter, self._data_bytes)
        except SystemExit as error:
            code = error.code if isinstance(error.code, int) else int(error.code is not None)
        except BaseException:
            sys.excepthook(*sys.exc_info())
        finally:
            instance.flush()
            os._exit(code & 0xFF)

    def _watch(self, child: Child) -> int:
        try:
            pidfd = os.pidfd_open(child.pid)
        except OSError:
            os.kill(child.pid, signal.SIGKILL)
            os.waitpid(child.pid, 0)
            raise
        self._children[pidfd] = child
        self._events.register(pidfd, select.EPOLLIN)
        return pidfd

    def _bury(self, pidfd: int) -> None:
        child = self._children.pop(pidfd)
        self._events.unregister(pidfd)
        os.close(pidfd)
        _, status = os.waitpid(child.pid, 0)
        if pidfd == self._spare:
            self._spare, self._forks_ahead = _NONE, False
        if child.number != _NONE:
            self._packets.send(EXITED, b'{"number":%d,"status":%d}' % (child.number, status))
        if child.folder:
            self._remove(child.folder)

    def _remove(self, folder: str) -> None:
        """Most folders are empty; a full one is cleared in a process of its own, so that no start waits for it."""
        try:
            os.rmdir(folder)
        except OSError:
            pid = os.fork()
            if pid == 0:
                remove_tree(folder)
                os._exit(0)
            self._watch(Child(pid))


def _data_bytes() -> int:
    """What of this process counts against RLIMIT_DATA."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[5]) * _PAGE_BYTES
