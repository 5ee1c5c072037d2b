"""`motes run` as a user types it."""

from __future__ import annotations

import os
import signal
import subprocess
import textwrap
from pathlib import Path

import pytest

from system.running import DEADLINE_S, MOTES, family, is_alive, wait_until


@pytest.fixture
def script(tmp_path: Path):  # type: ignore[no-untyped-def]
    """Write a script and give its path."""

    def write(source: str) -> str:
        file = tmp_path / "script.py"
        file.write_text(textwrap.dedent(source))
        file.chmod(0o600)
        return str(file)

    return write


def run(*words: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run([MOTES, "run", *words], input=stdin, capture_output=True, text=True, timeout=DEADLINE_S)


def test_streams_arguments_and_exit_code_pass_through(script) -> None:  # type: ignore[no-untyped-def]
    done = run(
        script(
            """
            import sys
            print(sys.argv[1:], __name__)
            print(sys.stdin.read().upper(), end="")
            print("to stderr", file=sys.stderr)
            exit(7)
            """
        ),
        "--flag",
        "word",
        stdin="input\n",
    )
    assert (done.stdout, done.stderr, done.returncode) == ("['--flag', 'word'] __main__\nINPUT\n", "to stderr\n", 7)


def test_bytes_pass_unchanged_both_ways(script) -> None:  # type: ignore[no-untyped-def]
    data = os.urandom(3 * 2**20)
    path = script("import sys, shutil\nshutil.copyfileobj(sys.stdin.buffer, sys.stdout.buffer)\n")
    done = subprocess.run([MOTES, "run", path], input=data, capture_output=True, timeout=DEADLINE_S)
    assert done.stdout == data and done.returncode == 0


def test_a_traceback_is_the_scripts_own(script) -> None:  # type: ignore[no-untyped-def]
    done = run(script("def f():\n    1 / 0\nf()\n"))
    assert done.returncode == 1 and done.stderr.splitlines()[1] == '  File "/app/script.py", line 3, in <module>'
    assert "motes" not in done.stderr


LIMITS = {
    "while True: pass": (("--timeout", "1s"), 124, "longer than 1 s"),
    "x = bytearray(10**9)": (("--memory", "64MiB"), 123, "more memory than 64 MiB"),
    "import mmap\nx = mmap.mmap(-1, 10**9)": (("--memory", "64MiB"), 123, "more memory"),
    "import threading, time\nwhile 1: threading.Thread(target=time.sleep, args=(99,), daemon=True).start()": (
        (),
        122,
        "--processes",
    ),
    "open('/tmp/x', 'wb').write(bytes(10**7))": (("--tmp", "1MiB"), 121, "more than 1 MiB"),
}


@pytest.mark.parametrize("source", LIMITS)
def test_a_limit_ends_it_with_its_code_and_one_line(script, source: str) -> None:  # type: ignore[no-untyped-def]
    flags, code, words = LIMITS[source]
    done = run(*flags, script(source))
    last = done.stderr.strip().splitlines()[-1]
    assert done.returncode == code, done.stderr
    assert last.startswith("motes: ") and words in last


def test_several_processes_share_their_memory_limit(script) -> None:  # type: ignore[no-untyped-def]
    source = """
        import os, time
        for _ in range(8):
            if os.fork() == 0:
                kept = bytearray(b"x" * 30 * 2**20)
                time.sleep(30)
        time.sleep(30)
    """
    done = run("--processes", "20", "--memory", "100MiB", script(source))
    assert done.returncode == 123, done.stderr


def test_a_signal_is_its_exit_code(script) -> None:  # type: ignore[no-untyped-def]
    assert run(script("import os; os.kill(os.getpid(), 9)")).returncode == 128 + 9


def test_it_starts_no_process_unless_it_may(script) -> None:  # type: ignore[no-untyped-def]
    path = script("import subprocess; print(subprocess.run(['echo', 'hello'], capture_output=True).stdout)")
    refused, allowed = run(path), run("--processes", "8", path)
    assert refused.returncode == 1 and "PermissionError" in refused.stderr
    assert (allowed.stdout, allowed.returncode) == ("b'hello\\n'\n", 0)


def test_it_sees_neither_files_nor_environment_nor_network(script, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "beside").write_text("secret")
    os.environ["SECRET_OF_THE_CALLER"] = "s3cret"
    done = run(
        "--env",
        "GIVEN=1",
        script(
            f"""
            import os, socket
            print(os.path.exists({str(tmp_path / "beside")!r}), os.listdir("/app"), os.path.exists("/home"))
            print("SECRET_OF_THE_CALLER" in os.environ, os.environ["GIVEN"], os.getuid())
            try: socket.create_connection(("192.0.2.1", 80), 2)
            except OSError as error: print(error.errno)
            """
        ),
    )
    assert done.stdout == "False ['script.py'] False\nFalse 1 1000\n101\n", done.stderr


def test_the_callers_files_are_not_in_its_hands(script, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    given = tmp_path / "input"
    given.write_text("input")
    source = """
        import os
        print([os.readlink(f"/proc/self/fd/{n}").partition(":")[0] for n in range(3)])
        try:
            os.write(os.open("/proc/self/fd/0", os.O_WRONLY), b"overwritten")
        except OSError as error:
            print(error)
    """
    with given.open() as stdin:
        done = subprocess.run(
            [MOTES, "run", script(source)], stdin=stdin, capture_output=True, text=True, timeout=DEADLINE_S
        )
    assert done.stdout.splitlines()[0] == "['pipe', 'pipe', 'pipe']"
    assert given.read_text() == "input"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_signal_for_the_caller_ends_everything(script, number: signal.Signals) -> None:  # type: ignore[no-untyped-def]
    path = script("import time\nprint('up', flush=True)\ntime.sleep(99)\n")
    process = subprocess.Popen([MOTES, "run", path], stdout=subprocess.PIPE, text=True, stdin=subprocess.DEVNULL)
    assert process.stdout is not None and process.stdout.readline() == "up\n"
    inside = family(process.pid)[1:]
    assert len(inside) >= 3
    process.send_signal(number)
    assert process.wait(DEADLINE_S) == (-9 if number == signal.SIGKILL else 128 + number)
    process.stdout.close()
    wait_until(lambda: not any(map(is_alive, inside)))


def test_a_reader_that_leaves_does_not_hang_it(script) -> None:  # type: ignore[no-untyped-def]
    path = script("while True: print('x' * 1000)")
    done = subprocess.run(
        f"{MOTES} run {path} | head -c 10", shell=True, capture_output=True, text=True, timeout=DEADLINE_S
    )
    assert done.stdout == "x" * 10


def test_wrong_usage_is_said_in_a_line(script) -> None:  # type: ignore[no-untyped-def]
    assert run("nowhere.py").returncode == 2
    wrong = run("--memory", "much", script(""))
    assert wrong.returncode == 2 and "'much' is not a size" in wrong.stderr
