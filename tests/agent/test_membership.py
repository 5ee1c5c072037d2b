"""Which of several agents in one name is the host: what the keeper answers, and what leases say."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, cast

import msgspec
import pytest

from motes.agent import membership
from motes.agent.clock import KeepersClock
from motes.agent.membership import Membership
from motes.errors import Unavailable
from motes.model.host import Lease
from motes.model.wire import Welcome
from motes.tasks import Tasks


class Agent:
    """Its keeper gives the answers that a test lays ready, and the last of them from then on."""

    def __init__(self, *answers: Welcome | bytes | None) -> None:
        self.host, self.telling, self.connection, self.clock = "a", self, self, KeepersClock()
        self.boot = "5"
        self.time = 0.0
        self.tasks: Tasks
        self.answers = list(answers)

    def now(self) -> float:
        self.time += 1.0
        return self.time

    def state(self) -> bytes:
        return b"a report"

    async def request(self, subject: str, data: bytes, timeout_s: float) -> bytes:
        assert (subject, data) == ("report.a.state", b"a report")
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if answer is None:
            raise Unavailable("nobody is there")
        return answer if isinstance(answer, bytes) else msgspec.msgpack.encode(answer)


def member(*answers: Welcome | bytes | None) -> Membership:
    return Membership(cast(Any, Agent(*answers)))


def lease(boot: str, epoch: int, app: str = "app") -> Lease:
    return Lease("a", app, "f", "r1", 1, 0, epoch, boot=boot)


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(membership, "REFUSED_RETRY_S", 0.0)
    yield


def joined(*answers: Welcome | bytes | None) -> Membership:
    found = member(*answers)
    asyncio.run(asyncio.wait_for(found.join(), 10.0))
    return found


TAKEN = Welcome("another agent runs as host 'a'", is_taken=True)


def test_an_agent_is_the_host_once_the_keeper_is_there_and_says_so() -> None:
    assert joined(None, None, Welcome()).is_host
    assert joined(b"").is_host, "a keeper of before versions says nothing"


def test_while_nobody_answers_it_asks_less_and_less_and_still_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    def pauses() -> list[float]:
        slept: list[float] = []

        async def sleep(pause_s: float) -> None:
            slept.append(pause_s)

        monkeypatch.setattr(membership, "asyncio", SimpleNamespace(sleep=sleep, Event=asyncio.Event))
        assert joined(*[None] * 100, Welcome()).is_host
        return slept

    first, second = pauses(), pauses()
    assert first[0] < 0.02 and max(first) <= 1.0, "one that is back shows its hosts within two seconds"
    assert min(first[20:100]) > 0.1, "ten times a second at most"
    assert first != second, "hosts do not ask all at the same moment"


def test_an_agent_whose_name_is_anothers_waits_a_while_for_that_one_to_be_missed() -> None:
    found = joined(TAKEN, TAKEN, Welcome())
    assert found.is_host and not found.displaced.is_set()


def test_an_agent_whose_name_stays_anothers_ends() -> None:
    found = joined(TAKEN)
    assert found.displaced.is_set() and not found.is_host


def test_an_agent_that_does_not_fit_waits_for_a_keeper_that_it_fits(caplog: pytest.LogCaptureFixture) -> None:
    refusal = Welcome("install the newer Motes for the keeper")
    found = joined(*[refusal] * 20, Welcome())
    assert found.is_host and not found.displaced.is_set()
    assert caplog.text.count("install the newer") == 1


def test_leases_for_this_start_are_heeded_and_those_of_a_keeper_that_names_none() -> None:
    found = joined(Welcome())
    assert found.heeds(lease("5", 1)) and found.heeds(lease("", 2))
    assert not found.heeds(lease("5", 3, app="")), "it only says who the host is"
    assert not found.displaced.is_set()


def test_a_newer_lease_for_another_start_ends_this_agent() -> None:
    found = joined(Welcome())
    assert found.heeds(lease("5", 7))
    assert not found.heeds(lease("6", 8))
    assert found.displaced.is_set()


def test_an_old_lease_for_another_start_ends_nobody_whoever_sends_it_again() -> None:
    found = joined(Welcome())
    assert found.heeds(lease("5", 7))
    assert not found.heeds(lease("4", 6)) and not found.displaced.is_set()


def test_before_it_is_the_host_a_lease_for_the_one_before_it_ends_nobody() -> None:
    found = member(Welcome())
    assert not found.heeds(lease("4", 6)) and not found.displaced.is_set()


# ---------------------------------------------------------------------- the keeper's clock


def test_a_clock_that_is_off_is_set_right_by_the_keepers_and_one_that_is_right_stays_as_it_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = KeepersClock()
    monkeypatch.setattr("time.time", lambda: 10_000.0)
    assert clock.now() == 10_000.0
    clock.hear(13_600.0)
    assert 13_600.0 <= clock.now() < 13_605.0
    clock.hear(0.0)
    assert clock.now() > 13_599.0, "a keeper that says nothing changes nothing"
    clock.hear(10_000.5)
    assert clock.now() == 10_000.0


def test_after_each_reconnect_one_asks_and_not_one_more() -> None:
    async def story() -> None:
        agent = Agent(None)
        agent.tasks = Tasks("agent")
        found = Membership(cast(Any, agent))
        for _ in range(5):
            found.join_again()
            await asyncio.sleep(0.02)
        assert len(agent.tasks) == 1
        agent.answers = [Welcome()]
        await asyncio.wait_for(agent.tasks.wait(), 10.0)
        assert found.is_host

    asyncio.run(story())
