"""What a router knows of the hosts, and its choice among them: power of two choices over its own calls in flight."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from motes.model.call import Heard
from motes.model.host import SILENCE_S, Beat, Load
from motes.router.effects import Sent

EJECT_S = 0.5
"""How long a host is passed over after its first failure; doubled with each further one, up to EJECT_MAX_S."""
EJECT_MAX_S = 30.0
NO_LEASE_S = 1.0
"""How long a host is passed over that said it holds no lease: it may have been sent one just now."""
COLD_SCORE = 0.5
"""What a host without a warm instance counts more than one with: less than one call in flight."""
GENTLY_S = 5.0
"""A host that is new to a workload, or back, gets a part of what the others have in flight that grows for so long: it
has nothing in flight, and would be given every call while it still fetches, loads and forks."""
LEAST_PART = 0.05


class HostView(msgspec.Struct):
    """A host as this router sees it."""

    heard_at: float
    lives: bool = True
    was_gone: bool = False
    """Whether its connection broke since it was last heard; it may be listed again by now."""
    last: Heard = Heard()
    """Its latest heartbeat."""
    connection: int = 0
    load: dict[str, Load] = {}


class Ejection(msgspec.Struct):
    """One workload's failures on one host."""

    until: float
    failures: int


class Hosts:
    """Who lives, how busy it is, and who has failed for what."""

    def __init__(self, random: Callable[[int], int]) -> None:
        self._random = random
        self._views: dict[str, HostView] = {}
        self.in_flight: dict[tuple[str, str], int] = {}
        self._ejected: dict[tuple[str, str], Ejection] = {}
        self._no_lease: dict[tuple[str, str], float] = {}
        """Until when, by address and host."""
        self._last: dict[str, str] = {}
        self._fresh: dict[tuple[str, str], float] = {}
        """Since when, by address (empty: for all) and host: who is called gently. Empty most of the time."""
        self._fresh_until = 0.0

    def listed(self, host: str, now: float) -> None:
        """The controller names the host in a route: it lives as far as the controller knows."""
        view = self._views.setdefault(host, HostView(now))
        if not view.lives:
            view.lives, view.heard_at = True, now

    def is_new(self, address: str, host: str, now: float) -> None:
        """The host has come to others that serve this workload already; no address: it was thought gone, is back."""
        self._fresh[address, host] = now
        self._fresh_until = now + GENTLY_S

    def names(self) -> list[str]:
        """Every host that was listed or heard and is not known to be gone."""
        return [name for name, view in self._views.items() if view.lives]

    def heard(self, beat: Beat, now: float) -> bool:
        """Take a heartbeat in; True when the host was thought silent or gone until now."""
        view = self._views.setdefault(beat.host, HostView(now))
        revived = not view.lives or now - view.heard_at >= SILENCE_S
        view.last, view.load, view.connection = Heard(beat.boot, beat.number), beat.load, beat.connection
        view.heard_at, view.lives, view.was_gone = now, True, False
        if revived:
            self.is_new("", beat.host, now)
        return revived

    def is_late(self, beat: Beat) -> bool:
        """Whether a later heartbeat of that start of the agent's was heard already: it says nothing new."""
        view = self._views.get(beat.host)
        return view is not None and beat.boot == view.last.boot and beat.number <= view.last.number

    def is_new_start(self, beat: Beat) -> bool:
        """Whether the host's agent is another than the one that was heard last: that one's calls are lost.

        Or may be: one that is back from where it was gone, and was never heard before that.
        """
        view = self._views.get(beat.host)
        return view is not None and view.last.boot != beat.boot and (view.last.boot != "" or view.was_gone)

    def has_new_connection(self, beat: Beat) -> bool:
        """Whether the host has another connection than when it was heard last: what was on its way may be lost."""
        view = self._views.get(beat.host)
        return view is not None and 0 not in (view.connection, beat.connection) and view.connection != beat.connection

    def gone(self, host: str) -> None:
        view = self._views.get(host)
        if view is not None:
            view.lives, view.was_gone = False, True

    def changed(self) -> None:
        """Routes are fresh: hosts that had no lease are asked again."""
        self._no_lease.clear()

    def heard_nobody_until(self, now: float) -> None:
        """This router itself was cut off until now: silence before does not count."""
        for view in self._views.values():
            view.heard_at, view.lives = now, True

    def silent(self, now: float, after_s: float) -> list[tuple[str, float]]:
        """Hosts that have not been heard for `after_s`, with for how long."""
        return [(name, now - view.heard_at) for name, view in self._views.items() if now - view.heard_at >= after_s]

    def forget(self, host: str) -> None:
        """It was not heard for so long that nobody waits for it any more."""
        self._views.pop(host, None)
        for known in (self._ejected, self._no_lease, self._fresh):
            for key in [key for key in known if key[1] == host]:
                del known[key]

    def sent(self, address: str, host: str) -> Sent:
        """One more call is on its way to the host."""
        key = (address, host)
        self.in_flight[key] = self.in_flight.get(key, 0) + 1
        self._last[address] = host
        return Sent(host, self._views[host].last)

    def ended(self, address: str, host: str) -> None:
        key = (address, host)
        count = self.in_flight.get(key, 0) - 1
        if count > 0:
            self.in_flight[key] = count
        else:
            self.in_flight.pop(key, None)

    def failed(self, address: str, host: str, now: float) -> None:
        """A failure of the host's own: pass it over for this workload, longer each time."""
        ejection = self._ejected.setdefault((address, host), Ejection(now, 0))
        ejection.until = now + min(EJECT_S * 2**ejection.failures, EJECT_MAX_S)
        ejection.failures = min(ejection.failures + 1, 16)

    def succeeded(self, address: str, host: str) -> None:
        """The host answered with a result: its failures are of the past."""
        self._ejected.pop((address, host), None)

    def holds_no_lease(self, address: str, host: str, now: float) -> None:
        """The host says that it may not run this: not asked again until the routes change, or for a while."""
        self._no_lease[address, host] = now + NO_LEASE_S

    def fetches(self, address: str, host: str, missing_bytes: int) -> None:
        """The host says that it has still to fetch what this needs: not asked before it tells that it has."""
        view = self._views.get(host)
        if view is not None:
            view.load = {**view.load, address: Load(fetching=missing_bytes)}

    def fetching(self, address: str, hosts: Sequence[str]) -> dict[str, int]:
        """Those of the hosts that have still to fetch what this needs, with how many bytes."""
        loads = {host: view.load.get(address) for host in hosts if (view := self._views.get(host)) is not None}
        return {host: load.fetching for host, load in loads.items() if load is not None and load.fetching > 0}

    def forget_app(self, app: str) -> None:
        """The app is gone, and so is what was learned of its workloads."""
        mine = f"{app}."
        self._ejected = {key: value for key, value in self._ejected.items() if not key[0].startswith(mine)}
        self._no_lease = {key: value for key, value in self._no_lease.items() if not key[0].startswith(mine)}
        self._last = {address: host for address, host in self._last.items() if not address.startswith(mine)}

    def choose(self, address: str, hosts: Sequence[str], passed: Sequence[str], now: float) -> str | None:
        """The better one of two usable hosts taken at random, or None."""
        usable = [host for host in hosts if host not in passed and self._is_usable(address, host, now)]
        if len(usable) > 2:
            first = self._random(len(usable))
            second = self._random(len(usable) - 1)
            usable = [usable[first], usable[second if second < first else second + 1]]
        if self._fresh:
            return min(usable, key=lambda host: self._gentle_score(address, host, now), default=None)
        return min(usable, key=lambda host: self._score(address, host), default=None)

    def another(self, address: str, hosts: Sequence[str], than: str, now: float) -> bool:
        """Whether a usable host other than `than` is there."""
        return any(host != than and self._is_usable(address, host, now) for host in hosts)

    def _is_usable(self, address: str, host: str, now: float) -> bool:
        view = self._views.get(host)
        if view is None or not view.lives or now - view.heard_at >= SILENCE_S:
            return False
        load = view.load.get(address)
        if load is not None and load.fetching > 0:
            return False
        ejection = self._ejected.get((address, host))
        return (ejection is None or now >= ejection.until) and now >= self._no_lease.get((address, host), now)

    def _score(self, address: str, host: str) -> tuple[float, bool]:
        load = self._views[host].load.get(address)
        reported = max(load.queued, 0) if load is not None else 0
        cold = COLD_SCORE if load is None or load.idle + load.busy <= 0 else 0.0
        return self.in_flight.get((address, host), 0) + reported + cold, self._last.get(address) != host

    def _gentle_score(self, address: str, host: str, now: float) -> tuple[float, bool]:
        """The score, which weighs the more the shorter the host has been here."""
        if now >= self._fresh_until:
            self._fresh.clear()
        score, is_another = self._score(address, host)
        since = max(self._fresh.get((address, host), -GENTLY_S), self._fresh.get(("", host), -GENTLY_S))
        return (score + 1) / min(max((now - since) / GENTLY_S, LEAST_PART), 1.0), is_another
