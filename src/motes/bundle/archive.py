"""The format of a bundle: what its bytes mean. Packing writes it, unpacking trusts none of it.

    zlib stream of:   4 bytes length of the list, big-endian
                      the list: msgpack [[name, size, executable], ...], sorted by name
                      the contents of the files, in the order of the list

Not tar: links, devices, owners and times cannot be said at all, the list can be judged before anything is
written, and equal sources give equal bytes.
"""

from __future__ import annotations

import struct
from typing import Annotated

import msgspec

from motes.bundle.sources import LAYER, MAX_NAME_BYTES

LENGTH = struct.Struct(">I")

COMPRESSION_LEVEL = 1
"""Fast: bundles are packed at each change of a source in `motes dev`."""


class Entry(msgspec.Struct, frozen=True, array_like=True):
    """A file in a bundle."""

    name: Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_NAME_BYTES)]
    size: Annotated[int, msgspec.Meta(ge=0, le=LAYER.file_bytes)]
    executable: bool


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Annotated[list[Entry], msgspec.Meta(max_length=LAYER.files)])


def encode_list(entries: list[Entry]) -> bytes:
    """The list with its length before it."""
    data = _encoder.encode(entries)
    return LENGTH.pack(len(data)) + data


def decode_list(data: bytes) -> list[Entry]:
    """The entries of a list without its length. Raises ValueError when it is no list of at most LAYER.files files."""
    try:
        entries: list[Entry] = _decoder.decode(data)
    except msgspec.MsgspecError as error:
        raise ValueError(str(error)) from None
    return entries
