"""Motes from Python, as the README shows it: declared functions called in the cluster, and `connect`."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from motes import connect
from system.running import DEADLINE_S, RunningCluster, wait_until

SHAPES = """
    import os, time
    from dataclasses import dataclass
    from typing import TypedDict

    import msgspec
    from motes import function

    @dataclass
    class Word:
        text: str
        size: int

    class Point(msgspec.Struct):
        x: int
        y: int = 0

    class Book(TypedDict):
        title: str

    @function
    def measure(text: str) -> Word:
        return Word(text, len(text))

    @function
    def mirror(point: Point) -> Point:
        return Point(point.y, point.x)

    @function
    def title(book: Book) -> str:
        return book["title"]

    @function
    def double(data: bytes) -> bytes:
        return data * 2

    @function
    def area(width: int, height: int = 1) -> int:
        return width * height

    @function
    def now() -> float:
        return time.time()

    @function
    def half(number: int) -> int:
        if number % 2:
            raise ValueError(f"{number} is odd")
        return number // 2

    @function(reuse="call")
    def fresh() -> int:
        return os.getpid()

    @function(scale=(2, 4))
    def spread() -> int:
        return 1

    def plain(number: int) -> int:
        return number + 1
"""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningCluster]:
    with RunningCluster(tmp_path_factory.mktemp("python") / "home") as cluster:
        cluster.up()
        cluster.motes("host", "start", "--name", "b")
        cluster.deploy("shapes", SHAPES)
        yield cluster


@pytest.fixture
def run(cluster: RunningCluster, tmp_path: Path) -> Any:
    """Runs a program beside shapes.py and returns what it prints as JSON."""

    def run_program(source: str) -> Any:
        program = tmp_path / "program.py"
        program.write_text(textwrap.dedent(source))
        environment = {**cluster.environment, "PYTHONPATH": str(cluster.folder.parent)}
        command = [sys.executable, "-W", "error", str(program)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=DEADLINE_S)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return run_program


def test_a_declared_function_runs_here_and_there(run: Any) -> None:
    assert (
        run("""
        import json
        from shapes import Point, Word, area, double, measure, mirror, now, title

        assert measure("here") == measure.remote("here") == Word("here", 4)
        assert mirror.remote(Point(1, 2)) == Point(2, 1)
        assert title.remote({"title": "Emma"}) == "Emma"
        assert double.remote(b"\\x00\\xff") == b"\\x00\\xff" * 2
        assert area.remote(3, 4) == area.remote(height=4, width=3) == 12
        assert area.remote(3) == 3
        assert now.remote() > 1e9
        print(json.dumps("done"))
    """)
        == "done"
    )


def test_aremote_is_awaited(run: Any) -> None:
    assert run("""
        import asyncio, json
        from shapes import area

        async def main():
            return await asyncio.gather(*(area.aremote(number, 2) for number in range(5)))

        print(json.dumps(asyncio.run(main())))
    """) == [0, 2, 4, 6, 8]


def test_map_keeps_the_order_and_shows_which_input_failed(run: Any) -> None:
    assert run("""
        import json
        from motes.errors import FunctionError
        from shapes import half

        assert list(half.map(range(0, 400, 2), in_flight=16)) == list(range(200))
        seen = []
        try:
            for result in half.map([2, 4, 5, 6]):
                seen.append(result)
        except FunctionError as error:
            print(json.dumps([seen, error.detail["index"], error.detail["type"], "is odd" in error.message]))
    """) == [[1, 2], 2, "ValueError", True]


def test_an_error_of_the_function_shows_where_in_the_app_it_happened(run: Any) -> None:
    printed, cause = run("""
        import json, traceback
        from motes.errors import FunctionError
        from shapes import half

        try:
            half.remote(5)
        except FunctionError as error:
            print(json.dumps(["".join(traceback.format_exception(error)), str(error.__cause__)]))
    """)
    assert "is odd" in cause and "in half" in cause and 'File "' in cause
    assert printed.index(cause.strip()) < printed.index("direct cause") < printed.index("half.remote(5)")


def test_map_takes_inputs_only_as_fast_as_results_are_taken(run: Any) -> None:
    assert run("""
        import itertools, json
        from shapes import area

        taken = itertools.count()
        results = area.map((next(taken) for _ in itertools.repeat(None)), in_flight=8)
        first = [next(results) for _ in range(3)]
        results.close()
        print(json.dumps([first, next(taken) <= 16]))
    """) == [[0, 1, 2], True]


def test_amap_streams_for_async_code(run: Any) -> None:
    assert run("""
        import asyncio, json
        from shapes import half

        async def main():
            return [result async for result in half.amap([2, 4, 6])]

        print(json.dumps(asyncio.run(main())))
    """) == [1, 2, 3]


def test_connect_calls_by_name(run: Any) -> None:
    assert run("""
        import asyncio, json
        from motes import connect
        from motes.errors import BadInput, NotFound

        async def main():
            async with connect() as cluster:
                results = [
                    await cluster.call("shapes.measure", "word"),
                    await cluster.call("shapes.area", 3, 4),
                    await cluster.call("shapes.area", width=3),
                    await cluster.call("shapes.mirror", {"x": 1, "y": 2}),
                ]
                for call, error in (
                    (cluster.call("shapes.measure", 5), BadInput),
                    (cluster.call("shapes.area", 1, 2, 3), BadInput),
                    (cluster.call("shapes.nothing"), NotFound),
                    (cluster.call("nothing.at_all"), NotFound),
                    (cluster.call("nonsense"), BadInput),
                ):
                    try:
                        await call
                    except error as found:
                        results.append(type(found).__name__)
                return results

        print(json.dumps(asyncio.run(main())))
    """) == [
        {"text": "word", "size": 4},
        12,
        3,
        {"x": 2, "y": 1},
        "BadInput",
        "BadInput",
        "NotFound",
        "NotFound",
        "BadInput",
    ]


def test_without_a_cluster_the_error_says_what_to_do(cluster: RunningCluster, tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text("from shapes import now\nnow.remote()\n")
    environment = {
        **cluster.environment,
        "PYTHONPATH": str(cluster.folder.parent),
        "MOTES_HOME": str(tmp_path / "none"),
    }
    done = subprocess.run([sys.executable, str(program)], env=environment, capture_output=True, text=True)
    assert "start one with: motes up" in done.stderr


def test_reuse_call_gives_every_call_a_process_of_its_own(cluster: RunningCluster) -> None:
    assert len({cluster.motes("call", "shapes.fresh") for _ in range(3)}) == 3
    reasons = [each["reason"] for each in cluster.json("events") if each["workload"] == "fresh"]
    assert reasons.count("call_done") >= 2


def test_a_minimum_of_two_is_spread_over_two_hosts(cluster: RunningCluster) -> None:
    def hosts() -> list[str]:
        return [each["host"] for each in cluster.instances("spread")]

    wait_until(lambda: len(hosts()) == 2)
    assert sorted(hosts()) == ["b", "local"]


def test_a_plain_callable_is_deployed_by_name(cluster: RunningCluster) -> None:
    file = cluster.folder.parent / "bare.py"
    file.write_text("def plain(number: int) -> int:\n    return number + 1\n")
    cluster.motes("deploy", f"{file}:plain")
    assert cluster.motes("call", "bare.plain", "4").strip() == "5"


def test_calls_of_an_async_function_share_a_process_and_end_with_their_callers(cluster: RunningCluster) -> None:
    cluster.deploy(
        "together",
        """
        import asyncio, os
        from motes import function

        waiting = 0

        @function(concurrency=100, scale=(0, 1))
        async def wait_here(seconds: float) -> int:
            global waiting
            waiting += 1
            try:
                await asyncio.sleep(seconds)
            finally:
                waiting -= 1
            return os.getpid()

        @function(concurrency=100, scale=(0, 1), start=lambda: os.getpid())
        async def start_is_mine() -> bool:
            return start_is_mine.started == os.getpid()
        """,
    )

    async def work() -> None:
        async with connect(cluster.folder) as client:
            calls = [asyncio.ensure_future(client.call("together.wait_here", 600.0)) for _ in range(20)]
            pids = await asyncio.gather(*(client.call("together.wait_here", 0.2) for _ in range(20)))
            assert len(set(pids)) == 1
            (before,) = [each for each in await client.instances() if each.workload == "wait_here"]
            for call in calls:
                call.cancel()
            await asyncio.gather(*calls, return_exceptions=True)
            assert await client.call("together.wait_here", 0.0) == pids[0], "the process lives on"
            (after,) = [each for each in await client.instances() if each.workload == "wait_here"]
            assert after.pid == before.pid
            assert await client.call("together.start_is_mine") is True

    asyncio.run(asyncio.wait_for(work(), DEADLINE_S))


STREAMS = """
import os, time
from collections.abc import AsyncIterator, Iterator
from motes import function

@function
def count(to: int) -> Iterator[int]:
    yield from range(to)

@function(concurrency=10)
async def words(text: str) -> AsyncIterator[str]:
    for word in text.split():
        yield word

@function
def dies() -> Iterator[int]:
    yield 1
    time.sleep(0.2)
    os._exit(3)
"""


def test_streams_from_python_the_command_line_and_over_http(cluster: RunningCluster, tmp_path: Path) -> None:
    app = tmp_path / "streams.py"
    app.write_text(STREAMS)
    cluster.motes("deploy", str(app))
    assert cluster.motes("call", "streams.count", "20") == "".join(f"{number}\n" for number in range(20))
    dead = cluster.run("call", "streams.dies")
    assert dead.stdout == "1\n" and dead.returncode == 6 and "exit code 3" in dead.stderr
    program = """
import asyncio, itertools
from streams import count, dies, words
from motes.errors import Exited

assert list(count.stream(1000)) == list(range(1000))
assert count.remote(3) == [0, 1, 2]
assert list(itertools.islice(count.stream(10**12), 50)) == list(range(50))

async def main():
    assert [word async for word in words.stream("one two three")] == ["one", "two", "three"]
    together = await asyncio.gather(*(collect(words.stream("a b")) for _ in range(20)))
    assert together == [["a", "b"]] * 20

async def collect(items):
    return [item async for item in items]

asyncio.run(main())
got = []
try:
    for item in dies.stream():
        got.append(item)
except Exited:
    assert got == [1]
else:
    raise AssertionError("it ended as if it were whole")
print("fine")
"""
    assert script(cluster, tmp_path, program).stdout == "fine\n"
    http = f"{cluster.home.cluster()['http']}/streams"
    headers = {"accept": "application/x-ndjson"}
    whole = httpx.post(f"{http}/count", json=20, headers=headers, timeout=DEADLINE_S)
    assert whole.headers["content-type"] == "application/x-ndjson"
    assert whole.text == "".join(f"{number}\n" for number in range(20))
    with httpx.stream("POST", f"{http}/dies", headers=headers, timeout=DEADLINE_S) as cut_off:
        lines = cut_off.iter_lines()
        assert next(lines) == "1" and "exit code 3" in json.loads(next(lines))["detail"]
        with pytest.raises(httpx.RemoteProtocolError):
            next(lines)


MAPPED = """
import time
from motes import function

@function
def double(x: int) -> int:
    return 2 * x

@function(timeout="60 s")
def nap(seconds: float) -> float:
    time.sleep(seconds)
    return seconds
"""


def test_a_map_over_many_inputs_holds_no_more_than_what_is_under_way(cluster: RunningCluster, tmp_path: Path) -> None:
    (tmp_path / "mapped.py").write_text(MAPPED)
    cluster.motes("deploy", str(tmp_path / "mapped.py"))
    program = """
import itertools, os
from mapped import double

taken = 0
def inputs():
    global taken
    for number in itertools.count():
        taken += 1
        yield number

sizes = {}
for index, result in enumerate(double.map(inputs())):
    assert result == 2 * index and taken <= index + 66, (taken, index)
    if index in (3_000, 20_000):
        # As it is now: the most that there ever was begins with what the parent had, and hides all below.
        with open("/proc/self/statm") as told:
            sizes[index] = int(told.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    if index == 20_000:
        break
# A leak of 62 bytes for each input would be more.
assert sizes[20_000] - sizes[3_000] < 2**20, sizes
print("flat")
"""
    assert script(cluster, tmp_path, program).stdout == "flat\n"


def test_a_map_that_is_left_cancels_what_is_under_way(cluster: RunningCluster, tmp_path: Path) -> None:
    (tmp_path / "mapped.py").write_text(MAPPED)
    cluster.motes("deploy", str(tmp_path / "mapped.py"))
    program = """
import itertools
from mapped import nap

for result in nap.map(itertools.chain([0.0], itertools.repeat(50.0))):
    break
print("left")
"""
    assert script(cluster, tmp_path, program).stdout == "left\n"
    wait_until(lambda: not any(each["workload"] == "nap" and each["state"] == "busy" for each in cluster.json("ps")))


def test_a_map_shows_its_progress_only_in_a_terminal(cluster: RunningCluster, tmp_path: Path) -> None:
    (tmp_path / "mapped.py").write_text(MAPPED)
    cluster.motes("deploy", str(tmp_path / "mapped.py"))
    program = "from mapped import double\nprint(sum(double.map(range(100), progress=True)))\n"
    done = script(cluster, tmp_path, program)
    assert (done.stdout, done.stderr) == ("9900\n", "")
    master, terminal = os.openpty()
    environment = {**cluster.environment, "TERM": "xterm", "COLUMNS": "80"}
    process = subprocess.Popen(
        [sys.executable, "-c", program], cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=terminal
    )
    os.close(terminal)
    assert process.communicate(timeout=DEADLINE_S)[0] == b"9900\n"
    shown = os.read(master, 2**16).decode()
    os.close(master)
    assert "double" in shown and "100/100" in shown


def script(cluster: RunningCluster, folder: Path, program: str) -> subprocess.CompletedProcess[str]:
    """A program that somebody runs in `folder`; it must succeed."""
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=folder,
        env=cluster.environment,
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
    )
    assert done.returncode == 0, done.stderr
    return done
