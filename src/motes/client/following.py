"""Where the keeper is, for programs that reach it from another machine: asked at each connect, beside all else.

Nobody waits for the answer. What is believed must be signed by the cluster's controller, newer than what was believed
before, and of the certificate that is known already: it leads to other addresses, and lets nobody else in.
"""

from __future__ import annotations

import asyncio
import logging

import msgspec

from motes.bus import subjects
from motes.bus.connection import Connection
from motes.errors import MotesError, TimedOut, Unavailable
from motes.home import Home, servers_of
from motes.model.keeper import decode_answer

TIMEOUT_S = 5.0
RETRY_S, RETRY_MAX_S = 0.5, 60.0
"""Between two questions to a keeper that does not answer, as one that has just moved: each wait is twice the last."""

_log = logging.getLogger("motes.client")


async def follow(home: Home, connection: Connection) -> None:
    """Ask until the keeper has answered, and keep where it is, for the next connect. Ends where the connection does."""
    wait_s = RETRY_S
    while connection.connected:
        try:
            believe(await _where(home, connection), home, connection)
            return
        except (Unavailable, TimedOut) as error:
            _log.debug("where the keeper is was not told: %s", error)
        except MotesError as error:
            # Also a keeper of an earlier version, which does not know the question.
            _log.debug("what was told of where the keeper is changes nothing: %s", error)
            return
        await asyncio.sleep(wait_s)
        wait_s = min(2 * wait_s, RETRY_MAX_S)


async def _where(home: Home, connection: Connection) -> bytes:
    subject = subjects.keeper(connection.user, "where")
    answer = await connection.request(subject, msgspec.msgpack.encode(home.followed()), TIMEOUT_S)
    return decode_answer(answer, bytes)


def believe(told: bytes, home: Home, connection: Connection) -> None:
    """Lead the next connect there, and those of other programs. Raises Untrusted."""
    if not told:
        return
    # What few are told costs the others nothing.
    from motes.grants.keys import load_public
    from motes.grants.notices import read_notice

    notice = read_notice(told, load_public(home.public_key("controller")))
    if notice.serial <= home.followed():
        return
    connection.lead_to(servers_of(notice.addresses), notice.certificate)
    try:
        home.follow(notice.addresses, notice.certificate, notice.serial)
    except Unavailable as error:
        _log.warning("where the keeper is now could not be kept: %s", error)
