"""A cheap sign that an app's sources changed, for `motes dev`."""

from __future__ import annotations

import hashlib
from pathlib import Path

from motes.bundle.pack import bundle_sources
from motes.errors import MotesError


def fingerprint(path: Path) -> str:
    """A hash of the names, sizes and times of the files of `path`'s bundle; no file of a folder is read.

    What cannot be packed has a fingerprint too, so that mending it counts as a change.
    """
    digest = hashlib.sha256()
    try:
        for source in bundle_sources(path):
            digest.update(f"{source.name}\0{source.size}\0{source.modified_ns}\0{source.executable}\n".encode())
    except MotesError as error:
        digest.update(error.message.encode(errors="surrogateescape"))
    return digest.hexdigest()
