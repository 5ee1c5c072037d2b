"""Where the keeper is: the controller's word, kept by an agent for its next connect, and for its next start.

An agent may not write in the home; it keeps the signed notice in its own folder, and at its start, while it still has
its rights, what is there is believed like one that has just come. By then the folder is another user's: root reads
there no more than a file may hold.
"""

from __future__ import annotations

import logging
from pathlib import Path

from motes import files
from motes.agent.trust import Trust
from motes.bus import subjects
from motes.bus.connection import Connection, Message
from motes.errors import MotesError, Untrusted
from motes.home import Home, servers_of

NOTICE = "keeper.notice"
"""In the agent's folder (see motes.supervisor.succession)."""
MOST_BYTES = 64 * 2**10

_log = logging.getLogger("motes.agent")


class Following:
    """The ears of one agent for this."""

    def __init__(self, connection: Connection, trust: Trust, folder: Path) -> None:
        self._connection = connection
        self._trust = trust
        self._file = folder / NOTICE
        self._serial = _serial_of(self._file, trust)

    def on_notice(self, message: Message) -> None:
        """Somebody says where the keeper is. The next connect goes there; this connection stays while it can."""
        try:
            notice = self._trust.notice(message.data)
            if notice.serial > self._serial:
                self._connection.lead_to(servers_of(notice.addresses), notice.certificate)
                self._serial = notice.serial
                files.replace(self._file, message.data, synced=True)
        except Untrusted as error:
            _log.warning("a notice was refused: %s", error)
            return
        except OSError as error:
            _log.warning("where the keeper is could not be kept: %s", error)
        if message.reply.startswith(subjects.inbox("")):
            self._connection.publish(message.reply, b"")


def _serial_of(file: Path, trust: Trust) -> int:
    try:
        return trust.notice(files.read_foreign(file, MOST_BYTES)).serial
    except (OSError, Untrusted):
        return 0


def adopt(home: Home, name: str, trust: Trust) -> None:
    """Before a machine that has joined starts an agent: believe what its last one was told."""
    file = home.host(name) / NOTICE
    if not home.keeper_file.exists():
        return  # The keeper is here.
    try:
        notice = trust.notice(files.read_foreign(file, MOST_BYTES))
        home.follow(notice.addresses, notice.certificate, notice.serial)
    except FileNotFoundError:
        return
    except (OSError, MotesError) as error:
        _log.warning("what was heard of the keeper cannot be used: %s", error)
