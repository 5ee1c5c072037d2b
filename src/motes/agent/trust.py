"""What an agent believes: leases that the controller signed, releases that an owner signed."""

from __future__ import annotations

import msgspec

from motes.errors import Untrusted
from motes.grants.keys import Tag, verify
from motes.grants.notices import read_notice
from motes.model.bounds import UNREADABLE
from motes.model.host import Lease
from motes.model.keeper import Inspect
from motes.model.release import Release, Signed, release_id
from motes.model.succession import Notice

_signed = msgspec.msgpack.Decoder(Signed)


class Trust(msgspec.Struct, frozen=True):
    """Public keys, 32 bytes each."""

    controller: bytes
    owners: frozenset[bytes]
    newest: dict[str, float] = msgspec.field(default_factory=dict)
    """By app, when the newest release that was believed was made."""
    signers: dict[str, bytes] = msgspec.field(default_factory=dict)
    """By app, who signed that one."""

    def lease(self, data: bytes) -> Lease:
        """The lease in a message. Raises Untrusted, also for bytes that are none."""
        try:
            payload = verify(_signed.decode(data), Tag.LEASE, (self.controller,))
            return msgspec.msgpack.decode(payload, type=Lease)
        except UNREADABLE as error:
            raise Untrusted(f"a lease that cannot be read: {error}") from error

    def inspection(self, data: bytes) -> Inspect:
        """What an owner wants to have looked into: it runs here before there is a release. Raises Untrusted."""
        try:
            payload = verify(_signed.decode(data), Tag.INSPECTION, self.owners)
            return msgspec.msgpack.decode(payload, type=Inspect)
        except UNREADABLE as error:
            raise Untrusted(f"a question about an app that cannot be read: {error}") from error

    def notice(self, data: bytes) -> Notice:
        """Where the keeper is, by the controller's word. Raises Untrusted."""
        return read_notice(data, self.controller)

    def release(self, signed: Signed, expected_id: str) -> Release:
        """The release in it, when an owner signed it and it is the one that was asked for. Raises Untrusted.

        What an owner signed stays signed for ever: a release that is older than one seen before is not believed.
        """
        payload = verify(signed, Tag.RELEASE, self.owners)
        if release_id(signed) != expected_id:
            raise Untrusted(f"release {expected_id} was asked for; another one came")
        try:
            release = msgspec.msgpack.decode(payload, type=Release)
        except UNREADABLE as error:
            raise Untrusted(f"release {expected_id} cannot be read: {error}") from error
        if release.created_at < self.newest.get(release.app, release.created_at):
            raise Untrusted(f"release {expected_id} of app {release.app!r} is older than one that this host has had")
        self.newest[release.app], self.signers[release.app] = release.created_at, signed.signer
        return release
