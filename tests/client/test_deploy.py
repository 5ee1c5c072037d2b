"""What an owner signs: only what was asked for, whatever the host that looked at it says."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest

from motes.client.cluster import Cluster
from motes.client.deploy import prepare, remove, submit, upload
from motes.errors import Refused, TimedOut, Unavailable, Untrusted
from motes.grants.keys import Tag, load_or_create, verify
from motes.home import Home
from motes.model.keeper import CHUNK_BYTES, Arrived, AskChunks, Deploy, Deployed, Fetching, Inspect, Remove
from motes.model.release import Daemon, Function, Manifest, Release, Removal, Workload

WEB = Daemon("main", ("serve",), 8080)
EVIL = Daemon("main", ("sh", "-c", "evil"), 8080)
FUNCTION = Function("f", "app", "f")


class LyingCluster:
    """A cluster whose host describes every app as `manifest`."""

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        self.home = Home(folder / "home")
        self.home.create()
        self._manifest = manifest

    async def ask(self, verb: str, question: object, kind: type[Any], timeout_s: float = 0.0) -> Any:
        return self._manifest if verb == "inspect" else Arrived(True)


def prepared(folder: Path, manifest: Manifest, **asked: Any) -> Manifest:
    (folder / "app.py").write_text("")
    cluster = cast(Cluster, LyingCluster(folder, manifest))
    return asyncio.run(prepare(cluster, folder / "app.py", name="app", **asked)).manifest


@pytest.mark.parametrize(
    ("app", "workloads", "entries", "asked"),
    [
        ("app", (EVIL,), (), {}),
        ("app", (FUNCTION, EVIL), (), {}),
        ("app", (EVIL,), (), {"command": WEB.command, "port": WEB.port}),
        ("app", (WEB, EVIL), (), {"command": WEB.command, "port": WEB.port}),
        ("app", (WEB, FUNCTION), (), {"command": WEB.command, "port": WEB.port}),
        ("app", (FUNCTION,), (), {"command": WEB.command, "port": WEB.port}),
        ("app", (FUNCTION,), ("app.py:evil",), {"entries": ["app.py:f"]}),
        ("another", (FUNCTION,), (), {}),
    ],
)
def test_a_host_chooses_no_command_entry_or_name(
    tmp_path: Path, app: str, workloads: tuple[Workload, ...], entries: tuple[str, ...], asked: dict[str, Any]
) -> None:
    with pytest.raises(Untrusted, match="as what it is not"):
        prepared(tmp_path, Manifest(app, workloads, entries), **asked)


def test_what_was_asked_for_is_prepared(tmp_path: Path) -> None:
    functions = Manifest("app", (FUNCTION,), ("app.py:f",))
    assert prepared(tmp_path, functions, entries=["app.py:f"]) == functions
    daemon = Manifest("app", (WEB,))
    assert prepared(tmp_path, daemon, command=WEB.command, port=WEB.port) == daemon


class FetchingCluster:
    """A cluster whose host needs some looks to fetch what it loads; with `stuck` it gets on no more."""

    def __init__(self, folder: Path, looks: int, stuck: bool = False) -> None:
        self.home = Home(folder / "home")
        self.home.create()
        self.left = looks
        self.stuck = stuck
        self.loaded = asyncio.Event()

    async def ask(self, verb: str, question: Any, kind: type[Any], timeout_s: float = 0.0) -> Any:
        if verb == "inspect":
            owner = load_or_create(self.home.key("owner")).public
            self.layer = msgspec.msgpack.decode(verify(question, Tag.INSPECTION, (owner,)), type=Inspect).bundle
            await self.loaded.wait()
            return Manifest("app", (FUNCTION,))
        if verb != "fetching":
            return Arrived(True)
        self.left -= 1
        if self.left <= 0 and not self.stuck:
            self.loaded.set()
        if self.left == 2:
            raise Unavailable("for a moment")
        return [Fetching("a", self.layer, max(10 - self.left, 0), 10), Fetching("b", "another's", 5, 9)]


def test_what_a_host_fetches_first_is_shown_as_it_comes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("motes.client.deploy.LOOK_S", 0.01)
    (tmp_path / "app.py").write_text("")
    said: list[tuple[str, int, int]] = []
    cluster = cast(Cluster, FetchingCluster(tmp_path, 4))
    asyncio.run(prepare(cluster, tmp_path / "app.py", on_progress=lambda *each: said.append((*each, 0, 0)[:3])))
    assert [each for each in said if "fetches" in each[0]] == [
        ("host a fetches it", 7, 10),
        ("host a fetches it", 9, 10),
        ("host a fetches it", 10, 10),
    ]


def test_a_host_that_gets_on_with_nothing_is_not_waited_for_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("motes.client.deploy.LOOK_S", 0.001)
    monkeypatch.setattr("motes.client.deploy.INSPECT_TIMEOUT_S", 0.02)
    (tmp_path / "app.py").write_text("")
    cluster = FetchingCluster(tmp_path, 1000, stuck=True)
    with pytest.raises(TimedOut, match="no host has loaded the app"):
        asyncio.run(prepare(cast(Cluster, cluster), tmp_path / "app.py"))
    assert cluster.left < 1000 - 10


class LaterCluster:
    """A cluster that has something that was signed at `newest_at`, perhaps by a machine whose clock is ahead."""

    def __init__(self, folder: Path, newest_at: Any) -> None:
        self.home = Home(folder)
        self.home.create()
        self.owner = load_or_create(self.home.key("owner"))
        self.newest_at = newest_at
        self.asked: list[float] = []

    async def ask(self, verb: str, question: Deploy | Remove, kind: type[Any], timeout_s: float = 0) -> Any:
        if isinstance(question, Deploy):
            payload = verify(question.release, Tag.RELEASE, (self.owner.public,))
            self.asked.append(msgspec.msgpack.decode(payload, type=Release).created_at)
        else:
            payload = verify(question.removal, Tag.REMOVAL, (self.owner.public,))
            self.asked.append(msgspec.msgpack.decode(payload, type=Removal).removed_at)
        if self.asked[-1] <= self.newest_at:
            raise Refused("it was signed before", newest_at=self.newest_at)
        return Deployed("app", "r", changed=True) if kind is Deployed else True


def test_what_was_signed_under_a_later_clock_is_signed_over_once(tmp_path: Path) -> None:
    cluster = LaterCluster(tmp_path, 1e10)
    release = Release(Manifest("app", (FUNCTION,)), "0" * 64, 5.0)
    asyncio.run(submit(cast(Cluster, cluster), release))
    asyncio.run(remove(cast(Cluster, cluster), "app"))
    assert cluster.asked[0] == 5.0 and cluster.asked[1] > 1e10 and cluster.asked[3] > 1e10 and len(cluster.asked) == 4


@pytest.mark.parametrize("newest_at", [1e300, float("inf")])
def test_a_time_that_cannot_be_signed_over_is_not_tried_for_ever(tmp_path: Path, newest_at: float) -> None:
    cluster = LaterCluster(tmp_path, newest_at)
    with pytest.raises(Refused):
        asyncio.run(remove(cast(Cluster, cluster), "app"))
    assert len(cluster.asked) == 2


class ForgetfulCluster:
    """A cluster that has some chunks of an archive already, and whose connection breaks after some more."""

    def __init__(self, breaks_after: int) -> None:
        self.chunks: dict[int, bytes] = {}
        self.put: list[int] = []
        self.left = breaks_after

    async def ask(self, verb: str, question: Any, kind: type[Any], timeout_s: float = 0.0) -> Any:
        if isinstance(question, AskChunks):
            return Arrived(False, sorted(self.chunks))
        if self.left == 0:
            raise Unavailable("the connection broke")
        self.left -= 1
        self.put.append(question.index)
        self.chunks[question.index] = question.data
        return len(self.chunks) == question.count


def test_an_upload_goes_on_where_it_was_broken_off_and_says_how_far_it_is() -> None:
    data = os.urandom(10 * CHUNK_BYTES + 5)
    cluster = ForgetfulCluster(breaks_after=4)
    shown: list[tuple[int, int]] = []

    def say(step: str, done: int = 0, total: int = 0) -> None:
        shown.append((done, total))

    async def send() -> None:
        await upload(cast(Cluster, cluster), "0" * 64, data, say, "packages")

    with pytest.raises(Unavailable):
        asyncio.run(send())
    cluster.left = 100
    asyncio.run(send())
    assert sorted(cluster.put) == list(range(11)), "a chunk was sent twice, or not at all"
    assert b"".join(cluster.chunks[index] for index in range(11)) == data
    assert shown == sorted(shown) and shown[-1] == (11 * CHUNK_BYTES, 11 * CHUNK_BYTES)
