"""The cluster's door: whose keys nats-server lets in, and whose no more. One at a time goes through it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import msgspec

from motes.bus.connection import Connection
from motes.controller.crowd import Crowd
from motes.controller.members import CallerKeys, Member
from motes.errors import MotesError, Unavailable
from motes.grants import jwt
from motes.grants.issuing import revoking
from motes.grants.keys import Key, Nkey, public_nkey
from motes.model.names import HOST_PREFIX, is_name

if TYPE_CHECKING:
    from motes.controller.service import Controller

UPDATE = "$SYS.REQ.CLAIMS.UPDATE"
UPDATE_TIMEOUT_S = 5.0

_log = logging.getLogger("motes.controller")


class Gate(msgspec.Struct, frozen=True):
    """How nats-server is told who is let in no more: in the account's JWT, which the operator signs."""

    operator: Key
    account: Key
    system: Connection


class Seal(msgspec.Struct, frozen=True):
    """What the door is kept with: the key that issues users, and the gate, or who ends connections without one."""

    account: Key
    own_key: Callable[[str], bytes | None]
    """The public key of this machine's own host of that name, also while it is stopped; None: it has none."""
    gate: Gate | None
    """None where somebody else is the operator: NATS goes on letting in whoever was let in once."""
    crowd: Crowd | None = None
    """Who ends connections there; None without a user of its system account."""


class Door:
    """Holds the list of those who are let in no more. Take `lock` to change who is known.

    Without a gate the list is of those of whom nobody takes notice, and a name that is on it stays theirs.
    """

    def __init__(self, controller: Controller, seal: Seal) -> None:
        self._controller = controller
        self.seal = seal
        self.lock = asyncio.Lock()

    @property
    def has_gate(self) -> bool:
        """Whether NATS lets in no more who was shut out."""
        return self.seal.gate is not None

    async def shut_out(self, keys: Mapping[str, int]) -> None:
        """End the connections of these keys, beside all that were shut out before, and let them open no other.

        By public key in hexadecimal, with the time until which its tokens are worth nothing. Raises Unavailable.
        Without a gate nobody can; see `end` and `left_to_say`.
        """
        if not self.has_gate:
            return
        await self._tell({**await self._known(), **keys})
        # What they had sent before is behind us when this is answered: afterwards nobody hears of them.
        await self._controller.connection.flush()

    async def end(self, keys: Mapping[str, int]) -> bool:
        """End the connections of keys that NATS lets in all the same, now and whenever they come back. Once nobody
        takes notice of them any more, so that an honest program can hear that.

        Whether those that there were have ended, as with a gate they have before.
        """
        crowd = self.seal.crowd
        if self.has_gate or crowd is None:
            return self.has_gate
        crowd.shut_out(_as_nats_writes_them(keys))
        return await crowd.look()

    async def left_to_say(self, sender: str, user: str) -> list[str]:
        """By what words the operator has NATS let in no more who was removed as `user`; none where that is said."""
        if self.has_gate or not is_name(user):
            return []
        store = self._controller.store
        found: Member | CallerKeys | None = None
        if user.startswith(HOST_PREFIX):
            if (data := await store.member(user.removeprefix(HOST_PREFIX))) is not None:
                found = msgspec.msgpack.decode(data, type=Member)
        elif (data := await store.caller(user)) is not None:
            found = msgspec.msgpack.decode(data, type=CallerKeys)
        return revoking(self.seal.account.account, [] if found is None else map(bytes.fromhex, found.revoked()))

    async def remind(self) -> None:
        """Tell nats-server at the start of those who have left: its own memory may be lost, or older. Without a gate
        those of them who are there are ended as soon as the crowd is watched."""
        try:
            known = await self._known()
            if self.seal.crowd is not None:
                self.seal.crowd.shut_out(_as_nats_writes_them(known))
            if self.has_gate and known:
                await self._tell(known)
        except MotesError as error:
            _log.error("hosts and callers that were removed may connect again: %s", error)

    async def _known(self) -> dict[str, int]:
        store = self._controller.store
        found: list[Member | CallerKeys] = []
        found += [msgspec.msgpack.decode(each, type=Member) for each in (await store.members()).values()]
        found += [msgspec.msgpack.decode(each, type=CallerKeys) for each in (await store.callers()).values()]
        revoked: dict[str, int] = {}
        for each in found:
            for public, at in each.revoked().items():
                revoked[public] = max(at, revoked.get(public, 0))
        return revoked

    async def _tell(self, keys: Mapping[str, int]) -> None:
        revoked = {bytes.fromhex(public): at for public, at in keys.items()}
        gate = self.seal.gate
        assert gate is not None
        token = jwt.account_token(gate.operator, gate.account, "motes", jetstream=True, revoked=revoked)
        answer = await gate.system.request(UPDATE, token.encode(), UPDATE_TIMEOUT_S)
        told = msgspec.json.decode(answer)
        if not isinstance(told, dict) or "error" in told:
            raise Unavailable(f"nats-server does not take the list of those who were removed: {str(told)[:300]}")


def _as_nats_writes_them(keys: Mapping[str, int]) -> dict[str, int]:
    return {public_nkey(Nkey.USER, bytes.fromhex(public)): at for public, at in keys.items()}
