"""A host that looks into an app for a deploy, while it comes and goes."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest

from controller.keeper_bench import Bench
from motes.controller import inspecting
from motes.controller.fetches import Fetches
from motes.controller.inspecting import Inspecting
from motes.controller.service import Controller
from motes.errors import MotesError, Unavailable
from motes.model.keeper import Inspect, encode_answer
from motes.model.release import Manifest

FOUND = Manifest("app", ())
QUESTION = Inspect("app", "0" * 64, ())


def play(answers: list[bytes | MotesError]) -> tuple[Manifest, list[str]]:
    """What a deploy is told, and who was asked, of one host whose answers are these; it gives the last again."""
    asked: list[str] = []

    async def request(subject: str, data: bytes, timeout_s: float) -> bytes:
        asked.append(subject)
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        if isinstance(answer, MotesError):
            raise answer
        return answer

    async def story() -> Manifest:
        controller: Any = SimpleNamespace(
            core=Bench("a").core,
            connection=SimpleNamespace(request=request),
            readers=SimpleNamespace(show=lambda host, archives: None),
            now=asyncio.get_running_loop().time,
        )
        controller.fetches = Fetches()
        return await Inspecting(cast(Controller, controller), controller.fetches).inspect(QUESTION, b"")

    return asyncio.run(asyncio.wait_for(story(), 30.0)), asked


def nobody() -> MotesError:
    return Unavailable("nobody hears this subject now")


def test_a_host_that_has_just_started_and_does_not_hear_yet_is_asked_again() -> None:
    found, asked = play([nobody(), nobody(), encode_answer(FOUND)])
    assert found == FOUND and asked == ["host.a.inspect"] * 3


def test_one_that_never_hears_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inspecting, "HOSTS_TIMEOUT_S", 0.3)
    with pytest.raises(Unavailable, match="host 'a' hears no question just now"):
        play([nobody()])
