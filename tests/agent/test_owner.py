"""What the owner says reaches the agent: by hosts.json at its start, and by the supervisor's socket while it runs."""

from __future__ import annotations

import asyncio
import json
import socket
from types import SimpleNamespace
from typing import Any

import pytest

from motes.agent import owner as owner_module
from motes.agent.core.lending import Signs
from motes.agent.core.state import HostState
from motes.agent.inspection import Inspection
from motes.agent.owner import Owner, word_of
from motes.agent.standing import CONNECTING, REMOVED, Standing
from motes.errors import SpaceFailed, Unavailable
from motes.model.host import Offer
from motes.model.keeper import Inspect, decode_answer
from motes.model.release import Manifest
from motes.supervised import ORDER_LIMIT_BYTES

UNSAID = {"machine": "m", "disk_bytes": 5}
ENTRY = {"cpus": 1.0, "memory_bytes": 2**20, "spaces": 3, "python": "/opt/python", "hours": "22-07", "when": "idle"}


def test_an_entry_of_hosts_json_is_an_offer_and_terms() -> None:
    word = word_of(ENTRY, UNSAID)
    assert (word.offer.spaces, word.offer.machine, word.offer.disk_bytes) == (3, "m", 5)
    assert word.terms.idle and not word.terms.charging and len(word.terms.hours) == 7
    assert word.pretended is None
    assert word_of({**ENTRY, "machine": "nas", "pretended": {"idle_s": 0.0}}, UNSAID).pretended == Signs(idle_s=0.0)


@pytest.mark.parametrize(
    "change",
    [
        {"spaces": "many"},
        {"spaces": -1},
        {"hours": "99"},
        {"when": "sleeping"},
        {"pretended": {"idle_s": "x"}},
        {"serve": "mail"},
    ],
)
def test_what_cannot_be_read_is_no_word_of_the_owners(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"."):
        word_of({**ENTRY, **change}, UNSAID)


def test_orders_are_heard_before_there_is_a_keeper_and_nonsense_changes_nothing() -> None:
    async def story() -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        theirs.setblocking(False)
        ours.setblocking(False)
        standing = Standing(has_joined=True)
        owner = Owner(word_of(ENTRY, UNSAID), UNSAID, theirs, standing)
        loop = asyncio.get_running_loop()

        async def say(data: bytes) -> Any:
            await loop.sock_sendall(ours, data)
            return json.loads(await asyncio.wait_for(loop.sock_recv(ours, ORDER_LIMIT_BYTES), 10.0))

        assert (await say(json.dumps({**ENTRY, "spaces": 9}).encode()))["away"] == CONNECTING
        assert owner.word.offer.spaces == 9
        for nonsense in (b"{", b"[]", b"7", b'{"spaces": "all"}', b'{"hours": "99"}', b"\xff"):
            assert "the old ones stay" in (await say(nonsense))["error"]
            assert owner.word.offer.spaces == 9 and owner.word.terms.idle
        # Nor is he told that it lends while nobody takes it.
        standing.trouble = Unavailable("no connection", refused="Authorization Violation")
        told = await say(json.dumps(ENTRY).encode())
        assert "error" not in told and told["away"] == REMOVED and not told["keeper"]["connected"]
        standing.trouble = Unavailable("no connection to NATS at tls://attic:7423")
        assert "its keeper is not there, for 0 ms now: no conn" in (await say(json.dumps(ENTRY).encode()))["away"]
        ours.close()
        # The supervisor is gone, which ends the agent by other ways: it must not spin on it.
        await asyncio.sleep(0.05)
        assert not loop.remove_reader(theirs)
        theirs.close()

    asyncio.run(story())


def test_an_agent_whose_host_is_away_looks_into_no_app() -> None:
    class Everything:
        def inspection(self, data: bytes) -> Any:
            return Inspect("app", data.decode())

    async def story() -> bytes:
        inspection = Inspection(None, Everything(), HostState("h", Offer()))  # type: ignore[arg-type]
        inspection.refuse("its owner is here")
        return await inspection.answer(b"any")

    with pytest.raises(SpaceFailed, match="its owner is here"):
        decode_answer(asyncio.run(story()), Manifest)


def test_a_process_that_does_not_end_keeps_the_owner_from_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(owner_module, "CLOSED_WITHIN_S", 0.01)

    async def story() -> None:
        async def let_finish() -> None: ...

        agent: Any = SimpleNamespace(
            code=SimpleNamespace(give_up=lambda: None),
            large=SimpleNamespace(send_all=lambda: None),
            machine=SimpleNamespace(on_free=lambda now: []),
            spaces=SimpleNamespace(wait_until_closed=asyncio.Event().wait),
            feed=lambda effects: None,
            let_finish=let_finish,
            now=lambda: 0.0,
        )
        await asyncio.wait_for(Owner(word_of(ENTRY, UNSAID), UNSAID, None, Standing(True))._withdraw(agent), 10.0)

    asyncio.run(story())
