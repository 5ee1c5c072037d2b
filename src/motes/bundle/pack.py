"""A file or folder as one archive, named by its content: what `motes deploy` sends."""

from __future__ import annotations

import hashlib
import os
import stat
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from motes.bundle.archive import COMPRESSION_LEVEL, Entry, encode_list
from motes.bundle.sources import LAYER, Source, check_file_size, source_of, sources
from motes.errors import BadBundle
from motes.model.naming import name_like

_TEXT_PROBE_BYTES = 4096
_PART_BYTES = 2**18


@dataclass(frozen=True)
class Bundle:
    """An archive, its SHA-256 in hexadecimal, and the names of the files in it."""

    data: bytes
    hash: str
    files: tuple[str, ...]


def pack(path: Path) -> Bundle:
    """The bundle of a Python file or of a folder; equal sources give equal bytes.

    Raises BadBundle when there is nothing here that can be deployed and TooLarge over a limit.
    """
    found = bundle_sources(path)
    if not found:
        raise BadBundle(f"{path} holds no files to deploy (hidden folders, caches and .env files are left out)")
    data = b"".join(_archive(found))
    return Bundle(data, hashlib.sha256(data).hexdigest(), tuple(source.name for source in found))


def app_name(path: Path) -> str:
    """The app's name for `path`: `hello.py` and the folder `hello` are app `hello`. Raises BadBundle."""
    real = Path(os.path.abspath(path))
    text = real.stem if real.suffix == ".py" else real.name
    name = name_like(text)
    if not name:
        raise BadBundle(f"no app can be named after {text!r} (give it a name of letters and digits with --name)")
    return name


def bundle_sources(path: Path) -> list[Source]:
    """The files that `pack` would put in the bundle of `path`, with nothing read yet but folders."""
    try:
        facts = os.stat(path)
    except OSError as error:
        raise BadBundle(f"cannot read {path}: {error.strerror} (give a Python file or a folder)") from None
    if stat.S_ISDIR(facts.st_mode):
        return sources(path)
    return [_single_file(path, facts)]


def _single_file(path: Path, facts: os.stat_result) -> Source:
    if not stat.S_ISREG(facts.st_mode) or path.suffix != ".py":
        raise BadBundle(
            f"{path} is no Python file (deploy a .py file, or a folder; for another program put it in a folder and"
            " deploy that with --cmd)"
        )
    source = source_of(str(path), path.name, facts)
    check_file_size(source)
    if b"\0" in next(_parts(source), b"")[:_TEXT_PROBE_BYTES]:
        raise BadBundle(f"{path} is a binary file, not Python source (deploy the source)")
    return source


def pack_layer(folder: Path, file: Path) -> None:
    """Write the archive of a folder of installed packages to `file`, whole or not at all. Raises TooLarge."""
    partial = file.with_name(f"{file.name}.{os.getpid()}")
    try:
        with open(partial, "wb") as archive:
            for part in _archive(sources(folder, LAYER)):
                archive.write(part)
        os.rename(partial, file)
    finally:
        partial.unlink(missing_ok=True)


def _archive(found: list[Source]) -> Iterator[bytes]:
    compressor = zlib.compressobj(COMPRESSION_LEVEL)
    yield compressor.compress(encode_list([Entry(each.name, each.size, each.executable) for each in found]))
    for source in found:
        for part in _parts(source):
            yield compressor.compress(part)
    yield compressor.flush()


def _parts(source: Source) -> Iterator[bytes]:
    """A file's content, a little of it at a time: a package's library may be larger than this machine's memory."""
    left = source.size
    try:
        with open(source.path, "rb") as file:
            # One byte more than there should be, to see whether it is.
            while part := file.read(min(_PART_BYTES, left + 1)):
                left -= len(part)
                if left < 0:
                    break
                yield part
    except OSError as error:
        raise BadBundle(f"cannot read {source.name}: {error.strerror} (mend its permissions)") from None
    if left != 0:
        raise BadBundle(f"{source.name} changed while it was read (deploy again)")
