"""How a host stands with its keeper, for its owner: whether it is connected, since when not, and why."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from motes.bus.connection import is_not_taken
from motes.errors import MotesError
from motes.model.units import format_seconds

if TYPE_CHECKING:
    from motes.agent.service import Agent

CONNECTING = "it is not connected to its keeper yet"
REMOVED = "its keeper has removed it, and takes its key no more (motes leave, then join with a new invite)"
UNHEARD = "its keeper has not taken it up yet"


class Standing:
    """Of one host, from its agent's start on: before there is an Agent, `trouble` is what its connects have shown."""

    def __init__(self, has_joined: bool) -> None:
        self.agent: Agent | None = None
        self.trouble: MotesError | None = None
        self._has_joined = has_joined
        self._began_at = asyncio.get_running_loop().time()

    def told(self) -> dict[str, Any]:
        """`{"connected", "away_s", "trouble"}`; the last is empty where nothing is wrong."""
        connection = None if self.agent is None else self.agent.connection
        if self.agent is not None and connection is not None and connection.connected:
            membership = self.agent.membership
            return {
                "connected": True,
                "away_s": 0.0,
                "trouble": "" if membership.is_host else membership.said or UNHEARD,
            }
        trouble, since = (
            (self.trouble, self._began_at) if connection is None else (connection.trouble, connection.lost_at)
        )
        away_s = round(asyncio.get_running_loop().time() - since, 1)
        return {"connected": False, "away_s": away_s, "trouble": self._in_words(trouble, away_s)}

    def _in_words(self, trouble: MotesError | None, away_s: float) -> str:
        if trouble is None:
            return CONNECTING
        if self._has_joined and is_not_taken(trouble):
            return REMOVED
        return f"its keeper is not there, for {format_seconds(round(away_s))} now: {trouble.message}"
