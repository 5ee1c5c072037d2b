"""The callers that have keys of their own: makes tokens for them, lists them, and withdraws them."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import msgspec

from motes.controller.door import Door
from motes.controller.members import CallerKeys, issue_time, revocation_time
from motes.errors import BadInput, NotFound, Refused
from motes.grants import jwt, roles
from motes.grants.keys import KEY_BYTES
from motes.model.keeper import AskToken, KnownCaller
from motes.model.names import OWN_USER, is_name

if TYPE_CHECKING:
    from motes.controller.service import Controller

MOST_KEYS = 100
"""Of one caller at a time."""


class Callers:
    """By name; who has several keys is one caller all the same."""

    def __init__(self, controller: Controller, door: Door) -> None:
        self._controller = controller
        self._door = door

    async def admit(self, sender: str, wanted: AskToken) -> str:
        """A NATS token for the caller `wanted.name`, who holds the key. Raises BadInput and Refused."""
        if wanted.name == OWN_USER:
            raise BadInput(f"{OWN_USER!r} is this machine's own user, who may also deploy; choose another name")
        of = roles.caller if self._door.has_gate else roles.named_caller
        role, public = of(wanted.name), wanted.public.hex()
        if len(wanted.public) != KEY_BYTES:
            raise BadInput(f"a key of {len(wanted.public)} bytes; a public key has {KEY_BYTES}")
        async with self._door.lock:
            known = await self._keys(wanted.name)
            if len(known.issued) >= MOST_KEYS:
                raise Refused(
                    f"{wanted.name!r} has {MOST_KEYS} keys; first withdraw them: motes creds rm {wanted.name}"
                )
            if known.withdrawn and not self._door.has_gate:
                raise Refused(
                    f"the keys of a caller {wanted.name!r} were withdrawn, and the NATS here, which is not the keeper's"
                    " own, goes on letting them in under its name; choose another"
                )
            at = issue_time(time.time(), known.withdrawn.get(public, 0))
            await self._keep(wanted.name, msgspec.structs.replace(known, issued={**known.issued, public: at}))
        return jwt.user_token(self._door.seal.account, role, wanted.public, at)

    async def list(self, sender: str, question: None) -> list[KnownCaller]:
        """Those who have a key that opens something."""
        found = {
            name: msgspec.msgpack.decode(data, type=CallerKeys)
            for name, data in (await self._controller.store.callers()).items()
        }
        return [
            KnownCaller(name, len(each.issued), max(each.issued.values()))
            for name, each in sorted(found.items())
            if each.issued
        ]

    async def withdraw(self, sender: str, name: str) -> bool:
        """Every key of this caller: its connections end, and open again by none of them. Raises NotFound.

        False where its connections go on, for NATS is not the keeper's own.
        """
        async with self._door.lock:
            known = await self._keys(name) if is_name(name) else CallerKeys()
            if not known.issued:
                raise NotFound(f"no caller {name[:80]!r} has a key (see `motes creds ls`)")
            now = time.time()
            gone = {public: revocation_time(now, at) for public, at in known.issued.items()}
            # First, so that whoever is told of a failure can do it again.
            await self._door.shut_out(gone)
            await self._keep(name, CallerKeys(withdrawn={**known.withdrawn, **gone}))
            if not self._door.has_gate:
                self._controller.withdrawn.add(name)
        return await self._door.end(gone)

    async def _keys(self, name: str) -> CallerKeys:
        found = await self._controller.store.caller(name)
        return CallerKeys() if found is None else msgspec.msgpack.decode(found, type=CallerKeys)

    async def _keep(self, name: str, keys: CallerKeys) -> None:
        await self._controller.store.put_caller(name, msgspec.msgpack.encode(keys))
