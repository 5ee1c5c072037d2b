"""What the machine's owner decides: his terms as they change, looked after once a second, and carried out.

He speaks through the supervisor, on a socket that it alone holds the other end of: no caller, no guest and no keeper
can say anything here. hosts.json has the same for the next start.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import socket
from collections.abc import Mapping
from typing import Any

import msgspec

from motes.agent.core.lending import Lending, Signs
from motes.agent.service import Agent
from motes.agent.sources import Said, Sources
from motes.agent.standing import CONNECTING, Standing
from motes.model.host import Offer
from motes.model.terms import Terms, offer_of, terms_of
from motes.supervised import ORDER_LIMIT_BYTES

LOOK_S = 1.0
CLOSED_WITHIN_S = 10.0
"""A process that the kernel does not let end is not waited for any longer: its owner is to be heard meanwhile."""
ENDS = "ends"
"""The key under which he says why he ends this host."""
PRETENDED = "pretended"
"""The key in hosts.json under which tests say Signs that then count instead of the machine's own."""
_log = logging.getLogger("motes.agent")


class Word(msgspec.Struct, frozen=True):
    """What the owner said last, as hosts.json has it."""

    offer: Offer
    terms: Terms
    pretended: Signs | None = None


def word_of(entry: Mapping[str, Any], unsaid: Mapping[str, Any]) -> Word:
    """A host's entry of hosts.json; `unsaid` counts of what it does not say. Raises ValueError."""
    pretended = entry.get(PRETENDED)
    try:
        signs = None if pretended is None else msgspec.convert(pretended, Signs)
        return Word(offer_of({**unsaid, **entry}), terms_of(entry), signs)
    except msgspec.ValidationError as error:
        raise ValueError(str(error)) from None


class Owner:
    """Hears the owner from its making on; `follow` does as he says."""

    def __init__(self, word: Word, unsaid: Mapping[str, Any], orders: socket.socket | None, standing: Standing) -> None:
        self.word = word
        self._standing = standing
        self.ends = ""
        """Why he ends this host, when he has said so."""
        self._unread = ""
        """Why the last that he said cannot be done."""
        self._unsaid = unsaid
        self._orders = orders
        self._why = CONNECTING
        self._lending = Lending()
        # What the supervisor has started is Motes's own, and not what keeps the owner's machine busy.
        self._sources = Sources(os.getpid() if orders is None else os.getppid())
        self._said: list[Said] = []
        self._was_ordered = asyncio.Event()
        self._agent: Agent | None = None
        if orders is not None:
            asyncio.get_running_loop().add_reader(orders, self._hear, orders)

    # ------------------------------------------------------------------ what he says, and is told

    def _hear(self, orders: socket.socket) -> None:
        try:
            data = orders.recv(ORDER_LIMIT_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            asyncio.get_running_loop().remove_reader(orders)
            return
        try:
            words = json.loads(data)
            if ENDS in words:
                self.ends = str(words[ENDS])
                return
            self.word, self._unread = word_of(words, self._unsaid), ""
        except (ValueError, TypeError, AttributeError) as error:
            self._unread = f"new terms cannot be read, the old ones stay: {error}"
            _log.warning("%s", self._unread)
        self._was_ordered.set()
        if self._agent is None:
            self._tell()

    def _tell(self) -> None:
        """Answer what he has said with what is so."""
        if self._orders is None:
            return
        keeper = self._standing.told()
        told = {
            "away": keeper["trouble"] or self._why,
            "keeper": keeper,
            "sources": [each._asdict() for each in self._said],
            **({"error": self._unread} if self._unread else {}),
        }
        with contextlib.suppress(OSError):
            self._orders.send(json.dumps(told).encode())

    # ------------------------------------------------------------------ what follows

    async def begin(self, agent: Agent) -> None:
        """The first look, before the host says for the first time what it lends."""
        self._agent = self._standing.agent = agent
        if await self._look(agent):
            self._prepare(agent)
            # Nothing runs yet, and nobody is to be told: the first report says it.
            agent.machine.on_withdraw(self._why, agent.now())

    async def follow(self) -> None:
        """Look again and again, and as soon as he says something."""
        assert self._agent is not None
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_S):
                    await self._was_ordered.wait()
            try:
                await self._do(self._agent, await self._look(self._agent))
            except Exception:
                # A mistake in one look must not end all later ones.
                _log.exception("the agent could not look after its owner's terms")

    async def _look(self, agent: Agent) -> str:
        """Lend what he has said by now; returns why the host lends nothing, by what is so now (empty: it lends)."""
        was_ordered = self._was_ordered.is_set()
        self._was_ordered.clear()
        terms, pretended = self.word.terms, self.word.pretended
        signs = pretended or await self._read(terms)
        before, self._why = self._why, self._lending.look(terms, signs, asyncio.get_running_loop().time())
        if self._why != before:
            _log.info("this host lends%s", f" nothing: {self._why}" if self._why else "")
        if was_ordered:
            agent.lend(self.word.offer)
            self._tell()
        return self._why

    async def _read(self, terms: Terms) -> Signs:
        signs, self._said = await asyncio.to_thread(self._sources.read, idle=terms.idle, charging=terms.charging)
        return signs

    async def _do(self, agent: Agent, why: str) -> None:
        if why == agent.machine.away:
            return
        was_away = agent.machine.away
        self._prepare(agent)
        agent.feed(agent.machine.on_withdraw(why, agent.now()) if why else agent.machine.on_return())
        if why and not was_away:
            await self._withdraw(agent)

    def _prepare(self, agent: Agent) -> None:
        """For what is no lease's: trials of apps, and the blank space."""
        agent.inspection.refuse(self._why)
        agent.spaces.keep_blank(not self._why)

    async def _withdraw(self, agent: Agent) -> None:
        """New calls have stopped; running ones have DRAIN_S. Then everything ends that takes memory."""
        agent.code.give_up()
        await agent.let_finish()
        agent.feed(agent.machine.on_free(agent.now()))
        agent.large.send_all()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLOSED_WITHIN_S):
                await agent.spaces.wait_until_closed()
