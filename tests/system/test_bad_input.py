"""Bad input and misbehaving apps: one clear error with the thing, the limit and the next step; nothing is lost."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from system.running import RunningCluster, wait_until

MISCHIEF = """
    import os, sys, time
    from motes import function

    @function
    def greet(name: str) -> str:
        return f"hello, {name}"

    @function
    def no_result():
        return object()

    @function
    def raises(n: int) -> int:
        return helper(n)

    def helper(n: int) -> int:
        raise ValueError(f"no {n} here")

    @function(timeout="500 ms")
    def hangs() -> None:
        time.sleep(60)

    @function
    def spins() -> None:
        while True:
            pass

    @function
    def exits() -> None:
        os._exit(3)

    @function
    def crashes() -> None:
        import ctypes
        ctypes.string_at(0)

    @function
    def prints() -> None:
        for _ in range(64):
            print("x" * 2**17)

    @function(memory="32 MiB")
    def allocates() -> int:
        kept = []
        while True:
            kept.append(bytearray(2**20))

    @function
    def forks() -> int:
        return os.fork()

    @function
    def runs() -> int:
        return os.system("true")

    @function
    def connects() -> None:
        import socket
        socket.create_connection(("127.0.0.1", 22), 1)

    @function
    def threads() -> None:
        import threading
        for _ in range(10_000):
            threading.Thread(target=time.sleep, args=(30,)).start()

    @function
    def writes() -> None:
        with open("file", "wb") as file:
            for _ in range(1024):
                file.write(bytes(2**20))

    @function
    def answers_too_much() -> str:
        return "x" * (9 * 2**20)
"""


@pytest.fixture(scope="module")
def mischief(cluster: RunningCluster) -> RunningCluster:
    """The cluster with the app `mischief`."""
    cluster.deploy("mischief", MISCHIEF)
    return cluster


@pytest.fixture(autouse=True)
def what_was_accepted_goes_on(mischief: RunningCluster) -> Iterator[None]:
    """After each test the app still answers, by the same agent and the same gateway."""
    pids = [mischief.pid(name) for name in ("agent-local", "gateway", "controller", "nats-server")]
    yield
    assert mischief.motes("call", "mischief.greet", "Ada") == '"hello, Ada"\n'
    assert [mischief.pid(name) for name in ("agent-local", "gateway", "controller", "nats-server")] == pids


def refusal(cluster: RunningCluster, code: int, *words: str, stdin: str | None = None) -> str:
    """The one line that a command says when it fails; it tells nothing of where the cluster lies."""
    line = cluster.refusal(code, *words, stdin=stdin)
    assert str(cluster.home.path) not in line
    return line


# ---------------------------------------------------------------------- calls


@pytest.mark.parametrize(
    ("code", "words", "says"),
    [
        (4, ["nobody.greet", "Ada"], "no app 'nobody' (see `motes apps`)"),
        (4, ["mischief.nothing", "Ada"], "app 'mischief' has no function 'nothing'"),
        (3, ["mischief", "Ada"], "write APP.FUNCTION"),
        (3, ["mischief.greet", "Ada", "Bob"], "takes one argument, name: str; 2 are given"),
        (3, ["mischief.raises", "five"], "takes n: int; 'five' is not JSON of that type"),
        (3, ["mischief.raises", "1.5"], "mischief.raises: Expected `int`, got `float`; it takes n: int"),
        (3, ["mischief.raises", '"5"'], "Expected `int`, got `str`"),
        (3, ["mischief.greet"], "it takes name: str"),
        (3, ["mischief.hangs", "1"], "mischief.hangs takes no argument; 1 is given"),
        (5, ["mischief.spins", "--timeout", "300 ms"], "mischief.spins"),
        (5, ["mischief.hangs"], "mischief.hangs ran for over its timeout of 500 ms (raise `timeout`"),
        (6, ["mischief.no_result"], "function 'no_result': the result of type 'object' cannot be sent"),
        (6, ["mischief.exits"], "mischief.exits: the process ended in the middle of the call: exit code 3"),
        (6, ["mischief.crashes"], "mischief.crashes: the process ended in the middle of the call: SIGSEGV"),
        (6, ["mischief.prints"], "mischief.prints wrote more than 1 MiB"),
        (6, ["mischief.allocates"], "function 'allocates' needs more memory than 32 MiB (raise `memory`)"),
        (6, ["mischief.forks"], "PermissionError"),
        (6, ["mischief.connects"], "PermissionError"),
        (6, ["mischief.threads"], "threads"),
        (6, ["mischief.writes"], "function 'writes' is over a limit on files"),
        (3, ["mischief.answers_too_much"], "the result has 9.0 MiB; the limit is 8 MiB (send it in parts)"),
    ],
)
def test_a_call_that_cannot_be_done_says_why_in_one_line(
    mischief: RunningCluster, code: int, words: list[str], says: str
) -> None:
    assert says in refusal(mischief, code, "call", *words)


def test_a_function_that_raises_shows_the_apps_own_traceback(mischief: RunningCluster) -> None:
    done = mischief.run("call", "mischief.raises", "5")
    assert done.returncode == 6
    assert 'File "mischief.py", line ' in done.stderr and "in helper" in done.stderr
    assert done.stderr.endswith("motes: ValueError: no 5 here\n")
    assert "site-packages" not in done.stderr and "/motes/" not in done.stderr


def test_a_program_cannot_be_run(mischief: RunningCluster) -> None:
    done = mischief.run("call", "mischief.runs")
    assert done.returncode == 6 or json.loads(done.stdout) != 0


def test_an_input_over_the_limit_is_refused(mischief: RunningCluster) -> None:
    line = refusal(mischief, 3, "call", "mischief.greet", "-", stdin="x" * (9 * 2**20))
    assert "8 MiB" in line


def test_each_end_has_its_reason_in_the_events(mischief: RunningCluster) -> None:
    for function, reason in (("exits", "exited"), ("prints", "output_limit"), ("allocates", "memory_limit")):
        mischief.run("call", f"mischief.{function}")

        def ends(function: str = function) -> list[str]:
            events = mischief.json("events", "--limit", "1000")
            return [e["reason"] for e in events if e["what"] == "instance.end" and e["workload"] == function]

        wait_until(lambda ends=ends: ends())  # type: ignore[misc]
        assert set(ends()) == {reason}


@pytest.mark.parametrize("timeout", ["-1", "soon", "0"])
def test_a_timeout_that_is_none_is_wrong_usage(mischief: RunningCluster, timeout: str) -> None:
    done = mischief.run("call", "mischief.greet", "Ada", f"--timeout={timeout}")
    assert done.returncode == 2
    assert "--timeout" in done.stderr


# ---------------------------------------------------------------------- deploy


def test_what_is_not_there_cannot_be_deployed(cluster: RunningCluster, tmp_path: Path) -> None:
    assert "No such file or directory" in refusal(cluster, 6, "deploy", str(tmp_path / "nothing.py"))


def test_an_empty_folder_is_refused(cluster: RunningCluster, tmp_path: Path) -> None:
    assert "holds no files to deploy" in refusal(cluster, 6, "deploy", str(tmp_path))


def test_a_binary_is_refused(cluster: RunningCluster, tmp_path: Path) -> None:
    (tmp_path / "program.py").write_bytes(b"\x7fELF" + bytes(1000))
    assert "is a binary file, not Python source" in refusal(cluster, 6, "deploy", str(tmp_path / "program.py"))
    (tmp_path / "program.py").rename(tmp_path / "program")
    assert "is no Python file" in refusal(cluster, 6, "deploy", str(tmp_path / "program"))


def test_a_file_without_functions_is_refused(cluster: RunningCluster, tmp_path: Path) -> None:
    (tmp_path / "plain.py").write_text("def f() -> int:\n    return 1\n")
    line = refusal(cluster, 6, "deploy", str(tmp_path / "plain.py"))
    assert "has no function" in line and "@function" in line and "file.py:callable" in line
    assert "no callable named 'g'" in refusal(cluster, 6, "deploy", f"{tmp_path / 'plain.py'}:g")


def test_a_file_of_200_megabytes_is_refused_before_it_is_read(cluster: RunningCluster, tmp_path: Path) -> None:
    (tmp_path / "main.py").write_text("")
    with (tmp_path / "data.bin").open("wb") as file:
        file.truncate(200 * 10**6)
    line = refusal(cluster, 3, "deploy", str(tmp_path))
    assert "data.bin has 191 MiB; a file of an app may have 32 MiB (keep data outside" in line


MISSHAPEN = """
import typing, msgspec
It = typing.Annotated[str, msgspec.Meta(extra_json_schema={"title": ["it"], "$defs": {"it": {}}})]
"""
"""A type whose schema the list of all tools, say, cannot be made of."""


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("1 / 0", "ZeroDivisionError"),
        ("def f(:", "SyntaxError"),
        ("import nothing_like_it", "No module named 'nothing_like_it'"),
        ("raise SystemExit(3)", "ends the process when it is imported"),
        ("import os; os._exit(3)", "the process ended while it loaded the app: exit code 3"),
        ("import os; os.fork()", "started processes"),
        ("import threading, time; threading.Thread(target=time.sleep, args=(9,), daemon=True).start()", "thread"),
        ("x = bytearray(2**34)", "MemoryError"),
        ("@function\ndef f(x: object) -> None: ...", "function 'f', parameter 'x'"),
        ("@function(memory='lots')\ndef f() -> None: ...", "'lots' is not a size"),
        (f"{MISSHAPEN}\n@function\ndef f(x: It) -> None: ...", "function 'f' takes and gives is no JSON Schema"),
    ],
)
def test_an_app_that_cannot_be_loaded_says_why(cluster: RunningCluster, tmp_path: Path, source: str, says: str) -> None:
    (tmp_path / "broken.py").write_text(f"from motes import function\n{source}\n")
    assert says in refusal(cluster, 6, "deploy", str(tmp_path / "broken.py"))
    assert "broken" not in [each["app"] for each in cluster.json("apps")]


def test_a_release_that_cannot_be_loaded_leaves_the_last_one(mischief: RunningCluster, tmp_path: Path) -> None:
    before = next(each["release"] for each in mischief.json("apps") if each["app"] == "mischief")
    (tmp_path / "mischief.py").write_text("def wrong():\n    1 / 0\nwrong()\n")
    done = mischief.run("deploy", str(tmp_path / "mischief.py"))
    assert (done.returncode, done.stdout) == (6, "")
    assert 'File "mischief.py", line 2, in wrong' in done.stderr
    assert before == next(each["release"] for each in mischief.json("apps") if each["app"] == "mischief")


def test_an_import_cannot_write_to_the_home_directory(cluster: RunningCluster, tmp_path: Path) -> None:
    mark = Path.home() / f".motes-test-{os.getpid()}"
    source = f"""
import pathlib
from motes import function
told = []
for path in ({str(mark)!r}, pathlib.Path.home() / {mark.name!r}, "/app/mark", "/usr/mark"):
    try:
        pathlib.Path(path).write_text("x")
    except OSError as error:
        told.append(str(path))
@function
def refused() -> list[str]:
    return told
"""
    (tmp_path / "writer.py").write_text(source)
    cluster.motes("deploy", str(tmp_path / "writer.py"))
    assert not mark.exists()
    assert {str(mark), "/app/mark", "/usr/mark"} <= set(json.loads(cluster.motes("call", "writer.refused")))


def test_a_name_that_cannot_be_one_is_refused(cluster: RunningCluster, tmp_path: Path) -> None:
    (tmp_path / "plain.py").write_text("def f() -> int:\n    return 1\n")
    path = f"{tmp_path / 'plain.py'}:f"
    for name in ("a.b", "", "-x", "a" * 64, "a b"):
        assert "cannot be an app's name" in refusal(cluster, 3, "deploy", path, f"--name={name}")


@pytest.mark.parametrize(
    ("command", "port", "says"),
    [
        ("python -c 'import sys; print(\"bye\"); sys.exit(3)'", "8000", "ended before it listened on port 8000"),
        ("python -c 'print(\"bye\")'", None, "does not serve: it ended with exit code 0"),
        ("python -c 'import time; print(\"bye\", flush=True); time.sleep(60)'", "8000", "did not listen on port 8000"),
        ("no-such-program bye", "8000", "ended before it listened"),
    ],
)
def test_a_daemon_that_does_not_serve_is_not_deployed(
    cluster: RunningCluster, tmp_path: Path, command: str, port: str | None, says: str
) -> None:
    (tmp_path / "note.txt").write_text("x")
    ported = ("--port", port) if port else ()
    done = cluster.run("deploy", str(tmp_path), "--name", "sad", "--cmd", command, *ported)
    assert (done.returncode, done.stdout) == (6, ""), done
    *written, line = done.stderr.splitlines()
    assert "bye" in written or "no-such-program" in "".join(written)
    assert line.startswith("motes: the daemon `") and says in line
    assert "sad" not in [each["app"] for each in cluster.json("apps")]


# ---------------------------------------------------------------------- the others


@pytest.mark.parametrize(
    ("code", "words", "says"),
    [
        (4, ["rm", "nobody"], "no app 'nobody'"),
        (4, ["logs", "nobody"], "no app 'nobody'"),
        (4, ["logs", "mischief.nothing"], "app 'mischief' has no workload 'nothing'; it has: "),
        (3, ["logs", "a.b.c"], "write APP or APP.WORKLOAD"),
    ],
)
def test_what_is_not_there_is_named(mischief: RunningCluster, code: int, words: list[str], says: str) -> None:
    assert says in refusal(mischief, code, *words)


@pytest.mark.parametrize(
    "words", [["ps"], ["apps"], ["events", "-f"], ["call", "a.b"], ["deploy", "x.py"], ["rm", "a"]]
)
def test_without_a_cluster_every_command_says_how_to_start_one(
    cluster: RunningCluster, tmp_path: Path, words: list[str]
) -> None:
    nowhere = RunningCluster(tmp_path / "home")
    done = nowhere.run(*words)
    assert (done.returncode, done.stdout) == (8, "")
    assert done.stderr == f"motes: no cluster runs in {tmp_path / 'home'}; start one with: motes up\n"
