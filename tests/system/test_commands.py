"""The commands as a user types them, at a cluster that really runs."""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import re
import signal
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from motes.model.instance import EndReason, StartReason
from motes.space.cgroup import holding
from system.running import DEADLINE_S, MOTES, RunningCluster, wait_until
from system.terminal import in_a_terminal

HELLO = """
    import sys
    from dataclasses import dataclass
    from motes import function

    @dataclass
    class Person:
        name: str
        age: int = 0

    @function
    def greet(name: str) -> str:
        print("greeting", name)
        return f"hello, {name}"

    @function
    def add(a: int, b: int = 2) -> int:
        return a + b

    @function
    def older(person: Person) -> Person:
        return Person(person.name, person.age + 1)

    @function
    def size(data: bytes) -> int:
        return len(data)

    @function
    def nothing() -> None:
        print("to stderr", file=sys.stderr)
"""
PS_FIELDS = {
    "app",
    "workload",
    "release",
    "host",
    "pid",
    "state",
    "started_at",
    "calls",
    "cpu_s",
    "memory_bytes",
}


@pytest.fixture(scope="module")
def hello(cluster: RunningCluster) -> RunningCluster:
    """The cluster with the app `hello`."""
    cluster.deploy("hello", HELLO)
    return cluster


def write(folder: Path, name: str, text: str) -> str:
    (folder / name).write_text(text)
    return str(folder / name)


def ask(
    cluster: RunningCluster, method: str, path: str, body: bytes = b"", host: str = "", **named: str
) -> tuple[int, str]:
    """An HTTP request as curl makes it; underscores in header names stand for dashes."""
    netloc = urlsplit(cluster.home.cluster()["http"]).netloc
    connection = http.client.HTTPConnection(netloc, timeout=DEADLINE_S)
    headers = {"Host": host or netloc, "content-type": "application/x-www-form-urlencoded", "accept": "*/*"}
    headers |= {name.replace("_", "-"): value for name, value in named.items()}
    connection.request(method, path, body, headers)
    answer = connection.getresponse()
    found = answer.status, answer.read().decode()
    connection.close()
    return found


# ---------------------------------------------------------------------- deploy


def test_deploy_shows_the_release_the_signatures_and_how_to_call(cluster: RunningCluster, tmp_path: Path) -> None:
    source = "from motes import function\n@function\ndef double(n: int) -> int:\n    return 2 * n\n"
    shown = cluster.motes("deploy", write(tmp_path, "shown.py", source))
    url = f"{cluster.home.cluster()['http']}/shown/double"
    assert shown.startswith("shown: release ")
    assert "  double(n: int) -> int\n" in shown
    assert f"    curl {url} -d 1\n" in shown


def test_deploying_the_same_again_changes_nothing(hello: RunningCluster) -> None:
    path = str(hello.folder.parent / "hello.py")
    first, second = hello.json("deploy", path), hello.json("deploy", path)
    assert (first["release"], second["changed"]) == (second["release"], False)
    assert "as it was" in hello.motes("deploy", path)


def test_a_plain_callable_is_deployed_without_the_decorator(cluster: RunningCluster, tmp_path: Path) -> None:
    path = write(tmp_path, "plain.py", "def double(n: int) -> int:\n    return 2 * n\n")
    told = cluster.json("deploy", f"{path}:double", "--name", "plain-one")
    assert (told["app"], [each["name"] for each in told["workloads"]]) == ("plain-one", ["double"])
    assert cluster.motes("call", "plain-one.double", "4") == "8\n"


def test_a_folder_is_an_app_of_its_name_with_its_modules_and_data(cluster: RunningCluster, tmp_path: Path) -> None:
    folder = tmp_path / "shop"
    (folder / "parts").mkdir(parents=True)
    write(folder / "parts", "__init__.py", "PRICE = 7\n")
    write(folder, "note.txt", "from a file")
    write(
        folder,
        "main.py",
        "from pathlib import Path\nfrom motes import function\nfrom parts import PRICE\n"
        "@function\ndef note() -> str:\n    return f\"{PRICE} {Path('/app/note.txt').read_text()}\"\n",
    )
    cluster.motes("deploy", str(folder))
    assert cluster.motes("call", "shop.note") == '"7 from a file"\n'


def test_a_bundle_of_many_chunks_arrives_whole(cluster: RunningCluster, tmp_path: Path) -> None:
    folder = tmp_path / "large"
    folder.mkdir()
    data = os.urandom(3 * 2**20)
    (folder / "data.bin").write_bytes(data)
    write(
        folder,
        "main.py",
        "import hashlib\nfrom motes import function\n@function\ndef sum() -> str:\n"
        "    return hashlib.sha256(open('/app/data.bin', 'rb').read()).hexdigest()\n",
    )
    cluster.motes("deploy", str(folder))
    assert json.loads(cluster.motes("call", "large.sum")) == hashlib.sha256(data).hexdigest()


def test_a_new_release_takes_over(cluster: RunningCluster, tmp_path: Path) -> None:
    for number in ("1", "2"):
        source = f"from motes import function\n@function\ndef version() -> int:\n    return {number}\n"
        cluster.motes("deploy", write(tmp_path, "next.py", source))
        wait_until(lambda number=number: cluster.motes("call", "next.version") == f"{number}\n")  # type: ignore[misc]


# ---------------------------------------------------------------------- call


@pytest.mark.parametrize(
    ("words", "result"),
    [
        (["greet", "Ada"], '"hello, Ada"'),
        (["greet", '"Ada"'], '"hello, Ada"'),
        (["greet", "name=Ada"], '"hello, Ada"'),
        (["greet", "Ada Lovelace"], '"hello, Ada Lovelace"'),
        (["add", "a=5"], "7"),
        (["add", "a=5", "b=-6"], "-1"),
        (["add", '{"a": 1, "b": 1}'], "2"),
        (["older", '{"name": "Ada", "age": 36}'], '{"name":"Ada","age":37}'),
        (["size", "Ada"], "3"),
        (["nothing"], "null"),
        (["greet", "Ada", "--timeout", "20 s"], '"hello, Ada"'),
        (["greet", "--timeout", "20", "Ada"], '"hello, Ada"'),
    ],
)
def test_a_call_in_every_spelling(hello: RunningCluster, words: list[str], result: str) -> None:
    function, *rest = words
    assert hello.motes("call", f"hello.{function}", *rest) == f"{result}\n"


def test_a_call_reads_standard_input(hello: RunningCluster) -> None:
    assert hello.motes("call", "hello.greet", "-", stdin="Ada") == '"hello, Ada"\n'
    assert hello.motes("call", "hello.greet", "-", stdin='"Ada"\n') == '"hello, Ada"\n'
    assert hello.motes("call", "hello.add", "-", stdin='{"a": 1}') == "3\n"


def test_a_large_input_and_result_pass(cluster: RunningCluster) -> None:
    source = "from motes import function\n@function\ndef same(text: str) -> str:\n    return text\n"
    cluster.deploy("echo", source)
    text = "x" * 8_000_000
    assert json.loads(cluster.motes("call", "echo.same", "-", stdin=text)) == text


def test_a_call_over_http_is_what_the_curl_line_says(hello: RunningCluster) -> None:
    assert ask(hello, "POST", "/hello/greet", b'"Ada"') == (200, '"hello, Ada"')
    assert ask(hello, "POST", "/hello/add", b'{"a": 1}') == (200, "3")
    status, problem = ask(hello, "POST", "/hello/greet", b"5")
    assert status == 422
    assert json.loads(problem)["path"] == "$"
    assert json.loads(problem)["detail"] == "hello.greet: Expected `str`, got `int`"
    assert ask(hello, "POST", "/hello/nobody", b"5")[0] == 404


def test_bytes_and_messagepack_are_taken_and_given_by_content_type(cluster: RunningCluster) -> None:
    source = "from motes import function\n@function\ndef back(data: bytes) -> bytes: return data[::-1]\n"
    cluster.deploy("turned", source)
    raw, packed = "application/octet-stream", "application/msgpack"
    assert ask(cluster, "POST", "/turned/back", b"abc", content_type=raw, accept=raw) == (200, "cba")
    assert ask(cluster, "POST", "/turned/back", b"\xc4\x03abc", content_type=packed, accept=raw) == (200, "cba")
    assert ask(cluster, "POST", "/turned/back", b"abc", content_type=raw) == (200, '"Y2Jh"')
    back = json.loads(ask(cluster, "GET", "/turned/openapi.json")[1])["paths"]["/turned/back"]["post"]
    for content in (back["requestBody"]["content"], back["responses"]["200"]["content"]):
        assert set(content) == {"application/json", packed, raw}, "the document names what is taken and given"


def test_an_app_describes_itself_to_programs_and_people(hello: RunningCluster) -> None:
    status, document = ask(hello, "GET", "/hello/openapi.json")
    greet = json.loads(document)["paths"]["/hello/greet"]["post"]
    assert (status, greet["requestBody"]["content"]["application/json"]["schema"]) == (200, {"type": "string"})
    assert greet["responses"]["200"]["content"]["application/json"]["schema"] == {"type": "string"}
    status, page = ask(hello, "GET", "/hello/")
    assert status == 200 and "/hello/greet -d" in page
    assert ask(hello, "GET", "/nobody/")[0] == 404


def test_the_curl_lines_that_deploy_shows_work(hello: RunningCluster) -> None:
    ways = hello.json("deploy", str(hello.folder.parent / "hello.py"))["workloads"]
    assert {"greet", "add", "older", "size"} <= {way["name"] for way in ways}
    for way in ways:
        done = subprocess.run(way["curl"] + " -s", shell=True, capture_output=True, text=True, timeout=DEADLINE_S)
        assert "urn:motes:problem" not in done.stdout and done.stdout, (way, done)


# ---------------------------------------------------------------------- looking


def test_ps_shows_an_instance_with_exactly_its_fields(hello: RunningCluster) -> None:
    hello.motes("call", "hello.greet", "Ada")
    found = hello.instances("greet")
    assert all(set(each) == PS_FIELDS for each in found)
    instance = found[0]
    assert (instance["app"], instance["state"], instance["host"]) == ("hello", "idle", "local")
    assert Path(f"/proc/{instance['pid']}").exists()
    assert instance["calls"] >= 1
    assert abs(instance["started_at"] - time.time()) < DEADLINE_S
    assert "hello.greet" in hello.motes("ps")


def test_an_instance_goes_away_when_nobody_calls(cluster: RunningCluster) -> None:
    cluster.deploy("short", "from motes import function\n@function(idle='300 ms')\ndef f() -> int:\n    return 1\n")
    cluster.motes("call", "short.f")
    wait_until(lambda: not [each for each in cluster.json("ps") if each["app"] == "short"])
    ends = [each for each in cluster.json("events") if each["app"] == "short" and each["what"] == "instance.end"]
    assert [each["reason"] for each in ends] == ["idle"]


def test_apps_lists_what_is_deployed_with_its_workloads(hello: RunningCluster) -> None:
    found = next(each for each in hello.json("apps") if each["app"] == "hello")
    names = [workload["name"] for workload in found["manifest"]["workloads"]]
    assert names == ["greet", "add", "older", "size", "nothing"]
    assert found["failing"] == {}
    assert "greet, add, older, size, nothing" in hello.motes("apps")


def test_events_tell_each_start_with_its_reason(hello: RunningCluster) -> None:
    hello.motes("call", "hello.greet", "Ada")
    events = hello.json("events", "--limit", "1000")
    assert [each["at"] for each in events] == sorted(each["at"] for each in events)
    start = next(each for each in events if each["what"] == "instance.start" and each["app"] == "hello")
    assert (start["app"], start["reason"], start["host"]) == ("hello", "load", "local")
    assert {"host.up", "app.deployed"} <= {each["what"] for each in events}
    assert {each["reason"] for each in events} <= {*StartReason, *EndReason}
    assert len(hello.json("events", "--limit", "2")) == 2


def test_logs_show_what_was_printed_by_whom(hello: RunningCluster) -> None:
    hello.motes("call", "hello.greet", "somebody")
    hello.motes("call", "hello.nothing")
    wait_until(lambda: "greeting somebody" in hello.motes("logs", "hello"))
    wait_until(lambda: "to stderr" in hello.motes("logs", "hello.nothing"))
    assert "greeting" not in hello.motes("logs", "hello.nothing")
    line = next(each for each in hello.json("logs", "hello.greet") if "somebody" in each["text"])
    assert (line["app"], line["workload"], line["host"]) == ("hello", "greet", "local")


class Following:
    """A command that goes on, with what it printed so far in a file."""

    def __init__(self, cluster: RunningCluster, output: Path, *words: str) -> None:
        self._output = output
        with output.open("wb") as file:
            self.process = subprocess.Popen([MOTES, *words], env=cluster.environment, stdout=file)

    def lines(self) -> list[str]:
        return self._output.read_text().splitlines()

    def interrupt(self) -> int:
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(DEADLINE_S)


@pytest.fixture
def followed(hello: RunningCluster, tmp_path: Path) -> Iterator[Any]:
    started: list[Following] = []

    def follow(*words: str) -> Following:
        started.append(Following(hello, tmp_path / f"output-{len(started)}", *words))
        return started[-1]

    yield follow
    for each in started:
        each.process.kill()
        each.process.wait()


def test_followed_logs_hold_history_and_news_once_each(hello: RunningCluster, followed: Any) -> None:
    hello.motes("call", "hello.greet", "before-1")
    wait_until(lambda: "before-1" in hello.motes("logs", "hello"))
    following = followed("logs", "hello.greet", "-f")
    wait_until(lambda: any("before-1" in line for line in following.lines()))
    for number in range(5):
        hello.motes("call", "hello.greet", f"after-{number}")
    wait_until(lambda: any("after-4" in line for line in following.lines()))
    for name in ("before-1", *(f"after-{number}" for number in range(5))):
        assert sum(name in line for line in following.lines()) == 1, name
    assert following.interrupt() == 0


def test_followed_events_are_one_object_a_line(hello: RunningCluster, followed: Any, tmp_path: Path) -> None:
    following = followed("events", "-f", "--json")
    wait_until(following.lines)
    source = "from motes import function\n@function\ndef f() -> int:\n    return 1\n"
    hello.motes("deploy", write(tmp_path, "followed.py", source))

    def deployed() -> list[Any]:
        found = [json.loads(line) for line in following.lines()]
        return [each for each in found if (each["what"], each["app"]) == ("app.deployed", "followed")]

    wait_until(deployed)
    assert len(deployed()) == 1
    assert following.interrupt() == 0


def test_a_reader_that_has_had_enough_ends_a_command_quietly(hello: RunningCluster) -> None:
    done = subprocess.run(
        f"{MOTES} events -f --json | head -n 1",
        shell=True,
        env=hello.environment,
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
    )
    assert done.returncode == 0
    assert json.loads(done.stdout)["what"]
    assert done.stderr == ""


# ---------------------------------------------------------------------- rm


def test_a_removed_app_is_gone_with_its_instances(cluster: RunningCluster) -> None:
    cluster.deploy("brief", "from motes import function\n@function\ndef f() -> int:\n    return 1\n")
    cluster.motes("call", "brief.f")
    assert cluster.json("rm", "brief") == {"app": "brief", "removed": True}
    assert "brief" not in [each["app"] for each in cluster.json("apps")]
    wait_until(lambda: "brief" not in [each["app"] for each in cluster.json("ps")])
    assert cluster.run("call", "brief.f").returncode == 4


# ---------------------------------------------------------------------- daemons

SITE = ("--cmd", "python -m http.server 8000 --bind 127.0.0.1", "--port", "8000")


def test_a_daemon_answers_by_host_name_and_comes_back_when_its_process_is_killed(
    cluster: RunningCluster, tmp_path: Path
) -> None:
    folder = tmp_path / "site"
    folder.mkdir()
    write(folder, "index.html", "from a space")
    told = cluster.json("deploy", str(folder), *SITE)
    port = urlsplit(told["http"]).port
    assert told["workloads"][0]["url"] == f"http://site.localhost:{port}/"
    assert ask(cluster, "GET", "/", host=f"site.localhost:{port}") == (200, "from a space")
    wait_until(lambda: 'motes_daemon_requests_total{app="site"} 1.0' in metrics(cluster))
    assert not [line for line in metrics(cluster) if line.startswith("motes_call") and 'app="site"' in line]
    first = cluster.instances("main")[0]["pid"]
    os.kill(first, signal.SIGKILL)
    wait_until(lambda: [each["pid"] for each in cluster.instances("main") if each["pid"] not in (0, first)])
    wait_until(lambda: ask(cluster, "GET", "/", host=f"site.localhost:{port}") == (200, "from a space"))
    ends = [each for each in cluster.json("events") if (each["app"], each["what"]) == ("site", "instance.end")]
    assert ends[-1]["reason"] == "crashed"
    wait_until(lambda: "GET /" in cluster.motes("logs", "site"))
    cluster.motes("rm", "site")


def test_a_daemon_without_a_port_is_a_bot(cluster: RunningCluster, tmp_path: Path) -> None:
    bot = write(tmp_path, "bot.py", "import time\nwhile True:\n    print('tick', flush=True)\n    time.sleep(0.1)\n")
    told = cluster.json("deploy", bot, "--cmd", "python bot.py")
    assert "url" not in told["workloads"][0]
    wait_until(lambda: "tick" in cluster.motes("logs", "bot"))
    cluster.motes("rm", "bot")


# ---------------------------------------------------------------------- doctor


def test_doctor_says_what_works_here(cluster: RunningCluster) -> None:
    done = cluster.run("doctor", "--json")
    told = json.loads(done.stdout)
    checks = {check["name"]: check for check in told["checks"]}
    assert done.returncode == 0, told
    assert told["works"]
    assert {"Python", "kernel", "nats-server", "bubblewrap", "process space", "seccomp", "home"} <= set(checks)
    for name in ("nats-server", "bubblewrap"):
        assert "SHA-256" in checks[name]["detail"]
    assert told["cluster"]["http"] == cluster.home.cluster()["http"]
    limits = checks["limits of hosts"]
    held = holding(cluster.pid("agent-local"))
    assert limits["works"] == (held == {"cpu", "memory", "pids"}) and not limits["required"]
    assert limits["detail"].startswith("by cgroup: " if held else "by looking and stopping")
    assert limits["works"] or limits["mend"]
    signs = {name.removeprefix("lending: "): check for name, check in checks.items() if name.startswith("lending: ")}
    assert set(signs) == {"memory", "charger", "sessions", "terminals", "keyboard", "other programs"}
    assert signs["memory"]["works"] and "to be had" in signs["memory"]["detail"] and not signs["memory"]["required"]


def test_doctor_names_the_line_that_mends_what_is_missing(cluster: RunningCluster, tmp_path: Path) -> None:
    environment = {**cluster.environment, "NATS_SERVER": str(tmp_path / "nothing")}
    done = subprocess.run([MOTES, "doctor"], env=environment, capture_output=True, text=True, timeout=DEADLINE_S)
    assert done.returncode == 1
    assert "NO  nats-server" in done.stdout
    assert "mend: " in done.stdout


def test_metrics_count_what_was_called(cluster: RunningCluster) -> None:
    source = """
        import time
        from motes import function
        @function
        def f(x: int) -> int:
            return 1 // x
        @function(timeout="600 ms")
        def hangs() -> None:
            time.sleep(60)
    """
    cluster.deploy("counted", source)
    for argument in ("1", "2", "0"):
        cluster.run("call", "counted.f", argument)
    labels = '{app="counted",host="local",workload="f"}'
    wait_until(lambda: f"motes_calls_total{labels} 3.0" in metrics(cluster))
    told = metrics(cluster)
    assert f"motes_errors_total{labels} 1.0" in told and f"motes_call_seconds_count{labels} 3.0" in told
    assert f"motes_starts_total{labels} 1.0" in told
    for timeout in ((), ("--timeout", "550 ms")):
        assert cluster.run("call", "counted.hangs", *timeout).returncode == 5
    late = 'app="counted",host="local",{}workload="hangs"'
    wait_until(lambda: f"motes_call_seconds_count{{{late.format('')}}} 2.0" in metrics(cluster))
    within = late.format('le="0.5",')
    assert f"motes_call_seconds_bucket{{{within}}} 0.0" in metrics(cluster), "who hangs is slow, on the page as well"


def metrics(cluster: RunningCluster) -> list[str]:
    with urllib.request.urlopen(f"{cluster.home.cluster()['http']}/metrics", timeout=DEADLINE_S) as response:
        return response.read().decode().splitlines()  # type: ignore[no-any-return]


def test_top_needs_a_terminal_and_shows_the_cluster_in_one(cluster: RunningCluster) -> None:
    assert "needs a terminal" in cluster.run("top").stderr and cluster.run("top").returncode == 2
    cluster.deploy("shown", "from motes import function\n@function\ndef f() -> int:\n    return 1\n")
    cluster.run("call", "shown.f")
    with in_a_terminal(cluster, "top", NO_COLOR="1") as terminal:
        terminal.read_until(b"shown.f")
        terminal.read_until(b"hosts up")
        terminal.read_until(b"\x1b[7;39;49m")  # The cursor, in the terminal's own two colours.
        assert re.findall(rb"\x1b\[(?:[\d;]*;)?[34](?:[0-7]|8[\d;]+)m", terminal.shown) == [], "no other colour is sent"
        terminal.type(b"q")
        assert terminal.exit_code() == 0
