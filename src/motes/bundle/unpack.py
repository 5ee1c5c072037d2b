"""An archive as a read-only folder. The archive is an attacker's until its hash holds, and its contents stay so after.

What holds here:
- nothing is written unless the hash is right and the whole list of files is harmless and within the limits;
- every file is made new inside a folder of our own, and no link is ever made, so no name can lead out;
- the target is either not there or whole: it is filled under another name and then renamed.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from motes.bundle.archive import LENGTH, Entry, decode_list
from motes.bundle.sources import APP, MAX_DEPTH, Limits
from motes.errors import BadBundle, TooLarge, Untrusted
from motes.model.units import format_bytes

if TYPE_CHECKING:
    from typing_extensions import Buffer

_CHUNK_BYTES = 2**18
_INPUT_BYTES = 2**14
_MAX_PART_BYTES = 255
"""Of one folder's or file's name: what Linux file systems take."""
_FILE_MODE = 0o444
_FOLDER_MODE = 0o555


def unpack(
    data: Buffer,
    expected_hash: str,
    target: Path,
    limits: Limits = APP,
    make_room: Callable[[int], None] = lambda size_bytes: None,
) -> None:
    """Make the folder `target` from an archive; when it is there already, nothing is done.

    `make_room` is called with the size of all its files before the first is written.

    Raises Untrusted when the bundle is not the one of that hash, BadBundle or TooLarge when it should not exist.
    Blocks: call it in a thread.
    """
    if hashlib.sha256(data).hexdigest() != expected_hash:
        raise Untrusted(f"a bundle whose content is not that of its name {expected_hash[:12]} (deploy the app again)")
    if target.exists():
        return
    inflated = _Inflated(data)
    entries = _judged(inflated.take_list(limits), limits)
    make_room(sum(entry.size for entry in entries))
    target.parent.mkdir(parents=True, exist_ok=True)
    with _sole_unpacker(target.parent):
        if not target.exists():
            _fill_and_rename(inflated, entries, target)


def discard(target: Path) -> None:
    """Remove a folder that `unpack` made, read-only as it is; no error when it is not there."""
    for folder, _, _ in os.walk(target):
        os.chmod(folder, 0o700)
    shutil.rmtree(target, ignore_errors=True)


@contextmanager
def _sole_unpacker(parent: Path) -> Iterator[None]:
    """One process at a time, so that whatever partial folder is found is a dead one's (whose lock the kernel ended)."""
    descriptor = os.open(parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _fill_and_rename(inflated: _Inflated, entries: list[Entry], target: Path) -> None:
    partial = target.with_name(f".{target.name}.partial")
    discard(partial)
    partial.mkdir(mode=0o700)
    try:
        for entry in entries:
            _write_file(inflated, entry, partial)
        inflated.check_end()
        _make_read_only(partial)
        os.rename(partial, target)
    except BaseException:
        discard(partial)
        raise


def _write_file(inflated: _Inflated, entry: Entry, root: Path) -> None:
    path = root / entry.name
    path.parent.mkdir(parents=True, exist_ok=True)
    mode = _FILE_MODE | (0o111 if entry.executable else 0)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
    with os.fdopen(descriptor, "wb", buffering=0) as file:
        os.fchmod(descriptor, mode)
        for chunk in inflated.chunks(entry.size):
            file.write(chunk)


def _make_read_only(root: Path) -> None:
    for folder, _, _ in os.walk(root, topdown=False):
        os.chmod(folder, _FOLDER_MODE)


def _judged(entries: list[Entry], limits: Limits) -> list[Entry]:
    total_bytes = sum(entry.size for entry in entries)
    if total_bytes > limits.bytes:
        raise TooLarge(
            f"a bundle of {format_bytes(total_bytes)}; the limit is {format_bytes(limits.bytes)}",
            limit_bytes=limits.bytes,
        )
    if len(entries) > limits.files or any(entry.size > limits.file_bytes for entry in entries):
        largest = format_bytes(limits.file_bytes)
        raise BadBundle(f"a bundle of more than {limits.files} files, or with one over {largest}")
    names = {entry.name for entry in entries}
    for entry in entries:
        if not _is_harmless(entry.name):
            raise BadBundle(f"a bundle with a file named {entry.name[:80]!r}")
        if any(folder in names for folder in _folders_of(entry.name)):
            raise BadBundle(f"a bundle in which a folder of {entry.name[:80]!r} is also a file")
    if len(names) != len(entries):
        raise BadBundle("a bundle that holds one name twice")
    return entries


def _is_harmless(name: str) -> bool:
    parts = name.split("/")
    if "\0" in name or len(parts) > MAX_DEPTH + 1:
        return False
    return all(part not in ("", ".", "..") and len(part.encode()) <= _MAX_PART_BYTES for part in parts)


def _folders_of(name: str) -> Iterator[str]:
    position = name.find("/")
    while position != -1:
        yield name[:position]
        position = name.find("/", position + 1)


class _Inflated:
    """The decompressed bytes of a bundle, never more of them at a time than asked for."""

    def __init__(self, data: Buffer) -> None:
        self._inflate = zlib.decompressobj()
        self._data = memoryview(data)
        self._position = 0

    def take_list(self, limits: Limits) -> list[Entry]:
        (size,) = LENGTH.unpack(self._take(LENGTH.size))
        if size > limits.list_bytes:
            raise BadBundle(f"a bundle whose list of files is larger than {format_bytes(limits.list_bytes)}")
        try:
            return decode_list(self._take(size))
        except ValueError as error:
            raise BadBundle(f"a bundle whose list of files cannot be read: {error}") from None

    def chunks(self, size: int) -> Iterator[bytes]:
        """`size` bytes in pieces. Raises BadBundle when there are fewer."""
        while size:
            chunk = self._some(min(size, _CHUNK_BYTES))
            if not chunk:
                raise BadBundle("a bundle that ends before its last file")
            size -= len(chunk)
            yield chunk

    def check_end(self) -> None:
        """Raises BadBundle unless the stream ends here, checksum and all."""
        more = self._some(1)
        if more or not self._inflate.eof or self._inflate.unused_data or self._position < len(self._data):
            raise BadBundle("a bundle that goes on after its last file, or is cut short")

    def _take(self, size: int) -> bytes:
        return b"".join(self.chunks(size))

    def _some(self, size: int) -> bytes:
        """Up to `size` bytes; none when there are no more."""
        chunk = b""
        while not chunk and not self._inflate.eof:
            pending: bytes | memoryview = self._inflate.unconsumed_tail or self._next_input()
            try:
                chunk = self._inflate.decompress(pending, size)
            except zlib.error:
                raise BadBundle("a bundle that cannot be decompressed") from None
            if not pending:
                break
        return chunk

    def _next_input(self) -> memoryview:
        start = self._position
        self._position = min(start + _INPUT_BYTES, len(self._data))
        return self._data[start : self._position]
