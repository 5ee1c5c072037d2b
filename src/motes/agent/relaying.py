"""Calls of this host's instances that another host is to run: sent to the gateway, which routes them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from motes.agent.core.effects import Relay, RelayAwait, RelayCancel, RelayMore
from motes.bus import subjects
from motes.bus.connection import Message
from motes.errors import TooLarge
from motes.model.call import failed, pack_more, pack_request, unpack_reply

if TYPE_CHECKING:
    from motes.agent.service import Agent


class Relaying:
    """Between one agent's core and the gateway; motes.gateway.relay is the other side."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent
        self._prefix = f"{agent.connection.inbox}.call."

    async def start(self) -> None:
        """Hear the answers. Raises Unavailable."""
        await self._agent.connection.subscribe(self._prefix + "*", self._on_reply)

    def send(self, effect: Relay) -> None:
        app, _, workload = effect.address.partition(".")
        request = pack_request(effect.call_id, effect.budget_s, effect.body, effect.context)
        subject = subjects.relayed_call(self._agent.host, app, workload)
        agent = self._agent
        try:
            has_left = agent.connection.publish(subject, request, self._prefix + effect.call_id.hex())
        except TooLarge as error:
            agent.feed(agent.machine.on_relayed(effect.call_id, failed(error), agent.now()))
            return
        if not has_left:
            agent.feed(agent.machine.on_not_relayed(effect.call_id, agent.now()))

    def cancel(self, effect: RelayCancel) -> None:
        self._agent.connection.publish(subjects.relayed_cancel(self._agent.host), effect.call_id)

    def more(self, effect: RelayMore) -> None:
        self._agent.connection.publish(subjects.relayed_more(self._agent.host), pack_more(effect.call_id, effect.count))

    def wait(self, effect: RelayAwait) -> None:
        subject = subjects.relayed_await(self._agent.host)
        self._agent.connection.publish(subject, b"".join(effect.call_ids), self._prefix.rstrip("."))

    def _on_reply(self, message: Message) -> None:
        agent = self._agent
        try:
            call_id = bytes.fromhex(message.subject[len(self._prefix) :])
            if message.no_responders:
                agent.feed(agent.machine.on_not_relayed(call_id, agent.now()))
            else:
                agent.feed(agent.machine.on_relayed(call_id, unpack_reply(message.data), agent.now()))
        except ValueError:
            return  # Not an answer to anything that was sent from here.
