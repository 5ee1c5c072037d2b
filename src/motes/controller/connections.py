"""The connections of one account: heard of, listed at all servers, and ended, over the servers' own account."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable, Iterable

import msgspec

from motes.bus import notices
from motes.bus.connection import Connection, Message
from motes.bus.notices import Session
from motes.errors import MotesError, Unavailable

ANSWER_TIMEOUT_S = 2.0
QUIET_S = 0.4
"""So long after the last answer no other server is waited for: how many there are, nobody knows for certain."""
PAGE = 500
"""Connections in one answer; each has a token of about 2 KiB."""


class Connections:
    """`open`, then they can be listed and ended; `watch` to hear of them."""

    def __init__(self, system: Connection, account: str) -> None:
        self._system = system
        self._account = account
        self._numbers = itertools.count()
        self._inbox = f"{system.inbox}.list."
        self._answers: dict[str, asyncio.Queue[Message]] = {}
        """By the subject that was named to the servers."""

    @classmethod
    async def open(cls, system: Connection, account: str) -> Connections:
        """Those of the account with that public key, as NATS writes it."""
        connections = cls(system, account)
        await system.subscribe(connections._inbox + "*", connections._take_answer)
        return connections

    async def watch(
        self, on_begun: Callable[[Session], None], on_ended: Callable[[Session], None], on_unsure: Callable[[], None]
    ) -> None:
        """Hear of each that begins and ends from now on; `on_unsure` when some were not heard of."""
        self._system.on_reconnected = on_unsure
        begun, ended = notices.connects(self._account), notices.disconnects(self._account)
        await self._system.subscribe(begun, lambda message: on_begun(notices.told(message.data)))
        await self._system.subscribe(ended, lambda message: on_ended(notices.told(message.data)))

    async def by_server(self) -> AsyncIterator[list[Session]]:
        """Those of each server as soon as it has told all. Raises Unavailable when no server answers."""
        found: dict[str, list[Session]] = {}
        offset, wanted = 0, None
        while wanted is None or wanted:
            have_more: set[str] = set()
            async for server, sessions in self._answers_to(offset, wanted):
                found.setdefault(server, []).extend(sessions)
                if len(sessions) == PAGE:
                    have_more.add(server)
                else:
                    yield found.pop(server)
            offset, wanted = offset + PAGE, have_more
        for sessions in found.values():
            yield sessions

    async def end(self, sessions: Iterable[Session]) -> bool:
        """Have their servers end them; whether all of these have said that they are no more."""
        asked = [self._end(session) for session in sessions]
        return all(await asyncio.gather(*asked))

    async def _end(self, session: Session) -> bool:
        try:
            # That there is no such connection any more is an answer, too.
            question = msgspec.json.encode({"cid": session.number})
            await self._system.request(notices.kick(session.server), question, ANSWER_TIMEOUT_S)
        except MotesError:
            return False
        return True

    async def _answers_to(self, offset: int, wanted: set[str] | None) -> AsyncIterator[tuple[str, list[Session]]]:
        """A page of each server, by its id, until those in `wanted` have answered; with None, until it is quiet."""
        subject = f"{self._inbox}{next(self._numbers)}"
        answers = self._answers[subject] = asyncio.Queue()
        heard: set[str] = set()
        try:
            self._system.publish(notices.LIST, notices.question(self._account, PAGE, offset), subject)
            while wanted is None or wanted - heard:
                async with asyncio.timeout(QUIET_S if heard else ANSWER_TIMEOUT_S):
                    message = await answers.get()
                server, sessions = notices.listed(message.data)
                heard.add(server)
                yield server, sessions
        except (TimeoutError, msgspec.DecodeError):
            if not heard or not self._system.connected:
                raise Unavailable("the servers of NATS do not say who is connected") from None
        finally:
            del self._answers[subject]

    def _take_answer(self, message: Message) -> None:
        if (answers := self._answers.get(message.subject)) is not None:
            answers.put_nowait(message)
