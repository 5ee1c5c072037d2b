"""What an owner signed stays signed for ever: who has kept it, and may deploy, brings nothing back with it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from typing import Any

import msgspec
import pytest

from motes.bus.connection import Connection
from motes.bus.store import Store
from motes.errors import MotesError, NotFound, Refused, Untrusted
from motes.grants import keys, roles
from motes.grants.keys import Key, Tag, sign
from motes.model.keeper import Deploy, Deployed, PutChunk, Remove, decode_answer
from motes.model.release import Release, Removal, Signed
from system.running import RunningCluster, wait_until

DEADLINE_S = 60.0
APP = "from motes import function\n\n@function\ndef version() -> int:\n    return {number}\n"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningCluster]:
    """A cluster, and credentials for the host `evil`, of which no agent runs."""
    with RunningCluster(tmp_path_factory.mktemp("trust") / "home") as cluster:
        cluster.up()
        cluster.make_keys(roles.host("evil"))
        yield cluster


def ask(cluster: RunningCluster, user: str, verb: str, question: object, kind: type[Any]) -> Any:
    """What the controller answers to this user. Raises what it refuses with."""

    async def work() -> Any:
        async with AsyncExitStack() as stack:
            connection = await Connection.open(cluster.home.nats_url(), cluster.home.credentials(user))
            stack.push_async_callback(connection.close)
            data = msgspec.msgpack.encode(question)
            return decode_answer(await connection.request(f"keeper.{user}.{verb}", data, DEADLINE_S), kind)

    return asyncio.run(work())


def captured(cluster: RunningCluster, app: str) -> Signed:
    """The app's release as its owner signed it: each host that runs it has that."""
    (release,) = [each["release"] for each in cluster.json("apps") if each["app"] == app]
    return msgspec.msgpack.decode(stored(cluster, lambda store: store.release(release)), type=Signed)


def stored(cluster: RunningCluster, read: Callable[[Store], Awaitable[bytes]]) -> bytes:
    """What the keeper's store holds."""

    async def work() -> bytes:
        async with AsyncExitStack() as stack:
            connection = await Connection.open(cluster.home.nats_url(), cluster.home.credentials("keeper"))
            stack.push_async_callback(connection.close)
            store = await Store.open(connection)
            stack.push_async_callback(store.close)
            return await read(store)

    return asyncio.run(work())


def deploy(cluster: RunningCluster, signed: Signed) -> Deployed:
    found = ask(cluster, "local", "deploy", Deploy(signed), Deployed)
    assert isinstance(found, Deployed)
    return found


def restart_controller(cluster: RunningCluster) -> None:
    cluster.wait_until_back("controller", cluster.kill("controller"))
    wait_until(lambda: cluster.run("apps").returncode == 0, "the controller answers")


def test_an_earlier_release_cannot_be_deployed_again(cluster: RunningCluster) -> None:
    cluster.deploy("down", APP.format(number=1))
    first = captured(cluster, "down")
    cluster.deploy("down", APP.format(number=2))
    for _ in range(2):
        with pytest.raises(Refused, match=r"this release of app 'down' was signed at .* UTC.*sign it anew"):
            deploy(cluster, first)
        assert cluster.motes("call", "down.version") == "2\n"
        restart_controller(cluster)


def test_the_owner_runs_earlier_code_again_by_signing_it_anew(cluster: RunningCluster) -> None:
    for number in (1, 2, 1):
        cluster.deploy("back", APP.format(number=number))
        assert cluster.motes("call", "back.version") == f"{number}\n"


def test_a_removed_app_comes_back_only_with_a_new_signature(cluster: RunningCluster) -> None:
    cluster.deploy("gone", APP.format(number=1))
    signed = captured(cluster, "gone")
    bundle = msgspec.msgpack.decode(signed.payload, type=Release).bundle
    code = stored(cluster, lambda store: store.get_chunk(bundle, 0))
    cluster.motes("rm", "gone")
    for _ in range(2):
        assert ask(cluster, "local", "bundle-put", PutChunk(bundle, 0, 1, code), bool)
        with pytest.raises(Refused, match="the app was removed by what was signed at"):
            deploy(cluster, signed)
        assert "gone" not in {each["app"] for each in cluster.json("apps")}
        restart_controller(cluster)
    cluster.deploy("gone", APP.format(number=1))
    assert cluster.motes("call", "gone.version") == "1\n"


def signed_at(cluster: RunningCluster, signed: Signed, later_s: float) -> Signed:
    """The same release, signed by its owner at another time, with other memory so that it is another one."""
    release = msgspec.msgpack.decode(signed.payload, type=Release)
    workloads = tuple(msgspec.structs.replace(each, memory_bytes=2**27) for each in release.manifest.workloads)
    manifest = msgspec.structs.replace(release.manifest, workloads=workloads)
    changed = msgspec.structs.replace(release, manifest=manifest, created_at=release.created_at + later_s)
    return sign(keys.load_or_create(cluster.home.key("owner")), Tag.RELEASE, msgspec.msgpack.encode(changed))


def removal(cluster: RunningCluster, key: Key | None = None, **change: Any) -> Signed:
    owner = key or keys.load_or_create(cluster.home.key("owner"))
    word = msgspec.structs.replace(Removal("kept", time.time()), **change)
    return sign(owner, Tag.REMOVAL, msgspec.msgpack.encode(word))


def test_an_app_is_removed_only_by_its_owners_word_of_now(cluster: RunningCluster) -> None:
    before = removal(cluster)
    cluster.deploy("kept", APP.format(number=1))
    release = captured(cluster, "kept")
    forged: dict[type[MotesError], list[Signed]] = {
        Refused: [before],
        Untrusted: [
            removal(cluster, Key.generate()),
            release,
            Signed(removal(cluster).payload, release.signature, release.signer),
        ],
        NotFound: [removal(cluster, app="other")],
    }
    for error, attempts in forged.items():
        for attempt in attempts:
            with pytest.raises(error):
                ask(cluster, "local", "remove", Remove(attempt), bool)
    for unsigned in ("kept", {"removal": "kept"}):
        with pytest.raises(MotesError):
            ask(cluster, "local", "remove", unsigned, bool)
    assert cluster.motes("call", "kept.version") == "1\n"
    assert ask(cluster, "local", "remove", Remove(removal(cluster)), bool)


def test_an_owner_whose_clock_went_back_still_deploys_and_removes(cluster: RunningCluster) -> None:
    cluster.deploy("ahead", APP.format(number=1))
    deploy(cluster, signed_at(cluster, captured(cluster, "ahead"), 3600.0))
    cluster.deploy("ahead", APP.format(number=2))
    assert cluster.motes("call", "ahead.version") == "2\n"
    cluster.motes("rm", "ahead")
    cluster.deploy("ahead", APP.format(number=3))
    assert cluster.motes("call", "ahead.version") == "3\n"
