"""How many connections a user has: nats-server bounds them only all together, and then whoever comes first has them.

Who holds an invite or a caller's key could else keep everybody out, and the owner who would withdraw it first of all.
The server's notices say when somebody may have too many; its own list then says who has, and the newest are ended.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from typing import Any

import msgspec

from motes.bus.connection import Connection, Message
from motes.bus.notices import connects, disconnects, user_in
from motes.controller.slots import kind_of
from motes.tasks import Tasks

MOST = {"guest": 2, "host": 16, "caller": 64}
"""Connections of one user; this machine's own programs have as many as they like."""
LIST = "$SYS.REQ.SERVER.PING.CONNZ"
LIST_TIMEOUT_S = 5.0
PAGE = 500
"""Connections in one answer; each has a token of about 2 KiB."""
PAUSE_S = 0.25
"""Between two looks at the list."""

_log = logging.getLogger("motes.controller")


class Crowd:
    """Watches the connections of one account over the server's own."""

    def __init__(self, system: Connection, account: str) -> None:
        self._system = system
        self._account = account
        self._about: Counter[str] = Counter()
        """By user; what was not heard is put right by each look at the list."""
        self._tasks = Tasks("crowd")
        self._looks = False

    async def start(self) -> None:
        """Watch from now on; who came before is looked at as well. Raises Unavailable."""
        await self._system.subscribe(connects(self._account), lambda message: self._note(message, 1))
        await self._system.subscribe(disconnects(self._account), lambda message: self._note(message, -1))
        self._look_soon()

    async def close(self) -> None:
        self._tasks.cancel()
        await self._tasks.wait()

    def _note(self, message: Message, change: int) -> None:
        user = user_in(message.data)
        self._about[user] += change
        if self._about[user] <= 0:
            del self._about[user]
        if change > 0 and self._about[user] > most_of(user):
            self._look_soon()

    def _look_soon(self) -> None:
        if not self._looks:
            self._looks = True
            self._tasks.spawn(self._look())

    async def _look(self) -> None:
        try:
            server, users = await self._list()
            # The server does nothing that it could not answer; the next look says what came of it.
            unread = f"{self._system.inbox}.request.unread"
            for cid in too_many(users):
                self._system.publish(f"$SYS.REQ.SERVER.{server}.KICK", msgspec.json.encode({"cid": cid}), unread)
            self._about = Counter(users.values())
            for user, count in self._about.items():
                if count > most_of(user):
                    _log.warning("user %r had %d connections; more than %d are ended", user, count, most_of(user))
        except Exception as error:
            # Whatever it was: the next look must not be kept from being taken.
            _log.warning("the list of connections could not be had: %r", error)
        await asyncio.sleep(PAUSE_S)
        self._looks = False
        if any(count > most_of(user) for user, count in self._about.items()):
            self._look_soon()

    async def _list(self) -> tuple[str, dict[int, str]]:
        """The server's id, and the user of each connection by its number, the oldest first."""
        users: dict[int, str] = {}
        while True:
            wanted = {"acc": self._account, "auth": True, "limit": PAGE, "offset": len(users)}
            answer = await self._system.request(LIST, msgspec.json.encode(wanted), LIST_TIMEOUT_S)
            told: dict[str, Any] = msgspec.json.decode(answer)["data"]
            page = told.get("connections") or []
            users |= {int(each["cid"]): user_in(msgspec.json.encode({"client": each})) for each in page}
            if len(page) < PAGE:
                return str(told["server_id"]), dict(sorted(users.items()))


def most_of(user: str) -> float:
    """How many connections this user may have."""
    return MOST.get(kind_of(user), float("inf"))


def too_many(users: dict[int, str]) -> list[int]:
    """The numbers of the connections that are over their user's limit: those that came last."""
    seen: Counter[str] = Counter()
    found: list[int] = []
    for cid, user in users.items():
        seen[user] += 1
        if seen[user] > most_of(user):
            found.append(cid)
    return found
