"""An instance's own user and mount namespace: what keeps neighbours' files apart where the kernel has no Landlock.

Everything but files is a matter of the instance's filter. The namespaces are made in the fork, after the app's module
code has run, so the filter of such a space lets that code make them too (motes.space.profiles.NESTING).
"""

from __future__ import annotations

import os
import signal

from motes.space.guest import kernel

DEVICES = ("null", "urandom", "random")
"""All that functions see of /dev."""
COVER = "/own-proc"
"""A folder that covers /proc; in it, an instance's own entry as `self`."""

_NEW_USER_AND_MOUNTS = 0x10020000


def enter(folder: str) -> str:
    """Make `folder` this process's /tmp, and leave it nothing of /proc but its own entry. Returns /tmp.

    Raises OSError.
    """
    uid, gid = os.getuid(), os.getgid()
    kernel.unshare(_NEW_USER_AND_MOUNTS)
    # 1. Its user and group stay what they are; without a mapping it could make no file.
    kernel.set_dumpable()
    _write("setgroups", "deny")
    _write("uid_map", f"{uid} {uid} 1")
    _write("gid_map", f"{gid} {gid} 1")
    kernel.set_not_dumpable()
    # 2. Cover what is others'. /dev holds nothing but DEVICES in such a space, and all else is read-only.
    kernel.bind(folder, "/tmp")
    kernel.bind("/proc/self", f"{COVER}/self")
    kernel.bind(COVER, "/proc")
    # 3. Nothing of this can be undone: the rights over the new namespaces go.
    kernel.drop_capabilities()
    kernel.set_death_signal(signal.SIGKILL)
    return "/tmp"


def check() -> None:
    """Try it in a fork. Raises OSError where an instance would fail."""
    pid = os.fork()
    if pid == 0:
        code = 0
        try:
            os.mkdir("/tmp/trial")
            enter("/tmp/trial")
        except OSError as error:
            code = error.errno or 1
        finally:
            os._exit(code)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    os.rmdir("/tmp/trial")
    if code:
        raise OSError(code, os.strerror(code))


def _write(name: str, text: str) -> None:
    file = os.open(f"/proc/self/{name}", os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(file, text.encode())
    finally:
        os.close(file)
