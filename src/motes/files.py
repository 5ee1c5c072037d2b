"""Files that are replaced as a whole: whoever reads one finds what was there before, or all that is there now.

And files in folders of other users, of whom nobody knows what they have put there.
"""

from __future__ import annotations

import errno
import os
import stat
import threading
from pathlib import Path


def replace(path: Path, content: bytes | str, mode: int = 0o600, *, synced: bool = False) -> None:
    """Have `content` in the file; `mode` holds whatever the umask says. With `synced` it is on the disk as well before
    it has its name: what has lost its power may come back with an empty file else.

    Raises OSError, as on a full disk; then what was there before is still there.
    """
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}")
    try:
        with open(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode), "wb") as file:
            if hasattr(os, "fchmod"):
                os.fchmod(file.fileno(), mode)
            file.write(content.encode() if isinstance(content, str) else content)
            if synced:
                file.flush()
                os.fsync(file.fileno())
        unfinished.replace(path)
    except OSError:
        unfinished.unlink(missing_ok=True)
        raise


def read_foreign(path: Path, most_bytes: int) -> bytes:
    """What is in a file of another user's: no link is followed, nobody waited for, and no more read than so much.

    Raises OSError, also for what is no file, as a pipe in which somebody may still write.
    """
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "not a regular file", str(path))
        with open(descriptor, "rb", closefd=False) as file:
            return file.read(most_bytes)
    finally:
        os.close(descriptor)
