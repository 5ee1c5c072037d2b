"""Where the keeper is, an agent believes by the controller's newest word, and for the certificate that it knows."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import msgspec

from motes.agent.following import Following
from motes.agent.trust import Trust
from motes.bus import subjects
from motes.bus.connection import Connection, Message
from motes.grants.keys import Key, Tag, sign
from motes.model.succession import Notice

CONTROLLER = Key.generate()
CERTIFICATE = b"c" * 32


def notice(serial: int, address: str, certificate: bytes = CERTIFICATE, key: Key = CONTROLLER) -> Message:
    data = msgspec.msgpack.encode(Notice((address,), certificate, serial))
    signed = msgspec.msgpack.encode(sign(key, Tag.NOTICE, data))
    return Message(subjects.notice("local"), "", signed, False)


def test_only_what_is_newer_and_of_the_same_certificate_leads_it_elsewhere(nats_server: Any, tmp_path: Path) -> None:
    trust = Trust(CONTROLLER.public, frozenset())

    async def test() -> None:
        connection = await Connection.open(nats_server.url, nats_server.home.credentials("host-local"))
        try:
            following = Following(connection, trust, tmp_path)
            following.on_notice(notice(3, "third:7423"))
            expected = f"tls://third:7423,{nats_server.url}"
            assert connection.server == expected, "it knew no certificate yet"
            kept = (tmp_path / "keeper.notice").read_bytes()
            for lie in (
                notice(2, "evil:7423"),
                notice(3, "evil:7423"),
                notice(9, "evil:7423", key=Key.generate()),
                notice(9, "evil:7423", certificate=b"d" * 32),
                notice(9, "evil:7423,nats://evil:1"),
            ):
                following.on_notice(lie)
                assert connection.server == expected
                assert (tmp_path / "keeper.notice").read_bytes() == kept
            following.on_notice(notice(4, "fourth:7423"))
            assert connection.server == f"tls://fourth:7423,{expected}"
        finally:
            await connection.close()

    asyncio.run(test())
