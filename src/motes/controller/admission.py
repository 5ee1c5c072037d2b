"""Who may join: makes invites, turns the bearer of one into a host of this cluster, and sees hosts off again."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

import msgspec

from motes.controller.door import Door
from motes.controller.members import Member, Promise, issue_time, revocation_time
from motes.errors import BadInput, NotFound, Refused
from motes.grants import jwt, roles
from motes.grants.keys import KEY_BYTES, Key
from motes.model.keeper import Admitted, AskDrain, AskInvite, AskJoin, Invited, NameHosts
from motes.model.names import HOST_PREFIX, is_name
from motes.model.wire import OLDEST, WIRE
from motes.version import __version__

if TYPE_CHECKING:
    from motes.controller.service import Controller

LONGEST_INVITE_S = 30 * 86400.0
MOST_USES = 1000
ANSWER_S = 0.5
"""So long a host that goes by itself may hear that it is gone."""


class Admission:
    """Hosts in and out, one at a time."""

    def __init__(self, controller: Controller, door: Door) -> None:
        self._controller = controller
        self._door = door
        self._account = door.seal.account

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
        account, issuer = self._account.account, self._account.public
        return Invited(account, guest.secret, issued_at, expires_at, signature, b"" if issuer == account else issuer)

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
        async with self._door.lock:
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
            await self._controller.naming.forget(wanted.name)
            at = issue_time(time.time(), earlier.get(public, 0))
            member = Member(public, float(at), guest, earlier=earlier)
            await store.put_member(wanted.name, msgspec.msgpack.encode(member))
        if promise.joined.get(wanted.name) != public:
            promise.joined[wanted.name] = public
            await store.put_invite(guest, msgspec.msgpack.encode(promise))
        self._controller.core.state.joined.add(wanted.name)
        self._controller.core.state.removed.discard(wanted.name)
        token = jwt.user_token(self._account, role, wanted.public, int(member.joined_at))
        return Admitted(token, self._controller.public, sorted(self._controller.owners))

    def _check_has_room(self, promise: Promise, name: str, member: Member | None) -> None:
        if time.time() >= promise.expires_at:
            raise Refused("this invite has expired; make another where the keeper runs: motes invite")
        if promise.ended_by:
            raise Refused(
                f"this invite ended when host {promise.ended_by!r}, which had joined with it, was removed;"
                " make another where the keeper runs: motes invite"
            )
        if len(promise.joined) >= promise.uses:
            raise Refused("this invite is used up; make another where the keeper runs: motes invite --uses N")
        is_member = member is not None and not member.left_at
        if is_member or name in self._controller.core.state.hosts or self._door.seal.own_key(name):
            raise Refused(f"there is a host {name!r} already; choose another name: motes join --name NAME")
        self._check_is_free(name, "motes join --name NAME")

    def _check_is_free(self, name: str, mend: str) -> None:
        """Who had this name and was removed could else hear what is sent to the new one. Raises Refused."""
        if not self._door.has_gate and name in self._controller.core.state.removed:
            raise Refused(
                f"a host {name!r} was removed, and the NATS here, which is not the keeper's own, goes on letting it in"
                f" under its name; choose another: {mend}"
            )

    @staticmethod
    def _removed(name: str) -> Refused:
        return Refused(f"host {name!r} joined with this invite and was removed; it needs another invite")

    async def claim(self, sender: str, name: str) -> bool:
        """This machine's owner wants a host of that name here. Raises Refused when another machine has joined as it.

        Nobody joins as it from now on: that this machine has credentials for it was so before this was asked.
        """
        async with self._door.lock:
            member = await self._member(name)
            own = self._door.seal.own_key(name)
            # One of this machine's is a member as well where the keeper has moved.
            if member is not None and not member.left_at and (own is None or member.public != own.hex()):
                raise Refused(
                    f"host {name!r} is a machine that has joined; choose another name, or first: motes host rm {name}"
                )
            self._check_is_free(name, "motes host start --name NAME")
            self._controller.core.state.removed.discard(name)
        return True

    async def remove(self, sender: str, name: str) -> bool:
        """See a host off, at once and for good: its connections end, and its key opens no other. Raises NotFound.

        Nor does anybody come in by its invite any more: it may have kept that. False where its connections go on, for
        NATS is not the keeper's own.
        """
        async with self._door.lock:
            member = await self._present(name)
            await self._end_invite(member.invite, name)
            gone = await self._see_off(name, member)
        return await self._door.end(gone.revoked())

    async def successor(self, host: str, own: Mapping[str, bytes]) -> bytes:
        """The key of a host that is to be the keeper; those of this machine become members. Raises NotFound.

        They are the owner's own hosts as before, wherever the keeper is.
        """
        async with self._door.lock:
            public = bytes.fromhex((await self._present(host)).public)
            for name, key in own.items():
                member = await self._member(name)
                if member is None or member.left_at or member.public != key.hex():
                    new = Member(key.hex(), float(int(time.time())), "", earlier=member.revoked() if member else {})
                    await self._controller.store.put_member(name, msgspec.msgpack.encode(new))
                await self._controller.naming.keep_own(name)
                self._controller.core.state.joined.add(name)
        return public

    def is_elsewhere(self, host: str) -> bool:
        """Whether it runs on another machine than the keeper's."""
        return self._door.seal.own_key(host) is None

    async def name(self, sender: str, wanted: NameHosts) -> bool:
        """Put hosts in a set, or take them out. Raises NotFound and BadInput."""
        async with self._door.lock:
            await self._controller.naming.name(wanted)
        return True

    async def drain(self, sender: str, wanted: AskDrain) -> bool:
        """Have a host take no new work, or take it again; holds until it is removed. Raises NotFound."""
        core, store = self._controller.core, self._controller.store
        async with self._door.lock:
            member = await self._member(wanted.host)
            is_member = member is not None and not member.left_at
            if not (is_member or wanted.host in core.state.hosts or self._door.seal.own_key(wanted.host)):
                raise NotFound(f"there is no host {wanted.host[:80]!r} (see `motes host ls`)")
            await store.put_drained(wanted.host, wanted.drained)
            self._controller.carry_out(core.on_drained(wanted.host, wanted.drained, self._controller.now()))
        return True

    async def note_absence(self, host: str, seen_at: float, paused: bool) -> None:
        """When a host that has joined was there last. Raises Unavailable."""
        async with self._door.lock:
            member = await self._member(host)
            if member is not None and not member.left_at:
                seen = msgspec.structs.replace(member, seen_at=seen_at, paused=paused)
                await self._controller.store.put_member(host, msgspec.msgpack.encode(seen))

    async def quit(self, sender: str, question: None) -> bool:
        """A host goes by itself. Raises NotFound."""
        name = sender.removeprefix(HOST_PREFIX)
        async with self._door.lock:
            gone = await self._see_off(name, await self._present(name))
        self._controller.tasks.spawn(self._end_soon(gone))
        return True

    async def _end_soon(self, gone: Member) -> None:
        await asyncio.sleep(ANSWER_S)
        await self._door.end(gone.revoked())

    async def key_of(self, host: str) -> bytes:
        """The public key with which a host of this cluster signs what it says. Raises Refused when it is none."""
        own = self._door.seal.own_key(host)
        if own is not None:
            return own
        member = await self._member(host)
        if member is None or member.left_at:
            raise Refused(f"{host!r} is no host of this cluster")
        return bytes.fromhex(member.public)

    async def _present(self, name: str) -> Member:
        member, own = await self._member(name), self._door.seal.own_key(name)
        if member is None or member.left_at or (own is not None and member.public == own.hex()):
            raise NotFound(
                f"no host {name!r} has joined this cluster (see `motes host ls`; one on the keeper's own machine is"
                " stopped there: motes host stop)"
            )
        return member

    async def _end_invite(self, invite: str, name: str) -> None:
        found = await self._controller.store.invite(invite)
        if found is not None:
            promise = msgspec.msgpack.decode(found, type=Promise)
            promise.ended_by = promise.ended_by or name
            await self._controller.store.put_invite(invite, msgspec.msgpack.encode(promise))

    async def _see_off(self, name: str, member: Member) -> Member:
        await self._controller.naming.forget(name)
        gone = msgspec.structs.replace(member, left_at=revocation_time(time.time(), member.joined_at))
        # First, so that whoever is told of a failure can do it again.
        await self._door.shut_out(gone.revoked())
        # Whoever has this name next is somebody else.
        await self._controller.store.put_drained(name, False)
        # Last: one that has left cannot be seen off once more.
        await self._controller.store.put_member(name, msgspec.msgpack.encode(gone))
        self._controller.core.state.drained.discard(name)
        self._controller.core.state.joined.discard(name)
        self._controller.core.state.removed.add(name)
        self._controller.core.state.absences.pop(name, None)
        self._controller.forget_host(name)
        return gone

    async def _member(self, name: str) -> Member | None:
        found = await self._controller.store.member(name) if is_name(name) else None
        return None if found is None else msgspec.msgpack.decode(found, type=Member)
