"""What hosts say of themselves is theirs to choose, and must not spoil what the others say."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import msgspec
import pytest

from motes.client.cluster import Cluster
from motes.errors import BadResult
from motes.home import Home
from motes.model.host import HostInstances
from motes.model.instance import InstanceReport, InstanceState
from motes.payload import decode

DEEP = b"\x81\xa1x" + b"\x91" * 100_000 + b"\xc0"


FOREIGN = InstanceReport("app", "f", "r1", "good", 7, InstanceState.IDLE, 0.0, 0, 0.0, 0)
IN_ANOTHERS_NAME = [HostInstances("good", []), HostInstances("bad", [FOREIGN])]


@pytest.mark.parametrize(
    "said", [b"", b"\xff", b"\x81\xa4host\xa1\xff", DEEP, *map(msgspec.msgpack.encode, IN_ANOTHERS_NAME)]
)
def test_a_host_that_cannot_be_understood_does_not_keep_others_from_being_seen(said: bytes) -> None:
    answers = {"host.good.ps": msgspec.msgpack.encode(HostInstances("good", [])), "host.bad.ps": said}

    async def request(subject: str, payload: bytes, timeout_s: float) -> bytes:
        return answers[subject]

    connection: Any = SimpleNamespace(request=request)
    dispatcher: Any = SimpleNamespace(hosts=lambda: ["good", "bad"])

    async def run() -> None:
        seen = await Cluster(Home("/nowhere"), connection, dispatcher).look()
        assert seen["bad"] is None and cast(HostInstances, seen["good"]).host == "good"

    asyncio.run(run())


@pytest.mark.parametrize("result", [b"{", b'"\xff"', b"[" * 100_000])
def test_a_result_that_cannot_be_read_is_the_functions_fault(result: bytes) -> None:
    with pytest.raises(BadResult):
        decode(result)
