"""CPU time by app, since the agent's start: of the spaces that are open, and of those that have ended."""

from __future__ import annotations

from typing import Protocol

MOST_ENDED = 10_000
"""Apps of which no space is open and whose time is remembered."""


class Counted(Protocol):
    """A space."""

    def cpu_s(self) -> float:
        """CPU time of all that is or was in it; it only grows."""


class CpuByApp:
    """What only grows, as far as apps are remembered."""

    def __init__(self) -> None:
        self._open: dict[Counted, str] = {}
        self._ended_s: dict[str, float] = {}

    def opened(self, space: Counted, app: str) -> None:
        """What happens in the space is the app's doing."""
        self._open[space] = app

    def ended(self, space: Counted) -> None:
        """Nothing happens there any more."""
        app = self._open.pop(space, None)
        if app is not None:
            self._ended_s[app] = self._ended_s.pop(app, 0.0) + space.cpu_s()
            if len(self._ended_s) > MOST_ENDED:
                del self._ended_s[next(iter(self._ended_s))]

    def app_of(self, space: Counted) -> str:
        """Whose an open space is."""
        return self._open[space]

    def seconds(self) -> dict[str, float]:
        """By app."""
        found = dict(self._ended_s)
        for space, app in self._open.items():
            found[app] = found.get(app, 0.0) + space.cpu_s()
        return found
