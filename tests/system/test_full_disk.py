"""A full or read-only disk under $MOTES_HOME: one clear error, nothing lost, and it works again afterwards."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
from pathlib import Path

from ports import free_port
from system.running import DEADLINE_S, MOTES

SMALL_DISK = Path(__file__).with_name("small_disk.py")
HELLO = "from motes import function\n\n@function\ndef greet(name: str) -> str:\n    return 'hello, ' + name\n"

WITH_ANOTHER_MACHINE = """
    $MOTES up --http 127.0.0.1:0 --listen 127.0.0.1:$PORT >/dev/null || exit 80
    line=$($MOTES invite --json | sed 's/.*"invite": "\\([^"]*\\)".*/\\1/')
    MOTES_HOME=$OTHER $MOTES join $line --name far >/dev/null 2>&1 || exit 81
    $MOTES host stop --name local >/dev/null || exit 82
"""
"""A keeper on the small disk, whose only host is elsewhere."""
WITH_ROOM_AGAIN = """
    rm $DISK/filler
    # The server may have to be started anew, which takes a moment.
    for number in 1 2 3 4 5 6 7 8 9; do
        $MOTES deploy $APPS/other.py >/dev/null && break
        sleep 1
    done
    sleep 2
    $MOTES call other.greet Bob || exit 85
"""


def on_a_small_disk(folder: Path, *scripts: str) -> subprocess.CompletedProcess[str]:
    disk = folder / "disk"
    disk.mkdir()
    environment = {
        **os.environ,
        "MOTES_HOME": str(disk / "home"),
        "MOTES": MOTES,
        "DISK": str(disk),
        "APPS": str(folder),
        "OTHER": str(folder / "other-machine"),
        "PORT": str(free_port()),
    }
    command = [sys.executable, str(SMALL_DISK), str(disk), "20M", *scripts]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=2 * DEADLINE_S)


def test_a_deploy_on_a_full_disk_says_so_and_loses_nothing(tmp_path: Path) -> None:
    (tmp_path / "hello.py").write_text(HELLO)
    (tmp_path / "other.py").write_text(HELLO)
    done = on_a_small_disk(
        tmp_path,
        """
        $MOTES up --http 127.0.0.1:0 >/dev/null || exit 90
        $MOTES deploy $APPS/hello.py >/dev/null || exit 91
        cat /dev/zero >$DISK/filler 2>/dev/null
        $MOTES deploy $APPS/other.py >&2 && exit 92
        $MOTES call hello.greet Ada || exit 93
        """,
        WITH_ROOM_AGAIN,
        "$MOTES down >/dev/null",
    )
    assert done.returncode == 0, (done.returncode, done.stderr)
    assert done.stdout.splitlines() == ['"hello, Ada"', '"hello, Bob"']
    assert "No space left on device" in done.stderr and "free some space" in done.stderr


def test_up_on_a_full_disk_says_so(tmp_path: Path) -> None:
    done = on_a_small_disk(
        tmp_path,
        """
        cat /dev/zero >$DISK/filler 2>/dev/null
        $MOTES up --http 127.0.0.1:0
        code=$?
        rm $DISK/filler
        $MOTES up --http 127.0.0.1:0 >/dev/null && $MOTES down >/dev/null || exit 90
        exit $code
        """,
    )
    assert done.returncode == 8, (done.returncode, done.stderr)
    assert "full disk" in done.stderr and "MOTES_HOME" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_up_on_a_read_only_disk_says_so_and_later_resumes(tmp_path: Path) -> None:
    (tmp_path / "hello.py").write_text(HELLO)
    done = on_a_small_disk(
        tmp_path,
        """
        $MOTES up --http 127.0.0.1:0 >/dev/null || exit 90
        $MOTES deploy $APPS/hello.py >/dev/null || exit 91
        $MOTES down >/dev/null || exit 92
        """,
        "ro",
        """
        touch $DISK/writable 2>/dev/null && exit 93
        $MOTES up --http 127.0.0.1:0
        test $? = 8 || exit 94
        """,
        "rw",
        """
        $MOTES up --http 127.0.0.1:0 >/dev/null || exit 95
        $MOTES call hello.greet Ada || exit 96
        $MOTES down >/dev/null
        """,
    )
    assert done.returncode == 0, (done.returncode, done.stderr)
    assert done.stdout.splitlines() == ['"hello, Ada"']
    assert len(done.stderr.splitlines()) == 1
    assert "cannot be written to" in done.stderr and "MOTES_HOME" in done.stderr


def test_while_the_keepers_disk_is_full_other_machines_serve_and_a_deploy_says_why_it_cannot(tmp_path: Path) -> None:
    (tmp_path / "hello.py").write_text(HELLO)
    # A smaller one may still fit into what files have of their last pages.
    (tmp_path / "other.py").write_text(f"{HELLO}# {secrets.token_hex(60_000)}\n")
    done = on_a_small_disk(
        tmp_path,
        WITH_ANOTHER_MACHINE,
        """
        $MOTES deploy $APPS/hello.py >/dev/null || exit 93
        cat /dev/zero >$DISK/filler 2>/dev/null || true
        """,
        # Long enough for instances to come and go, all of which is told and kept.
        """
        for number in 1 2 3 4 5 6 7 8; do
            $MOTES call hello.greet full$number || exit 94
            sleep 1
        done
        # The server may have given some space back meanwhile.
        cat /dev/zero >>$DISK/filler 2>/dev/null
        $MOTES deploy $APPS/other.py >&2
        test $? = 8 || exit 95
        """,
        # A machine that was away comes back all the same.
        """
        MOTES_HOME=$OTHER $MOTES down >/dev/null || exit 96
        MOTES_HOME=$OTHER $MOTES up >/dev/null || exit 97
        $MOTES call hello.greet back --timeout 20 || exit 98
        """,
        WITH_ROOM_AGAIN,
        """
        MOTES_HOME=$OTHER $MOTES down >/dev/null
        $MOTES down >/dev/null
        """,
    )
    subprocess.run([MOTES, "down"], env={**os.environ, "MOTES_HOME": str(tmp_path / "other-machine")}, check=False)
    assert done.returncode == 0, (done.returncode, done.stdout, done.stderr)
    greeted = [*(f"full{number}" for number in range(1, 9)), "back", "Bob"]
    assert done.stdout.splitlines() == [f'"hello, {name}"' for name in greeted]
    assert "No space left on device" in done.stderr and "free some space" in done.stderr
