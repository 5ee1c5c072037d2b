"""The sets that the cluster's owner puts hosts in, for `place="named:SET"`, and `own` for the owner's own hosts.

A host has no part in it. What is said of a host is said of who has its name now: one that joins under the name of one
that left is in no set.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec

from motes.controller.members import Member
from motes.errors import BadInput, NotFound
from motes.model.keeper import NameHosts
from motes.model.naming import as_name
from motes.model.place import OWN

if TYPE_CHECKING:
    from motes.controller.service import Controller

MOST_SETS = 32
"""Of one host."""
MOST_HOSTS = 1_000
"""Of one request."""


class Naming:
    """The sets by host, in the store and in the core's state; the store comes first."""

    def __init__(self, controller: Controller) -> None:
        self._controller = controller

    async def load(self, is_here: Callable[[str], bool]) -> None:
        """What was said before this controller; `is_here`: whether a host is of this machine, as when the keeper moved.

        Raises Unavailable: to place without it would be to guess.
        """
        store, state = self._controller.store, self._controller.core.state
        for host, data in (await store.members()).items():
            if not is_here(host):
                has_left = msgspec.msgpack.decode(data, type=Member).left_at
                (state.removed if has_left else state.joined).add(host)
        for host, data in (await store.sets()).items():
            state.sets[host] = frozenset(msgspec.msgpack.decode(data, type=list[str]))

    async def name(self, wanted: NameHosts) -> None:
        """Put hosts in a set, or take them out. All or, when one is not known, none. Raises NotFound and BadInput.

        Nobody may come or go meanwhile: who has a name now must be who has it when that is stored.
        """
        controller = self._controller
        state = controller.core.state
        as_name(wanted.set, "a set's name")
        if not 0 < len(wanted.hosts) <= MOST_HOSTS:
            raise BadInput(f"{len(wanted.hosts)} hosts; name 1 to {MOST_HOSTS} at a time")
        for host in wanted.hosts:
            # A name that nobody has yet is whoever's joins with it first.
            if host not in state.hosts and host not in state.joined:
                raise NotFound(f"no host {host[:80]!r} (see `motes host ls`; one is named once it has been there)")
            if wanted.is_in and len(state.sets_of(host) | {wanted.set}) > MOST_SETS:
                raise BadInput(f"host {host!r} is in {MOST_SETS} sets, and may be in no more")
        for host in wanted.hosts:
            found = state.sets_of(host)
            await self._put(host, found | {wanted.set} if wanted.is_in else found - {wanted.set})
        controller.carry_out(controller.core.on_named(controller.now()))

    async def keep_own(self, host: str) -> None:
        """It was the owner's own for being on the keeper's machine, which it will be no more. Raises Unavailable."""
        state = self._controller.core.state
        if state.is_own(host):
            await self._put(host, state.sets_of(host) | {OWN})

    async def forget(self, host: str) -> None:
        """Whoever has this name from now on is another. Raises Unavailable."""
        await self._put(host, frozenset())

    async def _put(self, host: str, sets: frozenset[str]) -> None:
        state = self._controller.core.state
        if sets:
            await self._controller.store.put_sets(host, msgspec.msgpack.encode(sorted(sets)))
            state.sets[host] = sets
        elif host in state.sets:
            await self._controller.store.delete_sets(host)
            del state.sets[host]
