"""The callers whom nobody serves any more although NATS goes on letting them in, by name: the controller's signed word.

Where the keeper runs its own nats-server that lets them in no more, and there are none.
"""

from __future__ import annotations

import contextlib

import msgspec

from motes.errors import Untrusted
from motes.grants.keys import Key, Tag, sign, verify
from motes.model.bounds import UNREADABLE, Epoch
from motes.model.release import Signed

_signed = msgspec.msgpack.Decoder(Signed)


class Names(msgspec.Struct, frozen=True):
    """Of two lists the one with the higher number counts."""

    names: frozenset[str]
    serial: Epoch


_names = msgspec.msgpack.Decoder(Names)


def say(key: Key, names: frozenset[str], serial: int) -> bytes:
    """What hosts and the gateway are told."""
    return msgspec.msgpack.encode(sign(key, Tag.SHUT, msgspec.msgpack.encode(Names(names, serial))))


class ShutOut:
    """What one of them has heard. `controller` is the public key that it believes."""

    def __init__(self, controller: bytes) -> None:
        self._controller = controller
        self._serial = -1
        self.names: frozenset[str] = frozenset()

    def hear(self, data: bytes) -> None:
        """What is not the controller's word, or an earlier one, changes nothing."""
        with contextlib.suppress(Untrusted, *UNREADABLE):
            told = _names.decode(verify(_signed.decode(data), Tag.SHUT, (self._controller,)))
            if told.serial > self._serial:
                self.names, self._serial = told.names, told.serial
