"""Motes installed without its extras: what needs one says how to get it, and the rest works."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import httpx
import pytest

from system.running import RunningCluster, wait_until

EXTRAS = ("mcp", "opentelemetry")
MISSING = f"""
import sys

for module in {EXTRAS!r}:
    sys.modules[module] = None
"""
DOUBLE = """
    from motes import function

    @function(tool=True)
    def double(number: int) -> int:
        return 2 * number
"""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningCluster]:
    """A cluster that lacks the packages of the extras, and was told to send spans."""
    folder = tmp_path_factory.mktemp("without")
    (folder / "site").mkdir()
    (folder / "site" / "sitecustomize.py").write_text(MISSING)
    with RunningCluster(folder / "home") as cluster:
        cluster.environment |= {
            "PYTHONPATH": str(folder / "site"),
            "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9",
        }
        cluster.up()
        cluster.deploy("plain", DOUBLE)
        yield cluster


@pytest.mark.parametrize("extra", EXTRAS)
def test_they_are_really_missing(cluster: RunningCluster, extra: str) -> None:
    done = subprocess.run([sys.executable, "-c", f"import {extra}"], env=cluster.environment, capture_output=True)
    assert done.returncode == 1 and f"import of {extra} halted".encode() in done.stderr


def test_an_agent_that_asks_for_tools_is_told_what_to_install(cluster: RunningCluster) -> None:
    listing = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
    for _ in range(2):
        answer = httpx.post(f"{cluster.home.cluster()['http']}/mcp", json=listing)
        assert answer.status_code == 404
        assert answer.json()["detail"].endswith("install it with: pip install 'motes[mcp]'")


def test_spans_that_cannot_be_sent_are_a_warning_and_calls_work(cluster: RunningCluster) -> None:
    done = cluster.run("call", "plain.double", "4")
    assert (done.stdout, done.returncode) == ("8\n", 0), done.stderr
    warning = "no spans are sent: "
    advice = "install what sends them with: pip install 'motes[otel]'"
    assert warning in done.stderr and advice in done.stderr
    assert httpx.post(f"{cluster.home.cluster()['http']}/plain/double", json=4).json() == 8
    for part in ("gateway", "agent-local"):
        wait_until(lambda part=part: advice in cluster.home.log(part).read_text(), f"the {part} has warned")
    assert cluster.home.log("gateway").read_text().count(warning) == 1
