"""Whose connections are ended: of a user those that are too many, and all of who was shut out where NATS lets him in.

nats-server bounds connections only all together, and then whoever comes first has them. Who holds an invite or a
caller's key could else keep everybody out, and the owner who would withdraw it first of all.
The servers' notices say when somebody may have too many; their own list then says who has, and the newest are ended.
Who was shut out comes back as often as he likes. He is ended each time, but not at once: so it costs little, and an
honest program can hear why.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Iterable, Mapping

from motes.bus.notices import Session
from motes.controller.connections import Connections
from motes.controller.slots import kind_of
from motes.errors import MotesError
from motes.tasks import Tasks

MOST = {"guest": 2, "host": 16, "caller": 64}
"""Connections of one user; this machine's own programs have as many as they like."""
PAUSE_S = 0.25
"""Between two looks at the list."""
STAY_S = 0.5
"""So long at most stays who was shut out and comes back."""
MOST_BACK = 1_000
"""Of those at a time; the list shows the others."""
LOOK_EVERY_S = 30.0
"""While anybody is shut out: a notice may be lost, as where servers were cut off from each other."""

Place = tuple[str, int]
"""A connection, by its server and what that calls it."""

_log = logging.getLogger("motes.controller")


class Crowd:
    """Watches the connections of one account, and ends those that must not be."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections
        self._about: dict[Place, str] = {}
        """Whose are there; what was not heard is put right by each look at the list."""
        self._counts: Counter[str] = Counter()
        """The same by user."""
        self._shut_out: dict[str, int] = {}
        self._back: dict[Place, Session] = {}
        """Who was shut out and has come back."""
        self._tasks = Tasks("crowd")
        self._looks = self._ends = False

    async def start(self) -> None:
        """Watch from now on; who came before is looked at as well. Raises Unavailable."""
        await self._connections.watch(self._on_begun, self._on_ended, self._look_soon)
        self._look_soon()
        self._tasks.spawn(self._look_now_and_then())

    async def close(self) -> None:
        self._tasks.cancel()
        await self._tasks.wait()

    def shut_out(self, keys: Mapping[str, int]) -> None:
        """End the connections of these as well from now on: by public key, as NATS writes it, with the Unix time until
        which its tokens are worth nothing."""
        for key, until in keys.items():
            self._shut_out[key] = max(until, self._shut_out.get(key, 0))

    async def look(self) -> bool:
        """End now whom the servers' list shows and who must not be there; whether all servers asked have done so."""
        before = tuple(self._about)
        sessions: list[Session] = []
        ends: list[asyncio.Task[bool]] = []
        try:
            async for told in self._connections.by_server():
                sessions += told
                ends.append(self._end(shut_out(told, self._shut_out)))
        except MotesError as error:
            _log.warning("the list of connections could not be had: %s", error)
            return False
        self._put_right(before, sessions)
        for user, count in Counter(session.user for session in sessions).items():
            if count > most_of(user):
                _log.warning("user %r had %d connections; more than %d are ended", user, count, most_of(user))
        # How many a user has shows only in the lists of all servers.
        ends.append(self._end(too_many(sorted(sessions, key=lambda session: session.began_at))))
        return all(await asyncio.gather(*ends))

    def _end(self, sessions: list[Session]) -> asyncio.Task[bool]:
        return self._tasks.spawn(self._connections.end(sessions))

    def _put_right(self, before: Iterable[Place], told: Iterable[Session]) -> None:
        """The servers tell of those; `before`: which were known when they were asked, and not those that began since.

        One that has ended since counts on until the next look: better one look more than a user with too many. A server
        that tells nothing has ended, as a rule, and nobody tells the ends of what it had.
        """
        for place in set(before) - {place_of(session) for session in told}:
            self._forget(place)
        for session in told:
            self._note(session)

    def _note(self, session: Session) -> None:
        if place_of(session) not in self._about:
            self._about[place_of(session)] = session.user
            self._counts[session.user] += 1

    def _forget(self, place: Place) -> None:
        if (user := self._about.pop(place, None)) is not None:
            self._counts[user] -= 1
            if not self._counts[user]:
                del self._counts[user]

    def _on_begun(self, session: Session) -> None:
        self._note(session)
        if self._counts[session.user] > most_of(session.user):
            self._look_soon()
        if not shut_out([session], self._shut_out):
            return
        if len(self._back) < MOST_BACK:
            self._back[place_of(session)] = session
        else:
            self._look_soon()
        if not self._ends:
            self._ends = True
            self._tasks.spawn(self._end_again())

    def _on_ended(self, session: Session) -> None:
        self._back.pop(place_of(session), None)
        self._forget(place_of(session))

    async def _end_again(self) -> None:
        await asyncio.sleep(STAY_S)
        back, self._back, self._ends = self._back, {}, False
        if not await self._connections.end(back.values()):
            self._look_soon()

    def _look_soon(self) -> None:
        if not self._looks:
            self._looks = True
            self._tasks.spawn(self._look())

    async def _look(self) -> None:
        try:
            await self.look()
        except Exception:
            # Whatever it was: the next look must not be kept from being taken.
            _log.exception("a look at the list of connections failed")
        await asyncio.sleep(PAUSE_S)
        self._looks = False
        if any(count > most_of(user) for user, count in self._counts.items()):
            self._look_soon()

    async def _look_now_and_then(self) -> None:
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            if self._shut_out:
                self._look_soon()


def place_of(session: Session) -> Place:
    """Where it is."""
    return session.server, session.number


def most_of(user: str) -> float:
    """How many connections this user may have."""
    return MOST.get(kind_of(user), float("inf"))


def too_many(sessions: Iterable[Session]) -> list[Session]:
    """Those of them, the oldest first, that are over their user's limit: those that came last."""
    seen: Counter[str] = Counter()
    found: list[Session] = []
    for session in sessions:
        seen[session.user] += 1
        if seen[session.user] > most_of(session.user):
            found.append(session)
    return found


def shut_out(sessions: Iterable[Session], keys: Mapping[str, int]) -> list[Session]:
    """Those whose key was shut out after their token was made, as nats-server compares the two for a revoked key.

    By key and not by name: whoever has the name now may be another.
    """
    return [session for session in sessions if session.issued_at <= keys.get(session.key, -1)]
