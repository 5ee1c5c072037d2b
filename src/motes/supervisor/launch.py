"""Start a supervisor and wait until its cluster takes calls; the one way for `motes up`, `dev` and `demo`."""

from __future__ import annotations

import json
import os
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from motes.errors import TimedOut, Unavailable
from motes.home import Home
from motes.supervised import READY_FD_VARIABLE
from motes.supervisor import control, founding

READY_TIMEOUT_S = 60.0
"""Over the supervisor's own limit for its children, so that its reason is heard first."""
END_WITH_PARENT = ("--with-parent",)
TAIL_LINES = 20
_TAIL_BYTES = 16384
_RETRY_S = 0.05
_STATUS_TIMEOUT_S = 5.0


class Launched(NamedTuple):
    """A cluster that takes calls."""

    facts: dict[str, Any]
    """`{"http", "nats", "home", "pid"}`."""
    supervisor: subprocess.Popen[bytes] | None
    """None: it was running before."""


def launch(home: Home, http: str, arguments: Sequence[str] = ()) -> Launched:
    """Start the cluster of `home`, or find it running. Raises Unavailable, TimedOut, Untrusted, BadInput.

    `arguments` are more for the supervisor: with END_WITH_PARENT it ends when the calling process does.
    """
    home.refuse_client()
    deadline = time.monotonic() + READY_TIMEOUT_S
    while time.monotonic() < deadline:
        if (facts := running(home)) is not None:
            return Launched(facts, None)
        founding.found(home)
        supervisor, answer = _start(home, http, arguments, deadline)
        if "error" not in answer:
            return Launched(answer, supervisor)
        supervisor.terminate()
        supervisor.wait()
        if not answer.get("running"):
            raise _failure(answer)
        # Another `up` has just begun, or a `down` has not ended yet: see what comes of it.
        time.sleep(_RETRY_S)
    raise TimedOut(f"the cluster in {home.path} was not ready within {READY_TIMEOUT_S:g} s", timeout_s=READY_TIMEOUT_S)


def running(home: Home) -> dict[str, Any] | None:
    """The facts of the cluster that takes calls in `home`, or None."""
    try:
        status = control.ask(home, "status", _STATUS_TIMEOUT_S)
    except (Unavailable, TimedOut):
        return None
    return {key: status[key] for key in ("http", "nats", "home", "pid")} if status["ready"] else None


def _start(
    home: Home, http: str, arguments: Sequence[str], deadline: float
) -> tuple[subprocess.Popen[bytes], dict[str, Any]]:
    reader, writer = os.pipe()
    command = [sys.executable, "-P", "-m", "motes.supervisor", "--home", str(home.path), "--http", http]
    with home.writing():
        log = os.open(home.log("supervisor"), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    supervisor = subprocess.Popen(
        [*command, *arguments],
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        env=_environment(writer),
        cwd="/",
        pass_fds=(writer,),
        start_new_session=True,
    )
    os.close(log)
    os.close(writer)
    with open(reader, "rb", buffering=0) as pipe:
        return supervisor, _wait(pipe.fileno(), home, deadline)


def _environment(ready_fd: int) -> dict[str, str]:
    environment = {**os.environ, READY_FD_VARIABLE: str(ready_fd)}
    # The supervisor works in another folder: a relative path would mean something else there.
    if found := shutil.which(environment.get("NATS_SERVER", "")):
        environment["NATS_SERVER"] = os.path.abspath(found)
    return environment


def _wait(pipe: int, home: Home, deadline: float) -> dict[str, Any]:
    """What the supervisor says when it is ready or gives up: one line, then the end."""
    line = b""
    while not line.endswith(b"\n"):
        if not select.select([pipe], [], [], max(0.0, deadline - time.monotonic()))[0]:
            return {"error": f"the supervisor said nothing within {READY_TIMEOUT_S:g} s"}
        if not (more := os.read(pipe, 65536)):
            return {"error": "the supervisor ended at its start", "log": str(home.log("supervisor"))}
        line += more
    return dict(json.loads(line))


def _failure(answer: dict[str, Any]) -> Unavailable:
    log = Path(answer["log"]) if "log" in answer else None
    if log is None:
        return Unavailable(str(answer["error"]))
    return Unavailable(f"{answer['error']}; its log is {log}", log=tail(log))


def tail(log: Path) -> str:
    """The last TAIL_LINES lines of a log file; empty when there is none."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - _TAIL_BYTES))
            return "\n".join(file.read().decode(errors="replace").splitlines()[-TAIL_LINES:])
    except OSError:
        return ""
