"""Where the keeper is, an agent believes by the controller's newest word, and for the certificate that it knows."""

from __future__ import annotations

import asyncio
import os
import resource
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from motes.agent.following import NOTICE, Following, adopt
from motes.agent.trust import Trust
from motes.bus import subjects
from motes.bus.connection import Connection, Message
from motes.grants.keys import Key, Tag, sign
from motes.home import Home
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


def test_a_notice_that_finds_no_room_on_the_disk_leaves_the_one_before(nats_server: Any, tmp_path: Path) -> None:
    async def test() -> None:
        connection = await Connection.open(nats_server.url, nats_server.home.credentials("host-local"))
        following = Following(connection, Trust(CONTROLLER.public, frozenset()), tmp_path)
        following.on_notice(notice(3, "third:7423"))
        kept = (tmp_path / NOTICE).read_bytes()
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (10, hard))
        try:
            following.on_notice(notice(4, "fourth:7423"))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert connection.server.startswith("tls://fourth:7423")
        assert (tmp_path / NOTICE).read_bytes() == kept
        await connection.close()

    asyncio.run(test())


@pytest.mark.parametrize("put", [lambda file: file.symlink_to("/dev/zero"), os.mkfifo])
def test_root_reads_no_more_in_an_agents_folder_than_a_notice(put: Callable[[Path], None], tmp_path: Path) -> None:
    """Whoever has taken an agent over decides what is there."""
    home = Home(tmp_path)
    home.host("local").mkdir(parents=True)
    home.write_json(home.keeper_file, {"addresses": ["first:7423"], "certificate": CERTIFICATE.hex()})
    put(home.host("local") / NOTICE)
    signal.alarm(20)
    try:
        adopt(home, "local", Trust(CONTROLLER.public, frozenset()))
    finally:
        signal.alarm(0)
    assert home.keeper().servers == "tls://first:7423"
