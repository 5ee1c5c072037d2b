"""The kernel's calls for hardening that Python lacks: prctl, seccomp and Landlock. Linux; needs no privilege."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterable

_libc = ctypes.CDLL(None, use_errno=True)
_syscall = _libc.syscall
_syscall.restype = ctypes.c_long
_syscall.argtypes = [ctypes.c_long] * 5
_prctl = _libc.prctl
_prctl.argtypes = [ctypes.c_int] + [ctypes.c_ulong] * 4

_SET_DEATH_SIGNAL, _SET_DUMPABLE, _SET_SECCOMP, _DROP_BOUNDING, _SET_CHILD_SUBREAPER = 1, 4, 22, 24, 36
_SET_NO_NEW_PRIVILEGES = 38
_MODE_FILTER = 2
_BIND_RECURSIVE = 0x5000
_CAPABILITY_VERSION, _MOST_CAPABILITIES = 0x20080522, 64
# The same numbers on every architecture.
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_CLOSE_RANGE = 436
_PATH_BENEATH = 1

EXECUTE, WRITE_FILE, READ_FILE, READ_FOLDER = 1, 2, 4, 8
_TRUNCATE, _DEVICE_IOCTL = 1 << 14, 1 << 15
READ = EXECUTE | READ_FILE | READ_FOLDER
_FILE_RIGHTS = EXECUTE | WRITE_FILE | READ_FILE | _TRUNCATE | _DEVICE_IOCTL
_RIGHTS_BY_ABI = {1: 0x1FFF, 2: 0x3FFF, 3: 0x7FFF, 4: 0x7FFF}
_ALL_RIGHTS = 0xFFFF
_TCP_BIND_AND_CONNECT = 3
_ABSTRACT_SOCKETS_AND_SIGNALS = 3
NO_RULESET = -1
LEAST_URGENT_NICE = 19
OWN_PID = (0x7FFFFFF1).to_bytes(4, sys.byteorder)
"""What stands in a filter for the id of the process that will install it (motes.space.profiles.OWN_PID)."""


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p))


def prctl(option: int, argument: int = 0) -> None:
    """Raises OSError."""
    if _prctl(option, argument, 0, 0, 0) < 0:
        raise _error(f"prctl {option}")


def set_death_signal(number: int) -> None:
    """Have the kernel send signal `number` when the parent ends."""
    prctl(_SET_DEATH_SIGNAL, number)


def adopt_orphans() -> None:
    """Become the parent of every descendant whose own parent ends."""
    prctl(_SET_CHILD_SUBREAPER, 1)


def be_as_idle_as_the_host() -> None:
    """A host that stands back for its owner's programs is as nice as can be: what it runs enters the idle class, for
    processors and disk, which nobody without rights can leave."""
    if os.getpriority(os.PRIO_PROCESS, 0) == LEAST_URGENT_NICE and os.sched_getscheduler(0) != os.SCHED_IDLE:
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))


def set_not_dumpable() -> None:
    """Nobody of the same user may trace this process or read its memory and environment."""
    prctl(_SET_DUMPABLE, 0)


def set_dumpable() -> None:
    """Undo `set_not_dumpable`: a process that is not dumpable may not write its own files in /proc either."""
    prctl(_SET_DUMPABLE, 1)


def unshare(namespaces: int) -> None:
    """Raises OSError."""
    if _libc.unshare(namespaces) < 0:
        raise _error("unshare")


def bind(source: str, target: str) -> None:
    """Mount the folder `source`, and what is mounted in it, at `target` also. Raises OSError."""
    if _libc.mount(source.encode(), target.encode(), None, ctypes.c_ulong(_BIND_RECURSIVE), None) < 0:
        raise _error(f"mount {target}")


def drop_capabilities() -> None:
    """All of them, for good. Raises OSError."""
    for number in range(_MOST_CAPABILITIES):
        if _prctl(_DROP_BOUNDING, number, 0, 0, 0) < 0:
            # The first that the kernel does not know.
            break
    header, nothing = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION, 0), (ctypes.c_uint32 * 6)()
    if _libc.capset(header, nothing) < 0:
        raise _error("capset")


def forbid_new_privileges() -> None:
    """No program run from here on gains anything by its file's bits; seccomp and Landlock ask for this."""
    prctl(_SET_NO_NEW_PRIVILEGES, 1)


def install_filter(instructions: bytes) -> None:
    """Hold this process, and all that come from it, to a BPF program. Raises OSError."""
    program = _Program(len(instructions) // 8, instructions)
    if _prctl(_SET_SECCOMP, _MODE_FILTER, ctypes.addressof(program), 0, 0) < 0:
        raise _error("seccomp")


def for_this_process(filter: bytes) -> bytes:
    """A filter with this process's id wherever it must put its own."""
    return filter.replace(OWN_PID, os.getpid().to_bytes(4, sys.byteorder))


def close_from(first: int) -> None:
    """Close every descriptor from `first` on, in one call where the kernel has it (5.9)."""
    if _syscall(_CLOSE_RANGE, first, 0xFFFFFFFF, 0, 0) < 0:
        os.closerange(first, os.sysconf("SC_OPEN_MAX"))


def landlock_abi() -> int:
    """The kernel's Landlock version; 0 where there is none."""
    return max(int(_syscall(_CREATE_RULESET, 0, 0, 1, 0)), 0)


def landlock_refusal() -> int:
    """The errno for who asks for Landlock: ENOSYS where it is not built in, EOPNOTSUPP where not started; or 0."""
    return 0 if landlock_abi() else ctypes.get_errno()


def all_rights(abi: int) -> int:
    """Every right on files that this version of Landlock knows."""
    return _RIGHTS_BY_ABI.get(abi, _ALL_RIGHTS)


def restrict(abi: int, allowed: Iterable[tuple[int, int]], *, tcp: bool) -> None:
    """Confine this process to `allowed`: open folders or files, each with its rights. Raises OSError.

    Without `tcp` no TCP port may be bound or connected to. Signals and abstract sockets end at what is confined here
    (from ABI 6 on).
    """
    enforce(new_ruleset(abi, allowed, tcp=tcp))


def new_ruleset(abi: int, allowed: Iterable[tuple[int, int]], *, tcp: bool) -> int:
    """What `restrict` confines to, as a descriptor; NO_RULESET where there is no Landlock."""
    if abi == 0:
        return NO_RULESET
    network = 0 if tcp or abi < 4 else _TCP_BIND_AND_CONNECT
    scopes = _ABSTRACT_SOCKETS_AND_SIGNALS if abi >= 6 else 0
    words = (ctypes.c_uint64 * 3)(all_rights(abi), network, scopes)
    size = 24 if abi >= 6 else 16 if abi >= 4 else 8
    ruleset = int(_syscall(_CREATE_RULESET, ctypes.addressof(words), size, 0, 0))
    if ruleset < 0:
        raise _error("landlock_create_ruleset")
    for descriptor, rights in allowed:
        allow(abi, ruleset, descriptor, rights)
    return ruleset


def allow(abi: int, ruleset: int, descriptor: int, rights: int) -> None:
    """Add one folder or file to a ruleset. Raises OSError."""
    if ruleset == NO_RULESET:
        return
    words = (rights & all_rights(abi)).to_bytes(8, "little") + descriptor.to_bytes(4, "little")
    rule = ctypes.create_string_buffer(words, len(words))
    if _syscall(_ADD_RULE, ruleset, _PATH_BENEATH, ctypes.addressof(rule), 0) < 0:
        raise _error("landlock_add_rule")


def enforce(ruleset: int) -> None:
    """Confine this process to a ruleset, and close it. Raises OSError."""
    if ruleset == NO_RULESET:
        return
    if _syscall(_RESTRICT_SELF, ruleset, 0, 0, 0) < 0:
        raise _error("landlock_restrict_self")
    close_ruleset(ruleset)


def close_ruleset(ruleset: int) -> None:
    if ruleset != NO_RULESET:
        os.close(ruleset)


def file_rights(rights: int) -> int:
    """Those of `rights` that a file can have; the others are a folder's, and refused in a file's rule."""
    return rights & _FILE_RIGHTS


def _error(what: str) -> OSError:
    number = ctypes.get_errno()
    return OSError(number, f"{what}: {os.strerror(number)}")
