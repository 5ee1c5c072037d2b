"""The simulated NATS: every party has one link to the server; one sender's messages to one receiver keep their order.

A link that is down loses what is sent over it and what was on its way. The server may know of it (then requests for
that party are answered with "nobody there") or not yet (then they are lost).
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from sim.clock import Clock


@dataclass
class Weather:
    """How bad the network is; all zero is the best."""

    delay_s: float = 0.0005
    loss: float = 0.0
    duplicates: float = 0.0


@dataclass
class Link:
    up: bool = False
    noticed: bool = True
    """Whether the server knows that the link is down."""
    speaks: bool = True
    hears: bool = True
    """Of a line that is cut one way, what still passes; neither end knows it yet."""
    number: int = 0
    """How often it came up: what was sent over an earlier one does not arrive."""


class Network:
    def __init__(self, clock: Clock, chance: random.Random) -> None:
        self.weather = Weather()
        self.server_up = True
        self._clock = clock
        self._chance = chance
        self._links: dict[str, Link] = {}
        self._last: dict[tuple[str, str], float] = {}

    def is_up(self, name: str) -> bool:
        return self.server_up and name in self._links and self._links[name].up

    def is_whole(self, name: str) -> bool:
        """Whether it is up, and both ways."""
        return self.is_up(name) and self._links[name].speaks and self._links[name].hears

    def up(self, name: str) -> None:
        link = self._links.setdefault(name, Link())
        link.up, link.noticed, link.number = True, True, link.number + 1
        link.speaks = link.hears = True

    def down(self, name: str, noticed: bool = True) -> None:
        link = self._links.setdefault(name, Link())
        link.up, link.noticed = False, noticed

    def cut_one_way(self, name: str, *, speaks: bool) -> None:
        """What the party says is lost, or what it is told."""
        link = self._links.setdefault(name, Link())
        link.speaks, link.hears = link.speaks and speaks, link.hears and not speaks

    def connections(self, name: str) -> int:
        """How often the party has connected so far."""
        return self._links[name].number

    def reconnect_all(self) -> None:
        """The server was away: every party has a new connection."""
        for name, link in self._links.items():
            if link.up:
                self.up(name)

    def send(
        self,
        sender: str,
        to: str,
        action: Callable[[], None],
        *,
        lossy: bool = False,
        twice: bool = False,
        frail: bool = False,
        nobody: Callable[[], None] | None = None,
    ) -> None:
        """Have `action` happen at `to`; `nobody` happens at the sender when the server knows that `to` is not there.

        A `lossy` message may be lost; one that may come `twice` may come late the second time, behind newer ones. A
        `frail` one is lost when its sender's link breaks before it comes, as it may be.
        """
        if (
            not self.is_up(sender)
            or not self._links[sender].speaks
            or (lossy and self._chance.random() < self.weather.loss)
        ):
            return
        receiver = self._links.setdefault(to, Link())
        number, sent_over = receiver.number, self._links[sender].number
        delay_s = self._delay_s()
        at = max(self._clock.now + delay_s, self._last.get((sender, to), 0.0))
        self._last[sender, to] = at

        def arrive() -> None:
            if frail and not (self.is_up(sender) and self._links[sender].number == sent_over):
                return
            if self.is_up(to) and receiver.number == number:
                if receiver.hears:
                    action()
            elif nobody is not None and receiver.noticed and self.is_up(sender):
                self._clock.after(self._delay_s(), nobody)

        self._clock.after(at - self._clock.now, arrive)
        if twice and self._chance.random() < self.weather.duplicates:
            self._clock.after(at - self._clock.now + self._delay_s() * 3, arrive)

    def _delay_s(self) -> float:
        return 0.0001 + self._chance.expovariate(1.0) * self.weather.delay_s
