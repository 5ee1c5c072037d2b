"""The receipts that a host keeps on its own disk, and the batches for which it has none yet.

unsent              a signed batch in each line, in base64: what the keeper has not acknowledged, and some that it has
receipts-<number>   a signed receipt in each line, the oldest file first; of more than MOST_FILES the oldest is deleted

Lines are only added; one that was cut short by a crash is none. What cannot be written is kept in memory.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import logging
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from motes import files
from motes.errors import Untrusted
from motes.grants.receipts import digest, read_batch, read_signed
from motes.model.bounds import UNREADABLE
from motes.model.receipt import Receipt
from motes.model.release import Signed

MOST_UNSENT = 5_000
"""Batches that wait for the keeper; then the accounts are cut less often."""
FILE_BYTES = 4 * 2**20
MOST_FILES = 16
MOST_FILE_BYTES = 64 * 2**20
"""More than a host writes into one, also of what is unsent; who reads them may be another user than it."""
FOLDER = "receipts"
"""In a host's folder."""

_receipts = msgspec.msgpack.Decoder(Receipt)
_log = logging.getLogger("motes.grants")


class Kept:
    """What one host has kept under the key with the public key `public`."""

    def __init__(self, folder: Path, public: bytes) -> None:
        self._folder = folder
        self._unsent_file = folder / "unsent"
        self._lines = 0
        self._can_write = True
        self.unsent: deque[Signed] = deque()
        """The oldest first."""
        self.number, self.digest = 0, b""
        """Of the last batch, sent or not."""
        with self._writing():
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._recall(public)

    def _recall(self, public: bytes) -> None:
        """Find the end of this key's chain: in the newest file that has something of it, and in what is unsent."""
        for file in reversed(_files(self._folder)):
            batches = (_batch_of(data, public) for data in reversed(list(_lines(file))))
            if (last := next((each for each in batches if each is not None), None)) is not None:
                self._follow(last, public)
                break
        for data in _lines(self._unsent_file):
            self._lines += 1
            try:
                batch = read_signed(data)
                if read_batch(batch, public).number > self.number:
                    self._follow(batch, public)
                    self.unsent.append(batch)
            except Untrusted:
                continue  # Of an earlier key: nobody takes it any more.

    def _follow(self, batch: Signed, public: bytes) -> None:
        self.number, self.digest = read_batch(batch, public).number, digest(batch)

    @property
    def is_full(self) -> bool:
        """Whether so much is unsent that no more should be made."""
        return len(self.unsent) >= MOST_UNSENT

    def add(self, batch: Signed, number: int) -> None:
        """One more that the keeper has not seen."""
        self.number, self.digest = number, digest(batch)
        self.unsent.append(batch)
        self._lines += 1
        self._append(self._unsent_file, batch)

    def acknowledge(self, receipt: Signed) -> None:
        """The keeper has sent the receipt for the oldest that is unsent."""
        files = _files(self._folder)
        file = files[-1] if files else self._numbered(1)
        if _size(file) >= FILE_BYTES:
            file = self._numbered(_number(file) + 1)
            with self._writing():
                for old in files[: len(files) + 1 - MOST_FILES]:
                    old.unlink(missing_ok=True)
        self._append(file, receipt)
        self.drop()

    def drop(self) -> None:
        """The oldest that is unsent is so no more."""
        self.unsent.popleft()
        if not self.unsent or self._lines > 2 * MOST_UNSENT:
            self._rewrite()

    def replace(self, unsent: Sequence[Signed], number: int) -> None:
        """The unsent ones were signed anew, up to this number."""
        self.unsent = deque(unsent)
        self.number = number
        if unsent:
            self.digest = digest(unsent[-1])
        self._rewrite()

    def _rewrite(self) -> None:
        self._lines = len(self.unsent)
        unfinished = self._unsent_file.with_suffix(".new")
        with self._writing():
            unfinished.write_bytes(b"".join(map(_line, self.unsent)))
            unfinished.replace(self._unsent_file)

    def _append(self, file: Path, signed: Signed) -> None:
        with self._writing(), file.open("ab") as opened:
            opened.write(_line(signed))

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        """Where the disk is full the host works on; that is said once."""
        try:
            yield
        except OSError as error:
            if self._can_write:
                _log.warning("receipts of usage cannot be kept in %s: %s", self._folder, error)
            self._can_write = False
        else:
            self._can_write = True

    def _numbered(self, number: int) -> Path:
        return self._folder / f"receipts-{number:08}"


def read_all(folder: Path) -> Iterator[bytes]:
    """Every receipt that a host has kept there, as a Signed in MessagePack; what is none gives b""."""
    for file in _files(folder):
        yield from _lines(file)


def _files(folder: Path) -> list[Path]:
    return sorted(folder.glob("receipts-*"))


def _number(file: Path) -> int:
    number = file.name.partition("-")[2]
    return int(number) if number.isdigit() else 0


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except OSError:
        return 0


def _line(signed: Signed) -> bytes:
    # A line before it that was cut short must not take this one with it.
    return b"\n" + base64.b64encode(msgspec.msgpack.encode(signed)) + b"\n"


def _lines(file: Path) -> Iterator[bytes]:
    try:
        text = files.read_foreign(file, MOST_FILE_BYTES)
    except OSError:
        return
    for line in filter(None, text.split(b"\n")):
        try:
            yield base64.b64decode(line, validate=True)
        except binascii.Error:
            yield b""


def _batch_of(data: bytes, public: bytes) -> Signed | None:
    """The batch in a receipt, when it was signed with this key."""
    try:
        batch = _receipts.decode(read_signed(data).payload).batch
        read_batch(batch, public)
    except (Untrusted, *UNREADABLE):
        return None
    return batch
