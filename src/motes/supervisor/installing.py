"""Have systemd run a home's part of a cluster: each step looks first whether it is done."""

from __future__ import annotations

import contextlib
import os
import sys
import time

from motes.contexts import HOME_VARIABLE
from motes.errors import Refused, Unavailable
from motes.home import Home
from motes.supervisor import control, unit
from motes.supervisor.launch import READY_TIMEOUT_S, running
from motes.supervisor.systemd import Systemd

DEFAULT_HTTP = "127.0.0.1:8080"
DOWN_TIMEOUT_S = 40.0
LOOK_S = 0.1
KEPT_VARIABLES = ("NATS_SERVER", "BWRAP")
"""What the user has named himself goes on to count."""


def install(home: Home, systemd: Systemd, http: str | None) -> str:
    """Returns when it takes calls, started by systemd: why the user may not linger, or nothing.

    Raises Refused for a unit of another home, and Unavailable.
    """
    home.refuse_client()
    systemd.check()
    before = systemd.read()
    there = unit.home_in(before)
    if before and there != str(home.path):
        raise Refused(
            f"{systemd.file} is for {there or 'something else'}, not for {home.path};"
            " first remove it: motes service remove"
        )
    text = wanted(home, systemd.system, http or unit.http_in(before))
    is_new = text != before
    if is_new:
        systemd.write(text)
        systemd.do("daemon-reload")
    refused = systemd.linger()
    is_active = systemd.state() in ("active", "activating")
    if not is_active:
        # Started by hand; the lock of the home lets only one of them run.
        with contextlib.suppress(Unavailable):
            control.ask_to_end(home, DOWN_TIMEOUT_S)
    systemd.do("enable", "--now", unit.NAME)
    if is_active and is_new:
        systemd.do("restart", unit.NAME)
    _wait(home, systemd)
    return refused


def wanted(home: Home, system: bool, http: str) -> str:
    """The unit for this home, run by the very interpreter that runs this."""
    command = [sys.executable, "-P", "-m", "motes.cli.main", "up", "--foreground"]
    command += ["--http", http or _http(home)]
    environment = {HOME_VARIABLE: str(home.path)}
    environment |= {name: os.environ[name] for name in KEPT_VARIABLES if name in os.environ}
    try:
        return unit.text(command, environment, system=system)
    except ValueError as error:
        raise Refused(f"{error}; choose a home or an interpreter with another path") from None


def _http(home: Home) -> str:
    """As it runs now; a machine that has joined serves none, and must not fail for a port that is taken."""
    if home.keeper_file.exists():
        return "127.0.0.1:0"
    facts = running(home)
    return DEFAULT_HTTP if facts is None else str(facts["http"]).removeprefix("http://")


def _wait(home: Home, systemd: Systemd) -> None:
    """Until it takes calls. Raises Unavailable when it has failed, or takes too long."""
    deadline = time.monotonic() + READY_TIMEOUT_S
    while running(home) is None:
        if systemd.state() == "failed" or time.monotonic() > deadline:
            user = "" if systemd.system else "--user "
            raise Unavailable(
                f"the service is {systemd.state()} and takes no calls (see: journalctl {user}-u {unit.NAME}, and"
                f" {home.log('supervisor')})"
            )
        time.sleep(LOOK_S)


def remove(systemd: Systemd) -> bool:
    """Whether there was one. Raises Refused for a unit that is none of ours, and Unavailable."""
    before = systemd.read()
    if not before:
        return False
    if not unit.home_in(before):
        raise Refused(f"{systemd.file} was not written by motes service install; delete it yourself")
    systemd.check()
    systemd.do("disable", "--now", unit.NAME)
    systemd.file.unlink(missing_ok=True)
    systemd.do("daemon-reload")
    return True
