"""Every file of examples/, deployed as its page says and used as its users would."""

from __future__ import annotations

import asyncio
import json
import re
import struct
import subprocess
import sys
import textwrap
import urllib.error
import urllib.request
import zlib
from pathlib import Path
from typing import Any

import mcp
import pytest
from mcp import Client
from tests.system.test_packages import only_index, wheelhouse  # noqa: F401  a fixture

from system.running import DEADLINE_S, RunningCluster

EXAMPLES = Path(__file__).parents[2] / "examples"
PAGE = (EXAMPLES / "README.md").read_text()


def post(cluster: RunningCluster, path: str, body: bytes, **headers: str) -> bytes:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    request = urllib.request.Request(f"{cluster.home.cluster()['http']}/{path}", body, named)
    with urllib.request.urlopen(request, timeout=DEADLINE_S) as response:
        return bytes(response.read())


def test_the_page_names_every_example_and_no_other() -> None:
    assert set(re.findall(r"^\| `(\w+\.py)`", PAGE, re.MULTILINE)) == {file.name for file in EXAMPLES.glob("*.py")}


def test_the_webhook_takes_what_a_code_host_sends(cluster: RunningCluster) -> None:
    cluster.motes("deploy", str(EXAMPLES / "webhook.py"))
    commits = [
        {
            "id": "0123456789",
            "message": "Fix it\n\nlong text",
            "author": {"name": "Ada", "email": "a@b.c"},
            "added": [],
        },
        {"id": "1", "message": "chore: nothing", "author": {"name": "Grace"}},
    ]
    body = json.dumps({"ref": "refs/heads/main", "commits": commits, "repository": {"id": 1}}).encode()
    told = json.loads(post(cluster, "webhook/push", body, content_type="application/json"))
    assert told == {"branch": "main", "lines": ["0123456 Fix it (Ada)"]}
    assert (
        "field `author` - at `$.commits[0]`"
        in cluster.run("call", "webhook.push", '{"ref": "x", "commits": [{"id": "1", "message": "m"}]}').stderr
    )


def test_the_thumbnail_is_a_smaller_picture(cluster: RunningCluster, wheelhouse: Path) -> None:  # noqa: F811
    with only_index(cluster, wheelhouse):
        cluster.motes("deploy", str(EXAMPLES / "thumbnail.py"))
    raw = {"content_type": "application/octet-stream", "accept": "application/octet-stream"}
    small = post(cluster, "thumbnail/shrink", png(800, 400), **raw)
    assert struct.unpack(">II", small[16:24]) == (128, 64)
    with pytest.raises(urllib.error.HTTPError, match="500"):
        post(cluster, "thumbnail/shrink", b"no picture", **raw)


def png(width: int, height: int) -> bytes:
    """A black picture."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    rows = zlib.compress((b"\0" + bytes(3 * width)) * height)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def test_the_pipeline_finds_what_makes_each_page_special(cluster: RunningCluster, tmp_path: Path) -> None:
    cluster.motes("deploy", str(EXAMPLES / "pages.py"))
    for name, word in (("one", "otter"), ("two", "badger"), ("three", "heron")):
        (tmp_path / f"{name}.html").write_text(f"<script>var {word}</script><p>the animal is the {word} {word}</p>")
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / "pages.py"), str(tmp_path)],
        env=cluster.environment,
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
    )
    assert [line.split()[:2] for line in done.stdout.splitlines()] == [
        ["one.html", "otter"],
        ["three.html", "heron"],
        ["two.html", "badger"],
    ], done


def test_the_writer_streams_the_same_words_for_the_same_seed(cluster: RunningCluster) -> None:
    cluster.motes("deploy", str(EXAMPLES / "writer.py"))
    typed = cluster.motes("call", "writer.write", "words=30", "seed=1").splitlines()
    assert len(typed) == 30
    events = post(cluster, "writer/write", b'{"words": 30, "seed": 1}', accept="text/event-stream").decode()
    assert [line.removeprefix("data: ") for line in events.split("\n\n") if line] == typed


def test_the_runner_runs_snippets_apart_and_within_limits(cluster: RunningCluster) -> None:
    cluster.motes("deploy", str(EXAMPLES / "runner.py"))

    def run(code: str) -> dict[str, object]:
        return dict(cluster.json("call", "runner.run", code))

    assert run("kept = 1\nprint(6 * 7)\nkept + 1") == {"printed": "42\n", "value": "2", "error": None}
    assert "NameError" in str(run("kept")["error"]), "a snippet sees nothing of the one before"
    assert "SyntaxError" in str(run("1 +")["error"])
    assert "FileNotFoundError" in str(run("open('/etc/shadow')")["error"])
    assert "PermissionError" in str(run("import socket; socket.socket()")["error"])
    # Over a limit it is no error of the snippet's but a typed one, which it says in its description.
    limits = {
        "x = bytearray(10**10)": "memory",
        "kept = []\nwhile True: kept.append(bytes(2**20))": "memory",
        "import time\ntime.sleep(60)": "timeout of 10 s",
        "import os\nos._exit(1)": "the process ended in the middle of the call",
    }
    for code, said in limits.items():
        assert said in cluster.refusal(5 if "sleep" in code else 6, "call", "runner.run", code), code


def test_the_runner_is_a_tool_for_agents(cluster: RunningCluster) -> None:
    cluster.motes("deploy", str(EXAMPLES / "runner.py"))
    url = cluster.home.cluster()["http"]
    settings, program = re.findall(r"(?:^    .*\n)+", PAGE.partition("## Python for agents")[2], re.MULTILINE)
    connected = json.loads(settings.replace("http://localhost:8080", url))["mcpServers"]["motes"]
    typed = textwrap.dedent(program).replace("http://localhost:8080", url)

    async def use() -> None:
        named: dict[str, Any] = {"mcp": mcp}
        exec(f"async def ran():\n{textwrap.indent(typed, '    ')}\n    return ran", named)
        assert json.loads((await named["ran"]()).content[0].text)["value"] == "42"
        async with Client(connected["url"]) as client:
            (tool,) = [each for each in (await client.list_tools()).tools if each.name == "runner__run"]
            assert "snippet" in (tool.description or "") and tool.input_schema["properties"] == {
                "code": {"type": "string"}
            }
            result = await client.call_tool("runner__run", {"code": "print(1)\n6 * 7"})
            assert json.loads(result.content[0].text) == {"printed": "1\n", "value": "42", "error": None}  # type: ignore[union-attr]
            result = await client.call_tool("runner__run", {"code": "import os; os._exit(1)"})
            assert result.is_error

    asyncio.run(asyncio.wait_for(use(), DEADLINE_S))
