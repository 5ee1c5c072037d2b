"""Run shell scripts with a small disk of its own mounted at a folder: `small_disk.py FOLDER BYTES SCRIPT...`.

Between the scripts the word `ro` or `rw` makes the disk read-only or writable again. The first that fails ends it.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from pathlib import Path

NEW_MOUNTS, NEW_USER = 0x00020000, 0x10000000
PRIVATE_RECURSIVE = 0x40000 | 0x4000
REMOUNT, READ_ONLY = 32, 1


def check(result: int) -> None:
    if result != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def main() -> None:
    folder, size, *steps = sys.argv[1:]
    libc = ctypes.CDLL(None, use_errno=True)
    user, group = os.getuid(), os.getgid()
    check(libc.unshare(NEW_MOUNTS | (NEW_USER if user else 0)))
    if user:
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"{user} {user} 1")
        Path("/proc/self/gid_map").write_text(f"{group} {group} 1")
    check(libc.mount(None, b"/", None, PRIVATE_RECURSIVE, None))
    options = f"size={size},mode=755"
    check(libc.mount(b"tmpfs", folder.encode(), b"tmpfs", 0, options.encode()))
    for step in steps:
        if step in ("ro", "rw"):
            flags = REMOUNT | (READ_ONLY if step == "ro" else 0)
            check(libc.mount(b"tmpfs", folder.encode(), b"tmpfs", flags, options.encode()))
        elif code := subprocess.call(["/bin/sh", "-c", step]):
            sys.exit(code)


main()
