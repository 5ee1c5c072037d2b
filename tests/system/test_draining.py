"""The keeper's owner drains a host: callers and clients of daemons notice nothing, and it stays so over restarts."""

from __future__ import annotations

import textwrap
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from motes.errors import Refused
from system.people import People, with_people
from system.running import DEADLINE_S, RunningCluster, wait_until

APP = """
    import time
    from motes import function

    @function
    def nap(seconds: float) -> float:
        time.sleep(seconds)
        return seconds

    @function(scale=(2, None))
    def always() -> str:
        return "there"
"""
WEB = """
    import http.server
    import time

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            time.sleep(0.4 if self.command == "POST" else 0.02)
            self.send_response(200)
            self.send_header("Content-Length", "5")
            self.end_headers()
            self.wfile.write(b"there")

        do_POST = do_GET

    # It knows nothing of being told to end: that ends it at once.
    http.server.ThreadingHTTPServer(("127.0.0.1", 8000), Handler).serve_forever()
"""


@pytest.fixture
def two(tmp_path: Path) -> Iterator[RunningCluster]:
    """A cluster of the hosts `local` and `b`."""
    with RunningCluster(tmp_path / "home") as made:
        made.up()
        made.motes("host", "start", "--name", "b")
        yield made


def where(cluster: RunningCluster, workload: str) -> set[str]:
    return {each["host"] for each in cluster.instances() if workload in (each["app"], each["workload"])}


class Visitor(threading.Thread):
    """Visits a page again and again, and notes what went wrong."""

    def __init__(self, http: str, app: str, method: str) -> None:
        super().__init__(daemon=True)
        headers = {"host": f"{app}.localhost:{http.rpartition(':')[2]}"}
        self.page = urllib.request.Request(http, headers=headers, method=method)
        self.failures, self.visits, self.over = list[str](), 0, False

    def run(self) -> None:
        while not self.over:
            try:
                with urllib.request.urlopen(self.page, timeout=DEADLINE_S) as page:
                    assert page.status == 200
                self.visits += 1
            except Exception as error:
                self.failures.append(repr(error))
            time.sleep(0.01)


def test_a_drained_host_loses_no_call_and_its_daemon_serves_elsewhere_before(two: RunningCluster) -> None:
    # First everything is on the host `local`.
    two.motes("host", "drain", "b")
    two.deploy("work", APP)
    folder = two.folder.parent / "site"
    folder.mkdir()
    (folder / "web.py").write_text(textwrap.dedent(WEB))
    two.motes("deploy", str(folder), "--cmd", "python web.py", "--port", "8000")
    # A GET that the daemon's end cuts off would be sent again; a POST must not be cut off.
    visitors = [Visitor(two.home.cluster()["http"], "site", method) for method in ("GET", "POST")]
    for visitor in visitors:
        visitor.start()
    wait_until(lambda: all(visitor.visits > 10 or visitor.failures for visitor in visitors))
    calls = [two.start("call", "work.nap", "15", "--timeout", "60") for _ in range(4)]
    wait_until(lambda: sum(each["state"] == "busy" for each in two.instances("nap")) == 4)
    assert {each["host"] for each in two.instances()} == {"local"}
    two.motes("host", "drain", "b", "--off")
    # The calls are still running there: it is not to be switched off yet.
    assert two.json("host", "drain", "local") == {"name": "local", "state": "draining"}
    assert two.json("host", "drain", "local", "--wait") == {"name": "local", "state": "drained"}
    assert [call.communicate(timeout=DEADLINE_S)[0] for call in calls] == ["15.0\n"] * 4
    assert {each["host"] for each in two.instances()} == {"b"}
    for visitor in visitors:
        before = visitor.visits
        wait_until(lambda visitor=visitor, before=before: visitor.visits > before + 20 or visitor.failures)
        visitor.over = True
        visitor.join(DEADLINE_S)
        assert visitor.failures == []
    assert len(two.instances("always")) == 2 and two.json("call", "work.always") == "there"
    told = [each for each in two.json("events") if each["host"] == "local"]
    (asked,) = [each for each in told if each["what"] == "host.drain"]
    assert asked["reason"] == "drained"
    ends = [each["at"] for each in two.json("events") if each["what"] == "instance.end" and each["app"] == "site"]
    starts = [each["at"] for each in two.json("events") if each["what"] == "instance.start" and each["app"] == "site"]
    assert len(starts) == 2 and max(starts) < min(ends)


def test_it_stays_drained_over_restarts_of_host_and_keeper_until_that_is_called_off(two: RunningCluster) -> None:
    assert two.json("host", "drain", "b")["state"] == "drained"
    two.motes("host", "stop", "--name", "b")
    wait_until(lambda: "b" not in two.hosts())
    # One that is away is drained as well: it finds nothing to do when it comes.
    two.motes("host", "start", "--name", "b")
    wait_until(lambda: two.hosts().get("b") == "drained")
    two.down()
    two.up()
    wait_until(lambda: two.hosts() == {"local": "up", "b": "drained"})
    two.deploy("work", APP)
    assert two.json("call", "work.nap", "0.01") == 0.01
    assert where(two, "always") == where(two, "nap") == {"local"}
    assert "takes work again" in two.motes("host", "drain", "b", "--off")
    assert two.hosts() == {"local": "up", "b": "up"}
    two.motes("host", "drain", "local", "--wait")
    assert where(two, "always") == {"b"} and two.hosts() == {"local": "drained", "b": "up"}


def test_where_every_host_is_drained_calls_and_deploys_are_refused_with_the_way_back(two: RunningCluster) -> None:
    two.deploy("work", APP)
    for name in ("local", "b"):
        two.motes("host", "drain", name)
    assert "see `motes host ls`" in two.refusal(8, "call", "work.nap", "0.01", "--timeout", "3 s")
    # What must always run has nowhere to go: it stays, and that is said.
    assert two.hosts() == {"local": "drained", "b": "draining"}
    assert two.json("call", "work.always") == "there"
    file = two.folder.parent / "more.py"
    file.write_text("from motes import function\n@function\ndef f() -> int: return 1\n")
    assert "no host is up" in two.refusal(8, "deploy", str(file))
    two.motes("host", "drain", "local", "--off")
    assert two.json("call", "work.nap", "0.01") == 0.01


def test_only_the_owner_drains_and_only_hosts_that_there_are(two: RunningCluster) -> None:
    assert "no host 'never'" in two.refusal(4, "host", "drain", "never")
    assert "no host 'a.b>'" in two.refusal(4, "host", "drain", "a.b>")
    two.motes("creds", "shop", "--output", str(two.folder.parent / "shop.creds"))

    async def attack(people: People) -> None:
        from motes.grants import jwt, keys, roles

        account = keys.load_or_create(two.home.key("account"))
        for user, made in (
            ("shop", jwt.credentials(account, roles.caller("shop"))),
            ("host-b", two.home.credentials("host-b")),
        ):
            connection = await people.connect(user, made)
            with pytest.raises(Refused, match="for the owner"):
                await people.ask(connection, "drain", {"host": "local", "drained": True}, bool)

    with_people(two, attack)
    assert two.hosts() == {"local": "up", "b": "up"}
