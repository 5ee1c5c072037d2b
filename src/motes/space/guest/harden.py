"""How a process in a space gives up what it does not need: ordered lists, with a reason for each step."""

from __future__ import annotations

import itertools
import os
import resource
import signal
import sys
from collections.abc import Iterable, Iterator

from motes.space.guest import kernel, nest
from motes.space.guest.places import HERE

OUTPUT, CHANNEL = 1, 3
"""An instance's descriptors; 0 is /dev/null, 2 is OUTPUT again, 5 its own entry in /proc."""
_RULESET = 4

THREAD_STACK_BYTES = 2**20
"""Each thread's stack counts against the memory limit: 8 MiB of it would allow eight threads in 64 MiB."""

_MOST_TASKS_OF_A_FUNCTION_SPACE = 8192
_MOST_ZYGOTE_FILES = 16384
_MOST_PENDING_SIGNALS = 256
_UNLISTED = ("tmp", "proc", "dev")
_OWN_FILES, _OWN_FOLDERS = ("cmdline", "limits", "maps", "stat", "statm", "status"), ("fd", "task")


class Ground:
    """The open folders on which every instance's Landlock rules stand; opened once, before the first fork."""

    def __init__(self) -> None:
        self.abi = kernel.landlock_abi()
        self.write = kernel.all_rights(self.abi)
        # What its zygote may not read, an instance may not either; so where that is told in full, once is enough.
        roots = filter(os.path.exists, HERE.roots) if HERE.are_bare else _mounted()
        self.read_only = [(open_path(path), _right_to_read(path)) for path in roots]
        device_rights = kernel.file_rights(kernel.READ_FILE | kernel.WRITE_FILE)
        self.devices = [(open_path(f"/dev/{name}"), device_rights) for name in nest.DEVICES]

    def ruleset(self, folder: str) -> int:
        """An instance's Landlock rules but for /proc. Made before the fork: a fresh child pays for all it touches."""
        tmp = open_path(folder)
        try:
            return kernel.new_ruleset(self.abi, [*self.read_only, *self.devices, (tmp, self.write)], tcp=False)
        finally:
            os.close(tmp)

    def restrict(self) -> None:
        """Hold the zygote, and so all that comes from it, to what its space may read, to /tmp and to /proc."""
        readable = readable_rules() if HERE.are_bare else self.read_only
        # The host's own /proc has others' processes too.
        proc = own_entry() if HERE.are_bare else opened(("/proc",), kernel.READ)
        rules = itertools.chain(readable, self.devices, opened((HERE.tmp,), self.write), proc)
        kernel.restrict(self.abi, rules, tcp=False)


def _mounted() -> list[str]:
    return [f"/{name}" for name in os.listdir("/") if name not in _UNLISTED and os.path.isdir(f"/{name}")]


def readable_rules() -> Iterator[tuple[int, int]]:
    """All that a space may read, as Landlock rules; each file or folder is open while it is looked at."""
    yield from opened(HERE.listable, kernel.READ_FOLDER)
    for path in HERE.readable or ("/",):
        yield from opened((path,), _right_to_read(path))


def opened(paths: Iterable[str], rights: int) -> Iterator[tuple[int, int]]:
    """A Landlock rule for each of `paths` that is there: some are links that lead nowhere."""
    for path in filter(os.path.exists, paths):
        descriptor = open_path(path)
        try:
            yield descriptor, rights
        finally:
            os.close(descriptor)


def own_entry() -> list[tuple[int, int]]:
    """Rules for this process's entry in the host's /proc: what is about itself, not the host's network and mounts.

    They stay open, for a rule holds while the kernel remembers the file.
    """
    files = [(open_path(f"/proc/self/{name}"), kernel.READ_FILE) for name in _OWN_FILES]
    return files + [(open_path(f"/proc/self/{name}"), kernel.READ_FOLDER) for name in _OWN_FOLDERS]


def _right_to_read(path: str) -> int:
    return kernel.READ if os.path.isdir(path) else kernel.READ_FILE


def open_path(path: str) -> int:
    """A descriptor that only names `path`."""
    return os.open(path, os.O_PATH | os.O_CLOEXEC)


def harden_zygote(ground: Ground, filter: bytes, memory_bytes: int, file_bytes: int) -> None:
    """Before any app code is imported: what holds here holds for every instance too."""
    # 1. Resource limits, hard: module code could lift soft ones.
    limit(resource.RLIMIT_DATA, memory_bytes)
    limit(resource.RLIMIT_CORE, 0)
    limit(resource.RLIMIT_NPROC, _MOST_TASKS_OF_A_FUNCTION_SPACE)
    limit(resource.RLIMIT_NOFILE, most_zygote_files(resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    if HERE.are_bare:
        # No mount has a size there, and a file that was removed while open is not seen. Timers and queued signals
        # count for the host's user: whoever may make many takes them from all others.
        limit(resource.RLIMIT_FSIZE, file_bytes)
        limit(resource.RLIMIT_SIGPENDING, _MOST_PENDING_SIGNALS)
    # 2. Landlock: only /tmp is writable, no TCP, no signals and abstract sockets beyond the space.
    kernel.forbid_new_privileges()
    ground.restrict()
    # 3. Nobody traces it or reads its memory.
    kernel.set_not_dumpable()
    # 4. No program is ever run and no socket made from here on.
    kernel.install_filter(filter)


def most_zygote_files(hard: int) -> int:
    """How many files a zygote may have open, where this space's host may have `hard`.

    So many descriptors may its module code have on their way through sockets as well, and the kernel counts these for
    the host's user: who has a higher limit, as agents and daemons' helpers have, passes its own all the same.
    """
    return _MOST_ZYGOTE_FILES if hard == resource.RLIM_INFINITY else min(_MOST_ZYGOTE_FILES, hard // 2)


def harden_spare(ground: Ground, ruleset: int, folder: str, orders: int) -> None:
    """After the fork: what can be done before it is known which function this will serve, and it is most of it.

    `ruleset` is that of `Ground.ruleset`; `orders`, where the order will come from, moves to CHANNEL.
    """
    # 1. It ends with its zygote.
    kernel.set_death_signal(signal.SIGKILL)
    # 2. Close what is not its own: the zygote's channel and the neighbours' descriptors. First, for there may be many.
    ruleset = _keep_only(orders, ruleset)
    # 3. A folder of its own for everything that it writes.
    if ground.abi == 0:
        folder = nest.enter(folder)
    os.chdir(folder)
    os.environ["HOME"] = os.environ["TMPDIR"] = folder
    if "tempfile" in sys.modules:
        sys.modules["tempfile"].__dict__["tempdir"] = None
    # 4. Landlock, for which `nest` stands where there is none: write to its folder only, see only its own entry in
    #    /proc, no signals to neighbours. The entry is kept open, for a rule holds as long as the kernel remembers it.
    if ruleset != kernel.NO_RULESET:
        if not HERE.are_bare:
            kernel.allow(ground.abi, ruleset, open_path("/proc/self/"), kernel.READ | kernel.WRITE_FILE)
        kernel.enforce(ruleset)


def harden_instance(filter: bytes, channel: int, output: int, limits: dict[str, int]) -> None:
    """After the order, before a call is read. `channel` and `output` came with the order; nothing else is open."""
    # 5. Its own channel, in the place of the orders', and its own output.
    os.dup2(output, OUTPUT)
    os.dup2(output, 2)
    os.dup2(channel, CHANNEL, inheritable=False)
    os.close(output)
    os.close(channel)
    # 6. Resource limits, hard.
    limit(resource.RLIMIT_DATA, limits["data_bytes"])
    limit(resource.RLIMIT_FSIZE, limits["file_bytes"])
    limit(resource.RLIMIT_NOFILE, limits["open_files"])
    # 7. Inherited from the zygote, but its module code may have changed it.
    kernel.set_not_dumpable()
    # 8. Last, for it refuses calls that the steps above need: no fork, no exec, no socket, no signal but to itself.
    kernel.install_filter(filter)


def _keep_only(orders: int, ruleset: int) -> int:
    """Move them down and close all others; returns the ruleset's new number.

    They lie above the numbers that they get, for `Ground` was opened before any of them.
    """
    os.dup2(orders, CHANNEL, inheritable=False)
    if ruleset == kernel.NO_RULESET:
        kernel.close_from(_RULESET)
        return ruleset
    ruleset = os.dup2(ruleset, _RULESET, inheritable=False)
    kernel.close_from(_RULESET + 1)
    return ruleset


def limit(which: int, most: int) -> None:
    """Set a resource limit, soft and hard, never above the hard one that already holds."""
    _, hard = resource.getrlimit(which)
    wanted = most if hard == resource.RLIM_INFINITY else min(most, hard)
    resource.setrlimit(which, (wanted, wanted))
