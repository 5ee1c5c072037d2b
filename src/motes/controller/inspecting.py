"""Having a host look into an app before it is deployed: which host, for how long, and what if it is lost meanwhile."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from motes.bus import subjects
from motes.controller.core.feasible import needs, runs, traits, who_is_there, who_serves_it_not, why_at_no_place
from motes.controller.fetches import Fetches
from motes.errors import HostLost, MotesError, NoRoom, SpaceFailed, TimedOut, Unavailable
from motes.model.keeper import Inspect, decode_answer
from motes.model.place import unmet
from motes.model.release import Manifest
from motes.model.units import format_seconds

if TYPE_CHECKING:
    from motes.controller.service import Controller

TIMEOUT_S = 60.0
"""For loading the app, from when the host has what it needs."""
MOST_S = 1800.0
"""With all that the host fetches for it."""
HOSTS_TIMEOUT_S = 3.0
"""How long a deploy waits for a host when there is none."""
TRIES = 2
"""An app during whose loading the agent ends is tried once more: it may be what ended it."""
LOOK_S = 0.1


class _NotHeard(Exception):
    """Nobody got the question."""


class Inspecting:
    """Asks the hosts; `fetches` tells whether one that does not answer is fetching."""

    def __init__(self, controller: Controller, fetches: Fetches) -> None:
        self._controller = controller
        self._fetches = fetches

    async def inspect(self, question: Inspect, signed: bytes) -> Manifest:
        """Have a host load the bundle in a space; tries another when one cannot make spaces, or is lost.

        `signed` is the question as its owner signed it: a host takes no other.
        """
        failed: MotesError = Unavailable("no host is up to load the app (see `motes host ls`)")
        for _ in range(TRIES):
            for host in await self._hosts_up(question):
                try:
                    return await self._inspect_at(host, question, signed)
                except (SpaceFailed, Unavailable, HostLost) as error:
                    failed = error
            if not isinstance(failed, HostLost):
                break
        raise failed

    async def _hosts_up(self, question: Inspect) -> list[str]:
        """The hosts that could load an app, the owner's own before others, for they describe what he signs, and the
        emptiest first; just after a start they may not have been heard yet.

        Raises NoRoom when there are hosts, but none with what the app needs, none that may see it, or none that
        serves it.
        """
        state = self._controller.core.state
        packages = question.packages
        deadline = self._controller.now() + HOSTS_TIMEOUT_S
        while True:
            up = {name: host for name, host in sorted(state.hosts.items()) if state.takes_work(name) and host.lives}
            there = {name: host for name, host in up.items() if not unmet(question.place, traits(state, name))}
            serving = {name: host for name, host in there.items() if host.report.offer.serves(question.app)}
            fitting = [name for name, host in serving.items() if runs(host, packages)]
            if fitting or self._controller.now() > deadline:
                break
            await asyncio.sleep(0.02)
        if up and not there:
            raise NoRoom(f"the app {why_at_no_place(state, up, question.place)}")
        if up and not serving:
            raise NoRoom(who_serves_it_not(state, there, question.app))
        if up and not fitting:
            raise NoRoom(f"the app {needs(packages)}; {who_is_there(serving.values())}")
        return sorted(fitting, key=lambda name: (not state.is_own(name), state.hosts[name].report.spaces_used))

    async def _inspect_at(self, host: str, question: Inspect, signed: bytes) -> Manifest:
        self._controller.readers.show(host, {question.bundle, *question.packages.layers.values()})
        began = self._controller.now()
        while True:
            try:
                return decode_answer(await self._ask(host, signed), Manifest)
            except _NotHeard:
                # An agent that has just started reports before it hears.
                if self._controller.now() - began > HOSTS_TIMEOUT_S:
                    raise Unavailable(f"host {host!r} hears no question just now (see `motes host ls`)") from None
            await asyncio.sleep(LOOK_S)

    async def _ask(self, host: str, signed: bytes) -> bytes:
        boot = self._boot(host)
        if boot is None:
            raise HostLost(f"host {host!r} was lost before it heard of the app (see `motes events`)", host=host)
        began = self._controller.now()
        asked = asyncio.ensure_future(self._controller.connection.request(subjects.inspect(host), signed, MOST_S))
        try:
            while not (await asyncio.wait((asked,), timeout=LOOK_S))[0]:
                if self._boot(host) != boot:
                    raise HostLost(f"host {host!r} was lost while it loaded the app (see `motes events`)", host=host)
                if self._controller.now() - max(began, self._fetches.stepped_at(host)) > TIMEOUT_S:
                    limit = format_seconds(TIMEOUT_S)
                    message = f"host {host!r} had not loaded the app within {limit} (see `motes host ls`)"
                    raise TimedOut(message, timeout_s=TIMEOUT_S)
            return asked.result()
        except Unavailable as error:
            raise _NotHeard from error
        finally:
            asked.cancel()

    def _boot(self, host: str) -> str | None:
        """Of the agent that runs there now; None when the host is lost."""
        known = self._controller.core.state.hosts.get(host)
        return None if known is None or known.lost else known.report.boot
