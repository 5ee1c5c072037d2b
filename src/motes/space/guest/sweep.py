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
        _open_up(folder)
        for entry in _entries(folder):
            with suppress(OSError):
                if entry.is_dir(follow_symlinks=False):
                    moved += 1
                    place = f"{top}-{moved}"
                    # A folder must be writable itself to get another parent.
                    _open_up(entry.path)
                    os.rename(entry.path, place)
                    waiting.append(place)
                else:
                    os.unlink(entry.path)
        with suppress(OSError):
            os.rmdir(folder)


def _entries(folder: str) -> list[os.DirEntry[str]]:
    try:
        return list(os.scandir(folder))
    except OSError:
        return []


def _open_up(folder: str) -> None:
    # Refused where rights are out of a space's hands; there nobody could take them from a folder with something in it.
    with suppress(OSError):
        os.chmod(folder, 0o700)
