"""By what this host is kept to its offer: a cgroup where one was handed over, else what any process may do."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable

from motes.model.host import Offer
from motes.space import manners
from motes.space.cgroup import NoScope, Scope, enter
from motes.space.descend import uid_of

SETTLING_LOOKS = 40
"""Ten seconds: a space that is being made is known by then."""
_log = logging.getLogger("motes.agent")


class Holding:
    """Made by `hold`."""

    def __init__(self, offer: Offer, scope: Scope | None, processors: int, name: str, usable: set[int]) -> None:
        self.scope = scope
        self.processors = processors
        """How many may be used at a time."""
        self.rests = not self._limits("cpu") and offer.cpus < processors
        """Whether they have to rest for some of the time."""
        self._lent = offer.cpus
        self._looks_left = 0
        self._name = name
        self._usable = usable
        """The processors that this process might use, were all of them lent."""
        self.memory_is_walled = self._limits("memory")
        self._kills = 0

    def _limits(self, controller: str) -> bool:
        return self.scope is not None and controller in self.scope.controllers

    def change(self, offer: Offer, processes: Iterable[int]) -> None:
        """Keep this process, and those that it has started, to another offer from now on."""
        if self.scope is not None:
            try:
                self.scope.keep_to(offer)
            except OSError as error:
                _log.error("the cgroup %s keeps to the offer before: %s", self.scope.folder, error)
        if not self._limits("cpu"):
            self._looks_left = SETTLING_LOOKS
            self.processors = manners.keep_to_processors(offer.cpus, self._name, self._usable, processes)
            self._lent, self.rests = offer.cpus, offer.cpus < self.processors

    def settle(self, processes: Iterable[int]) -> None:
        """Call it at each look: who was forked while the offer changed has what was before."""
        if self._looks_left:
            self._looks_left -= 1
            manners.keep_to_processors(self._lent, self._name, self._usable, processes)

    def memory_bytes(self) -> int:
        """What the kernel counts for all of the host; 0 where it does not."""
        return 0 if self.scope is None else self.scope.memory_bytes()

    def has_killed(self) -> bool:
        """Whether the kernel has ended one more process for want of memory, of which nobody has heard yet."""
        if self.scope is None or self.scope.kills() <= self._kills:
            return False
        self._kills += 1
        return True


def hold(offer: Offer, name: str) -> Holding:
    """Keep this process and all that it starts to the offer. Call it first, before root is given up."""
    manners.let_spaces_go_first()
    if offer.idle_class:
        manners.stand_back()
    scope = None
    try:
        scope = enter(offer, name, uid_of(name) if os.geteuid() == 0 else None)
        _log.info("kept to the offer by cgroup %s: %s", scope.folder, ", ".join(sorted(scope.controllers)))
    except NoScope as error:
        _log.info("kept to the offer by looking, without a cgroup: %s", error)
    usable = os.sched_getaffinity(0)
    used = len(usable)
    if scope is None or "cpu" not in scope.controllers:
        used = manners.keep_to_processors(offer.cpus, name, usable)
    return Holding(offer, scope, used, name, usable)
