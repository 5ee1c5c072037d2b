"""Where the keeper is, when it has moved: told to each host that is heard, and to who asks. Who it may move to."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from motes.bus import subjects
from motes.errors import BadInput, Unavailable
from motes.grants.keys import KEY_BYTES, Key, Tag, sign
from motes.model.invite import MOST_ADDRESSES
from motes.model.names import is_name
from motes.model.succession import AskSuccessor, Notice, Successor

if TYPE_CHECKING:
    from motes.controller.service import Controller

EPOCH_BITS = 32
"""Epochs of one controller; its generation stands above them, so a later controller's epochs are all higher."""


class Succession:
    """The part of one controller that knows of other keepers."""

    def __init__(self, controller: Controller, key: Key) -> None:
        self._controller = controller
        self._key = key
        self._notice: bytes | None = None
        """Empty where the keeper has not moved; None as long as that is not known."""
        self._told: dict[str, str] = {}
        """By host, the start of its agent that was told."""

    @property
    def generation(self) -> int:
        """This controller's: a later one's is higher, on whatever machine."""
        return self._controller.core.state.first_epoch >> EPOCH_BITS

    def tell(self, addresses: tuple[str, ...], certificate: bytes) -> None:
        """From now on say where the keeper is, when it has moved, or the NATS that it uses has."""
        self._notice = b""
        if addresses:
            notice = Notice(addresses[:MOST_ADDRESSES], certificate, self.generation)
            self._notice = msgspec.msgpack.encode(sign(self._key, Tag.NOTICE, msgspec.msgpack.encode(notice)))

    def on_heard(self, host: str, boot: str) -> None:
        """A host told of itself. This machine's own find the keeper beside them."""
        if self._notice and self._told.get(host) != boot and self._controller.admission.is_elsewhere(host):
            self._told[host] = boot
            self._controller.connection.publish(subjects.notice(host), self._notice)

    def on_gone(self, host: str) -> None:
        """It may not have heard it."""
        self._told.pop(host, None)

    def forget(self) -> None:
        """Of hosts that are not listed any more: without a word of their connections' ends, as in a NATS of which the
        keeper knows nothing more, nobody says that they are gone."""
        known = self._controller.core.state.hosts
        self._told = {host: boot for host, boot in self._told.items() if host in known}

    async def where(self, sender: str, serial: int) -> bytes:
        """A signed Notice for who knows those up to `serial`; nothing where he knows it all. Raises Unavailable."""
        if self._notice is None:
            raise Unavailable("the controller is about to start; ask again")
        return self._notice if self.generation > serial else b""

    async def successor(self, sender: str, question: AskSuccessor) -> Successor:
        """Who is to be the keeper. Raises NotFound and BadInput."""
        if wrong := [name for name, key in question.own.items() if not is_name(name) or len(key) != KEY_BYTES]:
            raise BadInput(f"{wrong[0][:80]!r} is no host of the keeper's machine")
        public = await self._controller.admission.successor(question.host, question.own)
        hosts = sorted(name for name, host in self._controller.core.state.hosts.items() if host.lives)
        return Successor(public, self.generation, hosts)
