"""Remove what an instance left in its folder, whatever it made of it: deep, locked or full of links."""

from __future__ import annotations

import os
from contextlib import suppress


def remove_tree(top: str) -> None:
    """Remove `top` and all in it, without recursion: each inner folder is moved up before its turn comes.

    No link is followed. What cannot be removed stays.
    """
    waiting, moved = [top], 0
    while waiting:
        folder = waiting.pop()
        os.chmod(folder, 0o700)
        for entry in list(os.scandir(folder)):
            with suppress(OSError):
                if entry.is_dir(follow_symlinks=False):
                    moved += 1
                    place = f"{top}-{moved}"
                    # A folder must be writable itself to get another parent.
                    os.chmod(entry.path, 0o700)
                    os.rename(entry.path, place)
                    waiting.append(place)
                else:
                    os.unlink(entry.path)
        with suppress(OSError):
            os.rmdir(folder)
