"""Spans of real calls, as a collector gets them over OTLP."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from system.running import RunningCluster, wait_until

CHAIN = """
from motes import function

@function
def inner(word: str) -> str:
    if word == "bad":
        raise ValueError(word)
    return word.upper()

@function(calls=[inner])
def outer(word: str) -> str:
    return inner.remote(word)
"""
APART = """
from motes import function

@function(memory="300 MiB")
def inner(word: str) -> str:
    return word.upper()

@function(calls=[inner], scale=(2, 2))
def outer(word: str) -> str:
    return inner.remote(word)
"""
"""A host that lends little runs one instance of `outer`, none of `inner`."""
TRACE = "0af7651916cd43dd8448eb211c80319c"


class Collector:
    """What an OTLP collector is to those that send: POST /v1/traces."""

    def __init__(self) -> None:
        self.spans: list[dict[str, Any]] = []
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                collector.take(ExportTraceServiceRequest.FromString(body))
                self.send_response(200)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *what: Any) -> None: ...

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def take(self, request: ExportTraceServiceRequest) -> None:
        for resource in request.resource_spans:
            named = {each.key: each.value.string_value for each in resource.resource.attributes}
            for span in (span for scope in resource.scope_spans for span in scope.spans):
                told = {
                    "service": named["service.name"],
                    "name": span.name,
                    "trace": span.trace_id.hex(),
                    "id": span.span_id.hex(),
                    "parent": span.parent_span_id.hex(),
                    "error": span.status.message,
                    "took_s": (span.end_time_unix_nano - span.start_time_unix_nano) / 1e9,
                }
                self.spans.append(told)

    def named(self, name: str) -> list[dict[str, Any]]:
        return [span for span in self.spans if span["name"] == name]


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    collector = Collector()
    yield collector
    collector.close()


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory, collector: Collector) -> Iterator[RunningCluster]:
    """A cluster whose parts tell the collector of their spans."""
    with RunningCluster(tmp_path_factory.mktemp("tracing") / "home") as cluster:
        cluster.environment |= {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url, "OTEL_BSP_SCHEDULE_DELAY": "100"}
        cluster.up()
        cluster.deploy("chain", CHAIN)
        yield cluster


def names_up(collector: Collector, span: dict[str, Any]) -> list[str]:
    """The span's name and those above it, with who told them."""
    by_id = {each["id"]: each for each in collector.spans}
    found = []
    while span:
        found.append(f"{span['service']}: {span['name']}")
        span = by_id.get(span["parent"], {})
    return found


def test_a_call_is_told_by_its_caller_the_router_the_agent_and_for_the_instance(
    cluster: RunningCluster, collector: Collector
) -> None:
    # From now on the host holds a lease for it: its calls from functions here go no further than the agent.
    cluster.motes("call", "chain.inner", "word")
    wait_until(lambda: collector.named("chain.inner in its process"))
    collector.spans.clear()
    assert cluster.motes("call", "chain.outer", "word").strip() == '"WORD"'
    wait_until(lambda: len(collector.named("chain.outer")) == 2 and collector.named("chain.inner in its process"))
    wait_until(lambda: collector.named("chain.outer in its process"))
    (inner,) = collector.named("chain.inner in its process")
    above = ["motes.agent: chain.outer", "motes.client: send to local", "motes.client: chain.outer"]
    assert names_up(collector, inner) == ["motes.agent: chain.inner in its process", *above]
    (outer,) = collector.named("chain.outer in its process")
    assert names_up(collector, outer)[1:] == above and outer["trace"] == inner["trace"]
    assert 0 < inner["took_s"] < outer["took_s"]


def test_what_goes_wrong_is_in_the_spans(cluster: RunningCluster, collector: Collector) -> None:
    collector.spans.clear()
    cluster.run("call", "chain.outer", "bad")
    wait_until(lambda: len(collector.named("chain.outer")) == 2)
    assert all("ValueError: bad" in span["error"] for span in collector.spans), collector.spans


def test_a_request_over_http_goes_on_with_its_own_trace(cluster: RunningCluster, collector: Collector) -> None:
    collector.spans.clear()
    url = cluster.json("up")["http"] + "/chain/inner"
    for header in (f"00-{TRACE}-b7ad6b7169203331-01", "00-nonsense", "x" * 1000):
        assert httpx.post(url, json="word", headers={"traceparent": header}).json() == "WORD"
    wait_until(lambda: len(collector.named("chain.inner")) == 6)
    wait_until(lambda: len(collector.named("chain.inner in its process")) == 3)
    traced = [span for span in collector.spans if span["trace"] == TRACE]
    assert {span["service"] for span in traced} == {"motes.gateway", "motes.agent"} and len(traced) == 4
    (first,) = (span for span in traced if span["parent"] == "b7ad6b7169203331")
    assert (first["service"], first["name"]) == ("motes.gateway", "chain.inner")


def test_a_call_between_hosts_is_one_trace_over_all_that_it_passes(
    cluster: RunningCluster, collector: Collector
) -> None:
    cluster.motes("host", "start", "--name", "small", "--lend", "memory=200MiB")
    cluster.deploy("apart", APART)
    collector.spans.clear()

    url = f"{cluster.home.cluster()['http']}/apart/outer"

    def has_run_there() -> bool:
        with ThreadPoolExecutor(8) as callers:
            answers = callers.map(lambda _: httpx.post(url, json="word").json(), range(8))
            assert list(answers) == ["WORD"] * 8
        return bool(collector.named("send to small"))

    wait_until(has_run_there)
    there = [
        "motes.agent: apart.inner in its process",
        "motes.agent: apart.inner",
        "motes.gateway: send to local",
        "motes.gateway: apart.inner",
        "motes.agent: apart.outer",
        "motes.gateway: send to small",
        "motes.gateway: apart.outer",
    ]
    wait_until(lambda: there in [names_up(collector, span) for span in collector.named(there[0].partition(": ")[2])])
    cluster.motes("rm", "apart")
    cluster.motes("host", "stop", "--name", "small")


def test_a_collector_that_is_away_holds_nobody_up(tmp_path: Path) -> None:
    with RunningCluster(tmp_path / "home") as cluster:
        cluster.environment["OTEL_EXPORTER_OTLP_ENDPOINT"] = "http://127.0.0.1:9"
        cluster.up()
        cluster.deploy("chain", CHAIN)
        assert cluster.motes("call", "chain.outer", "word").strip() == '"WORD"'
