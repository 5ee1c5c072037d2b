"""Where the keeper is, by the controller's word: what hosts are told, and what programs elsewhere ask for."""

from __future__ import annotations

import msgspec

from motes.errors import Untrusted
from motes.grants.keys import Tag, verify
from motes.model.bounds import UNREADABLE
from motes.model.invite import is_address
from motes.model.release import Signed
from motes.model.succession import Notice


def read_notice(data: bytes, controller: bytes) -> Notice:
    """The Notice in it, when the controller with this public key signed it. Raises Untrusted."""
    try:
        payload = verify(msgspec.msgpack.decode(data, type=Signed), Tag.NOTICE, (controller,))
        notice = msgspec.msgpack.decode(payload, type=Notice)
    except UNREADABLE as error:
        raise Untrusted(f"a notice that cannot be read: {error}") from error
    if wrong := [each for each in notice.addresses if not is_address(each)]:
        raise Untrusted(f"a notice of {wrong[0][:80]!r}, which is no address")
    return notice
