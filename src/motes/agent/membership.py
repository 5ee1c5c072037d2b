"""Whether this agent is the host whose name it has: what the keeper answers, and what leases say.

Of two agents in one name, as where a home was copied, the keeper chooses one, and every lease says which. The other
ends and is not started again: should both go on, each call would run twice.
"""

from __future__ import annotations

import asyncio
import logging
import random
from typing import TYPE_CHECKING

import msgspec

from motes.bus import subjects
from motes.errors import MotesError
from motes.model.host import DISMISSED, Lease
from motes.model.wire import Welcome

if TYPE_CHECKING:
    from motes.agent.service import Agent

ANSWER_TIMEOUT_S = 5.0
AWAY_RETRY_S, AWAY_RETRY_MOST_S = 0.01, 0.5
"""How long to wait where nobody answered: longer each time, and each host differently, but a keeper that is back shows
all its hosts within two seconds."""
REFUSED_RETRY_S = 0.25
TAKEN_S = 5.0
"""An agent whose name is another's for this long ends. One that was killed is missed sooner."""

_log = logging.getLogger("motes.agent")


class Membership:
    """Of one agent. It is the host from the keeper's first welcome until `displaced`."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent
        self.is_host = False
        self.displaced = asyncio.Event()
        """Another agent is the host."""
        self._newest_epoch = 0
        self.said = ""
        """Why the keeper gives this host no work, as it said last."""
        self._taken_since: float | None = None
        self._joining: asyncio.Task[None] | None = None

    def join_again(self) -> None:
        """The connection is another: what is still being asked was asked over the one before."""
        if self._joining is not None:
            self._joining.cancel()
        self._joining = self._agent.tasks.spawn(self.join())

    async def join(self) -> None:
        """Wait until the keeper takes this agent for the host; it may be away for long."""
        pause_s = AWAY_RETRY_S
        while not self.displaced.is_set():
            welcome = await self._ask()
            if welcome is None:
                await asyncio.sleep(pause_s * random.uniform(0.5, 1.0))
                pause_s = min(pause_s * 1.5, AWAY_RETRY_MOST_S)
            elif welcome.refusal:
                self._note_refusal(welcome)
                await asyncio.sleep(REFUSED_RETRY_S)
            else:
                self._agent.clock.hear(welcome.now)
                await asyncio.sleep(welcome.after_s)
                self.is_host = True
                return

    async def _ask(self) -> Welcome | None:
        """None when nobody answers."""
        agent = self._agent
        try:
            answer = await agent.connection.request(subjects.state(agent.host), agent.telling.state(), ANSWER_TIMEOUT_S)
            return msgspec.msgpack.decode(answer, type=Welcome) if answer else Welcome()
        except (MotesError, msgspec.DecodeError):
            return None

    def _note_refusal(self, welcome: Welcome) -> None:
        if welcome.refusal != self.said:
            self.said = welcome.refusal
            _log.error("the keeper gives this host no work: %s", welcome.refusal)
        now = self._agent.now()
        self._taken_since = (self._taken_since or now) if welcome.is_taken else None
        if self._taken_since is not None and now - self._taken_since >= TAKEN_S:
            self.displaced.set()

    def heeds(self, lease: Lease) -> bool:
        """Whether a lease, of which it is sure who signed it, is for this agent. One for another may end this one."""
        if lease.boot in ("", self._agent.telling.boot):
            self._newest_epoch = max(self._newest_epoch, lease.epoch)
            return bool(lease.app)
        # An old one says nothing new, whoever sent it again.
        if self.is_host and lease.epoch > self._newest_epoch and not self.displaced.is_set():
            if lease.boot == DISMISSED:
                _log.error("host %r was removed from its cluster, so this agent ends", lease.host)
            else:
                _log.error("another agent is host %r now, so this one ends (was this home copied?)", lease.host)
            self.displaced.set()
        return False
