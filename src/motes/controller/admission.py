"""Who may join: makes invites, turns the bearer of one into a host of this cluster, and sees hosts off again."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import msgspec

from motes.bus.connection import Connection
from motes.errors import BadInput, MotesError, NotFound, Refused, Unavailable
from motes.grants import jwt, roles
from motes.grants.keys import KEY_BYTES, Key
from motes.model.keeper import Admitted, AskInvite, AskJoin, Invited
from motes.model.names import HOST_PREFIX, is_name
from motes.model.wire import OLDEST, WIRE
from motes.version import __version__

if TYPE_CHECKING:
    from motes.controller.service import Controller

UPDATE = "$SYS.REQ.CLAIMS.UPDATE"
UPDATE_TIMEOUT_S = 5.0
LONGEST_INVITE_S = 30 * 86400.0
MOST_USES = 1000

_log = logging.getLogger("motes.controller")


class Promise(msgspec.Struct):
    """An invite as it is remembered: it is used up when `joined` holds as many hosts as it has uses."""

    expires_at: int
    uses: int
    joined: dict[str, str] = {}
    """By host name, the public key in hexadecimal."""


class Member(msgspec.Struct, frozen=True):
    """A host that has joined."""

    public: str
    """Its NATS user's key, in hexadecimal."""
    joined_at: float
    invite: str
    left_at: int = 0
    """When it left or was removed, Unix time in seconds: what its key was given until then is worth nothing."""
    earlier: dict[str, int] = {}
    """The same of those who had this name before, by key."""

    def revoked(self) -> dict[str, int]:
        """Keys that are worth nothing any more, each with when it became so."""
        return {**self.earlier, self.public: self.left_at} if self.left_at else self.earlier


class Seal(msgspec.Struct, frozen=True):
    """What the door is kept with: the keys of the operator and the account, and a way to nats-server itself."""

    operator: Key
    account: Key
    system: Connection
    is_own: Callable[[str], bool]
    """Whether a host of that name is this machine's own, also while it is stopped."""


class Admission:
    """The cluster's door. One at a time goes through it."""

    def __init__(self, controller: Controller, seal: Seal) -> None:
        self._controller = controller
        self._seal = seal
        self._account = seal.account
        self._door = asyncio.Lock()

    async def invite(self, sender: str, wanted: AskInvite) -> Invited:
        """A key that lets `wanted.uses` machines join within `wanted.expires_s`. Raises BadInput."""
        if not 1 <= wanted.uses <= MOST_USES or not 1 <= wanted.expires_s <= LONGEST_INVITE_S:
            days = LONGEST_INVITE_S / 86400
            raise BadInput(f"an invite is for 1 to {MOST_USES} machines and ends within {days:g} days")
        guest = Key.generate()
        role = roles.guest(guest.public)
        issued_at = int(time.time())
        expires_at = issued_at + int(wanted.expires_s)
        promise = Promise(expires_at, wanted.uses)
        await self._controller.store.put_invite(role.user, msgspec.msgpack.encode(promise))
        signature = jwt.guest_signature(self._account, role, guest, issued_at, expires_at)
        return Invited(self._account.public, guest.secret, issued_at, expires_at, signature)

    async def join(self, sender: str, wanted: AskJoin) -> Admitted:
        """A host of that name with that key, from now on. Raises Refused, with what to do, and BadInput."""
        if not OLDEST <= wanted.wire <= WIRE:
            older, newer = ("this machine", "the keeper") if wanted.wire < OLDEST else ("the keeper", "this machine")
            raise Refused(
                f"{older} has an older Motes than {newer} ({wanted.version} joins {__version__}), and they would"
                f" misunderstand each other; install the newer one for {older} as well"
            )
        if not is_name(wanted.name) or len(wanted.public) != KEY_BYTES:
            raise BadInput(f"{wanted.name[:80]!r} cannot be a host's name; choose one with --name")
        async with self._door:
            return await self._admit(sender, wanted)

    async def _admit(self, guest: str, wanted: AskJoin) -> Admitted:
        store = self._controller.store
        found = await store.invite(guest)
        if found is None:
            raise Refused("the keeper does not know this invite; make another where it runs: motes invite")
        promise = msgspec.msgpack.decode(found, type=Promise)
        public, role = wanted.public.hex(), roles.host(wanted.name)
        member = await self._member(wanted.name)
        if member is not None and (member.public, member.invite) == (public, guest):
            # It asks once more: the answer was lost, or what follows was not noted.
            if member.left_at:
                raise self._removed(wanted.name)
        elif promise.joined.get(wanted.name) == public:
            raise self._removed(wanted.name)
        else:
            self._check_has_room(promise, wanted.name, member)
            earlier = member.revoked() if member else {}
            member = Member(public, time.time(), guest, earlier=earlier)
            await store.put_member(wanted.name, msgspec.msgpack.encode(member))
        if promise.joined.get(wanted.name) != public:
            promise.joined[wanted.name] = public
            await store.put_invite(guest, msgspec.msgpack.encode(promise))
        token = jwt.user_token(self._account, role, wanted.public)
        return Admitted(token, self._controller.public, sorted(self._controller.owners))

    def _check_has_room(self, promise: Promise, name: str, member: Member | None) -> None:
        if time.time() >= promise.expires_at:
            raise Refused("this invite has expired; make another where the keeper runs: motes invite")
        if len(promise.joined) >= promise.uses:
            raise Refused("this invite is used up; make another where the keeper runs: motes invite --uses N")
        is_member = member is not None and not member.left_at
        if is_member or name in self._controller.core.state.hosts or self._seal.is_own(name):
            raise Refused(f"there is a host {name!r} already; choose another name: motes join --name NAME")

    @staticmethod
    def _removed(name: str) -> Refused:
        return Refused(f"host {name!r} joined with this invite and was removed; it needs another invite")

    async def remove(self, sender: str, name: str) -> bool:
        """See a host off, at once and for good: its connection ends, and its key opens no other. Raises NotFound."""
        async with self._door:
            member = await self._member(name)
            if member is None or member.left_at:
                raise NotFound(
                    f"no host {name!r} has joined this cluster (see `motes host ls`; one on the keeper's own machine is"
                    " stopped there: motes host stop)"
                )
            gone = msgspec.structs.replace(member, left_at=int(time.time()))
            # First, so that whoever is told of a failure can do it again.
            await self._revoke({**await self._members(), name: gone})
            await self._controller.store.put_member(name, msgspec.msgpack.encode(gone))
        self._controller.carry_out(self._controller.core.on_left(name, self._controller.now()))
        return True

    async def quit(self, sender: str, question: None) -> bool:
        """A host goes by itself."""
        return await self.remove(sender, sender.removeprefix(HOST_PREFIX))

    async def remind(self) -> None:
        """Tell nats-server at the start of those who have left: its own memory may be lost, or older."""
        try:
            members = await self._members()
            if any(member.revoked() for member in members.values()):
                await self._revoke(members)
        except MotesError as error:
            _log.error("hosts that were removed may connect again: %s", error)

    async def _member(self, name: str) -> Member | None:
        found = await self._controller.store.member(name)
        return None if found is None else msgspec.msgpack.decode(found, type=Member)

    async def _members(self) -> dict[str, Member]:
        found = await self._controller.store.members()
        return {name: msgspec.msgpack.decode(data, type=Member) for name, data in found.items()}

    async def _revoke(self, members: Mapping[str, Member]) -> None:
        """Tell nats-server of every key that is worth nothing any more; it keeps that, and ends their connections."""
        revoked: dict[bytes, int] = {}
        for member in members.values():
            for public, at in member.revoked().items():
                key = bytes.fromhex(public)
                revoked[key] = max(at, revoked.get(key, 0))
        token = jwt.account_token(self._seal.operator, self._account, "motes", jetstream=True, revoked=revoked)
        answer = await self._seal.system.request(UPDATE, token.encode(), UPDATE_TIMEOUT_S)
        told = msgspec.json.decode(answer)
        if not isinstance(told, dict) or "error" in told:
            raise Unavailable(f"nats-server does not take the list of removed hosts: {str(told)[:300]}")
