"""What an agent hears over the bus: what the keeper has it hold, calls and what belongs to them, and who asks.

NATS vouches for the sender of a call, whose name is the last token of its subject; what a message says is his choice.
An answer must reach an inbox: any other subject could be one that only this host may write to.
"""

from __future__ import annotations

import contextlib
import logging
from pathlib import Path
from typing import TYPE_CHECKING

from motes.agent.core.pool import Call
from motes.agent.following import Following
from motes.agent.trust import Trust
from motes.bus import subjects
from motes.bus.connection import Message, Subscription
from motes.errors import BadBundle, Refused, TooLarge, Untrusted
from motes.grants.shut_out import ShutOut
from motes.model.call import Heard, failed, unpack_asked, unpack_more, unpack_request
from motes.model.caller import caller_of
from motes.model.keeper import encode_error

if TYPE_CHECKING:
    from motes.agent.service import Agent

REPLY_PREFIX = "_INBOX."
_log = logging.getLogger("motes.agent")


class Hearing:
    """The ears of one agent. `start`, and `take_part` as soon as the keeper takes it for the host."""

    def __init__(self, agent: Agent, trust: Trust, folder: Path) -> None:
        self._agent = agent
        self._trust = trust
        self._following = Following(agent.connection, trust, folder)
        self._shut_out = ShutOut(trust.controller)
        self._of_the_host: list[Subscription] = []

    async def start(self) -> None:
        """Hear what the keeper says. Raises Unavailable."""
        host = self._agent.host
        for subject in (subjects.lease(host), subjects.notice(host), subjects.shut(host)):
            await self._agent.connection.subscribe(subject, self._on_message)

    async def take_part(self) -> None:
        """Hear what is for the host, too: calls, questions and tunnels. Raises Unavailable."""
        for subject in subjects.for_host(self._agent.host):
            self._of_the_host.append(await self._agent.connection.subscribe(subject, self._on_message))
        self._of_the_host += await self._agent.tunnels.start()

    def stop(self) -> None:
        """Another is the host: what comes from now on is the other's to answer."""
        for subscription in self._of_the_host:
            subscription.unsubscribe()

    def _on_message(self, message: Message) -> None:
        verb = message.subject.split(".", 3)[2]
        if verb == "call":
            self._on_call(message)
        elif verb == "lease":
            self._on_lease(message.data)
        elif verb == "cancel":
            self._on_cancel(message.data)
        elif verb == "more":
            self._on_more(message)
        elif verb == "keeper":
            self._following.on_notice(message)
        elif verb == "shut":
            self._shut_out.hear(message.data)
        elif message.reply.startswith(REPLY_PREFIX):
            if verb == "ps":
                self._agent.connection.publish(message.reply, self._agent.telling.instances())
            elif verb == "inspect":
                self._agent.tasks.spawn(self._inspect(message))

    def _on_call(self, message: Message) -> None:
        if not message.reply.startswith(REPLY_PREFIX):
            return
        try:
            call_id, budget_s, body, context = unpack_request(message.data)
        except ValueError:
            return
        agent = self._agent
        now = agent.now()
        address, _, user = message.subject.split(".", 3)[3].rpartition(".")
        if user in self._shut_out.names:
            agent.sending.answer(message.reply, failed(Refused(f"the keys of caller {user!r} were withdrawn")).pack())
            return
        if agent.spans is not None:
            context = agent.spans.arrived(message.reply, address, context)
        caller = caller_of(user, context.on_behalf)
        call = Call(call_id, address, body, now, now + budget_s, [message.reply], context=context, caller=caller)
        agent.feed(agent.machine.on_call(call, now))

    def _on_more(self, message: Message) -> None:
        """The caller takes more of a result, or asks after its call."""
        agent = self._agent
        with contextlib.suppress(ValueError):
            call_id, count = unpack_more(message.data)
            if count:
                if not agent.large.send(call_id):
                    agent.feed(agent.machine.on_more(call_id, count))
            elif message.reply.startswith(REPLY_PREFIX):
                self._on_asked_after(call_id, unpack_asked(message.data), message.reply)

    def _on_asked_after(self, call_id: bytes, heard: Heard, reply: str) -> None:
        """This host was cut off, and the caller does not know whether its call came here before that."""
        agent = self._agent
        if agent.large.keeps(call_id):
            return
        outcome = agent.machine.on_asked_after(call_id, heard.number if heard.boot == agent.telling.boot else 0)
        if outcome is not None:
            agent.sending.answer(reply, outcome.pack())

    def _on_cancel(self, call_id: bytes) -> None:
        agent = self._agent
        agent.large.drop(call_id)
        call = agent.machine.calls.get(call_id)
        if call is not None and agent.spans is not None:
            agent.spans.answered(call.replies, None)
        agent.feed(agent.machine.on_cancel(call_id, agent.now()))

    def _on_lease(self, data: bytes) -> None:
        try:
            lease = self._trust.lease(data)
        except Untrusted as error:
            _log.warning("a lease was refused: %s", error)
            return
        if self._agent.membership.heeds(lease):
            self._agent.feed(self._agent.machine.on_lease(lease, self._agent.now()))

    async def _inspect(self, message: Message) -> None:
        connection, answer = self._agent.connection, await self._agent.inspection.answer(message.data)
        try:
            connection.publish(message.reply, answer)
        except TooLarge as error:
            # Else whoever deploys would wait, and hear nothing.
            why = BadBundle(f"what the app's functions take and give is too much to be told: {error.message}")
            connection.publish(message.reply, encode_error(why))
