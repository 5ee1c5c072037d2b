"""Callers whose keys were withdrawn where NATS goes on letting them in: whoever could serve them knows their names.

Said again and again, for who was cut off has missed it: to a host with each of its reports that is taken, to the
gateway twice a second.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from motes.bus import subjects
from motes.controller.members import CallerKeys
from motes.grants import shut_out
from motes.grants.keys import Key

if TYPE_CHECKING:
    from motes.controller.service import Controller


class Withdrawn:
    """Their names; none where the keeper can have NATS shut them out."""

    def __init__(self, controller: Controller, key: Key) -> None:
        self._controller = controller
        self._key = key
        self.names: frozenset[str] = frozenset()
        self._said = b""

    async def load(self) -> None:
        """Those from before this controller. Raises Unavailable."""
        for name, data in (await self._controller.store.callers()).items():
            known = msgspec.msgpack.decode(data, type=CallerKeys)
            if known.withdrawn and not known.issued:
                self.add(name)

    def add(self, name: str) -> None:
        """One more, whom everybody is told of at once."""
        self.names |= {name}
        self._said = shut_out.say(self._key, self.names, self._controller.core.state.next_epoch())
        self.tick()
        for host in self._controller.core.state.hosts:
            self.on_heard(host)

    async def answer(self, sender: str, question: None) -> bytes:
        """For the gateway at its start: what it would be told next; empty when there are none."""
        return self._said

    def tick(self) -> None:
        """Tell the gateway."""
        if self._said:
            self._controller.connection.publish(subjects.SHUT, self._said)

    def on_heard(self, host: str) -> None:
        """Tell a host."""
        if self._said:
            self._controller.connection.publish(subjects.shut(host), self._said)
