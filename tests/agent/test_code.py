"""What a host has of releases: fetched as long as somebody on it wants it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any, cast

import msgspec

from motes.agent.code import Code
from motes.agent.disk import Disk
from motes.agent.trust import Trust
from motes.bundle.pack import Bundle, pack
from motes.bus.connection import Connection
from motes.errors import SpaceFailed
from motes.grants.keys import Key, Tag, sign
from motes.model.keeper import GetChunk, encode_answer
from motes.model.release import Function, Manifest, Release, Signed, release_id

OWNER = Key.generate()


class Keeper:
    """Has releases, and gives nothing of their code before its gate is opened."""

    user = "host-h"

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.releases: dict[str, Signed] = {}
        self.bundles: dict[str, Bundle] = {}

    def add(self, app: Path) -> str:
        bundle = pack(app)
        release = Release(Manifest(app.stem, (Function("f", app.stem, "f"),)), bundle.hash, 1.0)
        signed = sign(OWNER, Tag.RELEASE, msgspec.msgpack.encode(release))
        self.releases[release_id(signed)], self.bundles[bundle.hash] = signed, bundle
        return release_id(signed)

    async def request(self, subject: str, data: bytes, timeout_s: float) -> bytes:
        if subject.endswith("release-get"):
            return encode_answer(self.releases[msgspec.msgpack.decode(data)])
        await self.gate.wait()
        return encode_answer((1, self.bundles[msgspec.msgpack.decode(data, type=GetChunk).bundle].data))


def test_what_only_unwanted_releases_need_is_fetched_no_further(tmp_path: Path) -> None:
    async def story() -> list[Any]:
        keeper, trust = Keeper(), Trust(b"", frozenset({OWNER.public}))
        code = Code(tmp_path / "host", cast(Connection, keeper), trust, Disk(10**9, set))
        releases = []
        for name, source in (("shop", "a = 1"), ("mail", "a = 2"), ("twin", "a = 2")):
            (tmp_path / name).mkdir()
            (tmp_path / name / "f.py").write_text(source)
            releases.append(keeper.add(tmp_path / name))
        asked = [asyncio.ensure_future(code.release(each)) for each in releases]
        while len(code.missing()) < len(releases):  # noqa: ASYNC110
            await asyncio.sleep(0)
        code.keep_to({releases[1]})
        keeper.gate.set()
        return await asyncio.gather(*asked, return_exceptions=True)

    shop, mail, twin = asyncio.run(story())
    assert isinstance(shop, SpaceFailed) and "lends for it no more" in shop.message
    assert isinstance(mail, Release) and isinstance(twin, Release), "the two have the same code"
