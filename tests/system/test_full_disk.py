"""A full or read-only disk under $MOTES_HOME: one clear error, nothing lost, and it works again afterwards."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from system.running import DEADLINE_S, MOTES

SMALL_DISK = Path(__file__).with_name("small_disk.py")
HELLO = "from motes import function\n\n@function\ndef greet(name: str) -> str:\n    return 'hello, ' + name\n"


def on_a_small_disk(folder: Path, *scripts: str) -> subprocess.CompletedProcess[str]:
    disk = folder / "disk"
    disk.mkdir()
    environment = {
        **os.environ,
        "MOTES_HOME": str(disk / "home"),
        "MOTES": MOTES,
        "DISK": str(disk),
        "APPS": str(folder),
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
        rm $DISK/filler
        $MOTES deploy $APPS/other.py >/dev/null || exit 94
        $MOTES call other.greet Bob || exit 95
        $MOTES down >/dev/null
        """,
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
