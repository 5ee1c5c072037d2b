"""From root to an ordinary user, with what is needed still in reach and nothing else."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from motes.space.descend import FIRST_UID, LAST_UID, uid_of

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can descend")

PROGRAM = """
import os, sys
from pathlib import Path
from motes.space.descend import descend
from motes.space.interpreter import program_paths

readable, writable = ([Path(p) for p in text.split(":") if p] for text in sys.argv[1:3])
descend([*program_paths(), *readable], writable, "trial")
exec(sys.argv[3])
"""


def below(readable: list[Path], writable: list[Path], then: str) -> str:
    """What a process prints that descended and then runs `then`."""
    words = [":".join(map(str, paths)) for paths in (readable, writable)]
    done = subprocess.run([sys.executable, "-c", PROGRAM, *words, then], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_a_hosts_uid_is_its_own_and_never_roots() -> None:
    uids = {uid_of(f"host{n}") for n in range(1000)}
    assert len(uids) > 800 and all(FIRST_UID <= uid <= LAST_UID for uid in uids)


@needs_root
def test_every_id_is_ordinary_and_no_right_is_left() -> None:
    printed = below([], [], "print(os.getresuid(), os.getresgid(), os.getgroups(), open('/proc/self/status').read())")
    uid = uid_of("trial")
    assert printed.startswith(f"({uid}, {uid}, {uid}) ({uid}, {uid}, {uid}) []")
    assert "CapEff:\t0000000000000000" in printed and "CapPrm:\t0000000000000000" in printed


@needs_root
def test_what_is_needed_keeps_its_name_below_a_closed_folder(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    needed, state = closed / "deep" / "needed", closed / "state"
    for folder in (needed, state):
        folder.mkdir(parents=True)
    (needed / "file").write_text("needed")
    (state / "old").write_text("old")
    (closed / "secret").write_text("secret")
    (closed / "link").symlink_to(needed)
    closed.chmod(0o700)
    before = Path("/proc/self/mountinfo").read_text()
    printed = below(
        [closed / "link"],
        [state],
        f"""
os.chdir("/")
print(Path({str(needed / "file")!r}).read_text(), Path({str(closed / "link" / "file")!r}).read_text())
Path({str(state / "new")!r}).write_text("new")
print(sorted(os.listdir({str(state)!r})), os.path.exists({str(closed / "secret")!r}))
""",
    )
    assert printed == "needed needed\n['new', 'old'] False"
    assert (state / "new").read_text() == "new" and state.stat().st_uid == uid_of("trial")
    # Nothing changed for the host.
    assert Path("/proc/self/mountinfo").read_text() == before
    assert (closed / "secret").read_text() == "secret" and closed.stat().st_mode & 0o777 == 0o700


@needs_root
def test_a_link_planted_in_a_state_folder_gives_nothing_of_roots_away(tmp_path: Path) -> None:
    """The folder is the host's own, so after a break-in anything may lie there at the next start."""
    state, secret, other = tmp_path / "state", tmp_path / "secret", tmp_path / "other"
    state.mkdir()
    for file in (secret, other):
        file.write_text("root's")
        file.chmod(0o600)
    (state / "symbolic").symlink_to(secret)
    os.link(other, state / "hard")
    (state / "old").write_text("old")
    below([], [state], "pass")
    assert [file.stat().st_uid for file in (secret, other, state / "old")] == [0, 0, uid_of("trial")]


@needs_root
def test_a_state_folder_may_lie_in_a_closed_folder_of_the_program(tmp_path: Path) -> None:
    program, home = tmp_path / "program", tmp_path / "program" / "home"
    (home / "hosts" / "a").mkdir(parents=True)
    (home / "key").write_text("key")
    (program / "code").write_text("code")
    home.chmod(0o700)
    printed = below(
        [program],
        [home / "hosts" / "a"],
        f"""
Path({str(home / "hosts" / "a" / "x")!r}).write_text("x")
print(Path({str(program / "code")!r}).read_text(), os.listdir({str(home)!r}))
""",
    )
    assert printed == "code ['hosts']"


@needs_root
def test_the_rest_of_roots_home_is_out_of_reach() -> None:
    private = [str(Path.home() / name) for name in (".bashrc", ".profile", ".ssh")] + ["/etc/shadow"]
    assert any(os.access(path, os.R_OK) for path in private)
    assert below([], [], f"print([path for path in {private!r} if os.access(path, os.R_OK)])") == "[]"


@needs_root
def test_it_is_too_late_once_threads_run() -> None:
    program = "import threading, time; threading.Thread(target=time.sleep, args=(9,), daemon=True).start()\n" + PROGRAM
    done = subprocess.run([sys.executable, "-c", program, "", "", ""], capture_output=True, text=True, timeout=60)
    assert "threads are already running" in done.stderr


@needs_root
def test_a_path_that_stays_closed_is_named(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(closed), "", ""], capture_output=True, text=True, timeout=60
    )
    assert f"cannot read {closed}" in done.stderr and "chmod" in done.stderr


def test_an_ordinary_user_stays_what_it_is() -> None:
    if os.geteuid() == 0:
        printed = below([], [], "descend([], [], 'other'); print(os.getuid())")
        assert printed == str(uid_of("trial"))
    else:
        assert below([], [], "print(os.getuid())") == str(os.getuid())
