"""Which files of an app's folder belong to its bundle, and how large they may be.

Left out, at any depth:
- folders whose name begins with a dot (`.git`, `.venv`, `.mypy_cache`, ...), `__pycache__` and `node_modules`;
- virtual environments of any name (folders that hold a `pyvenv.cfg`);
- compiled Python (`*.pyc`, `*.pyo`) and files of secrets (`.env`, `.env.*`).

A symbolic link that stays inside the folder is packed as what it points at; one that leads out is refused.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from motes.errors import BadBundle, TooLarge
from motes.model.units import format_bytes

MIB = 2**20


class Limits(NamedTuple):
    """The most that one archive may hold."""

    file_bytes: int
    bytes: int
    """Of all files together, unpacked."""
    files: int
    list_bytes: int
    """Of the archive's list of files."""
    what: str
    """What the archive is, for messages."""


APP = Limits(32 * MIB, 64 * MIB, 10_000, 4 * MIB, "an app")
LAYER = Limits(512 * MIB, 1024 * MIB, 60_000, 16 * MIB, "the packages of an app")
MAX_NAME_BYTES = 1024
"""Of a file's path relative to the folder, in UTF-8."""
MAX_DEPTH = 32
"""Below the 40 links that Linux follows in one path, so that a link to its own folder ends here."""

_FOLDERS_LEFT_OUT = frozenset({"__pycache__", "node_modules"})
_ENDINGS_LEFT_OUT = (".pyc", ".pyo")


class Source(NamedTuple):
    """A file of the bundle: its name in it (with `/`), where it is now, and what `stat` says."""

    name: str
    path: str
    size: int
    modified_ns: int
    executable: bool


def sources(folder: Path, limits: Limits = APP) -> list[Source]:
    """The files of `folder` that belong to its archive, sorted by name; nothing is read but folders.

    From the folder of a LAYER nothing is left out.

    Raises BadBundle for what cannot be packed and TooLarge for what is over a limit.
    """
    real_root = os.path.realpath(folder)
    found: list[Source] = []
    total_bytes = 0
    for source in _walk(real_root, real_root, "", 0, limits):
        found.append(source)
        total_bytes += source.size
        _check_limits(folder, source, len(found), total_bytes, limits)
    return sorted(found)


def source_of(path: str, name: str, facts: os.stat_result) -> Source:
    """The Source for one regular file."""
    return Source(name, path, facts.st_size, facts.st_mtime_ns, bool(facts.st_mode & stat.S_IXUSR))


def check_file_size(source: Source, limits: Limits = APP) -> None:
    """Raises TooLarge when one file is over its limit."""
    if source.size > limits.file_bytes:
        raise TooLarge(
            f"{source.name} has {format_bytes(source.size)}; a file of {limits.what} may have"
            f" {format_bytes(limits.file_bytes)}"
            " (keep data outside the app's folder, or move the file to a folder whose name begins with a dot)",
            file=source.name,
            size_bytes=source.size,
            limit_bytes=limits.file_bytes,
        )


def _check_limits(folder: Path, source: Source, count: int, total_bytes: int, limits: Limits) -> None:
    check_file_size(source, limits)
    if count > limits.files:
        raise TooLarge(
            f"{folder} holds more than {limits.files} files, the most {limits.what} may have (deploy the folder of the"
            " app itself; folders whose name begins with a dot are left out)",
            limit_files=limits.files,
        )
    if total_bytes > limits.bytes:
        raise TooLarge(
            f"{folder} holds more than {format_bytes(limits.bytes)}, the most {limits.what} may have; the limit was"
            f" passed at {source.name} (keep data outside the app's folder)",
            file=source.name,
            limit_bytes=limits.bytes,
        )


def _walk(real_root: str, folder: str, prefix: str, depth: int, limits: Limits) -> Iterator[Source]:
    if depth > MAX_DEPTH:
        raise BadBundle(f"{prefix}: folders nested deeper than {MAX_DEPTH}, or a link that leads to its own folder")
    for entry in _entries(folder, prefix):
        if limits is LAYER or not _is_left_out(entry):
            yield from _entry_sources(real_root, entry, prefix + entry.name, depth, limits)


def _entries(folder: str, prefix: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except OSError as error:
        raise BadBundle(f"cannot read the folder {prefix or folder}: {error.strerror} (mend its permissions)") from None


def _is_left_out(entry: os.DirEntry[str]) -> bool:
    name = entry.name
    if not os.path.isdir(entry.path):
        return name.endswith(_ENDINGS_LEFT_OUT) or name == ".env" or name.startswith(".env.")
    return name.startswith(".") or name in _FOLDERS_LEFT_OUT or os.path.exists(f"{entry.path}/pyvenv.cfg")


def _entry_sources(real_root: str, entry: os.DirEntry[str], name: str, depth: int, limits: Limits) -> Iterator[Source]:
    _check_name(name)
    if entry.is_symlink():
        _check_link(real_root, entry.path, name)
    facts = _facts(entry, name)
    if stat.S_ISDIR(facts.st_mode):
        yield from _walk(real_root, entry.path, f"{name}/", depth + 1, limits)
    elif stat.S_ISREG(facts.st_mode):
        yield source_of(entry.path, name, facts)
    else:
        raise BadBundle(f"{name} is a socket, pipe or device; an app holds only files and folders (remove it)")


def _facts(entry: os.DirEntry[str], name: str) -> os.stat_result:
    try:
        return entry.stat()
    except OSError as error:
        raise BadBundle(f"cannot read {name}: {error.strerror} (remove it or mend the link)") from None


def _check_name(name: str) -> None:
    try:
        size = len(name.encode())
    except UnicodeEncodeError:
        raise BadBundle(f"the file name {name!a} is not UTF-8 (rename it)") from None
    if size > MAX_NAME_BYTES:
        raise BadBundle(f"the path {name[:60]}... is longer than {MAX_NAME_BYTES} bytes (shorten it)")


def _check_link(real_root: str, path: str, name: str) -> None:
    target = os.path.realpath(path)
    if target != real_root and not target.startswith(real_root.rstrip("/") + "/"):
        raise BadBundle(
            f"{name} is a symbolic link that leads out of the folder (copy what it points at, or remove it)", file=name
        )
