"""The systemd unit that starts a home's part of a cluster when the machine starts. Text in and out, nothing else.

Kept simple on purpose: what it starts is exactly what `motes up --foreground` is by hand.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

NAME = "motes.service"
STOP_TIMEOUT_S = 60
"""Over all that the supervisor gives its children to end in order."""
_HOME = re.compile(r'^Environment="MOTES_HOME=((?:[^"\\]|\\.)*)"$', re.MULTILINE)
_HTTP = re.compile(r'^ExecStart=.* "--http" "([^"]*)"$', re.MULTILINE)
_SYSTEM = "Wants=network-online.target\nAfter=network-online.target\n"

TEMPLATE = """\
# Written by `motes service install`; `motes service remove` deletes it.
[Unit]
Description=Motes, the cloud for processes
{after}
[Service]
Type=exec
ExecStart={command}
{environment}
Restart=on-failure
RestartSec=2
# The supervisor ends its children itself, in order; what is left after that is killed.
KillMode=mixed
TimeoutStopSec={stop_timeout_s}
# Limits of process spaces are set below this unit, and one that the kernel ends for its memory is none of its failures.
Delegate=yes
CPUAccounting=yes
MemoryAccounting=yes
TasksMax=infinity
OOMPolicy=continue

[Install]
WantedBy={wanted_by}
"""


def text(command: Sequence[str], environment: Mapping[str, str], *, system: bool) -> str:
    """The unit; `system`: for the machine's own systemd, not for a user's."""
    return TEMPLATE.format(
        after=_SYSTEM if system else "",
        command=" ".join(quoted(word).replace("$", "$$") for word in command),
        environment="\n".join(
            f"Environment={quoted(f'{name}={value}')}" for name, value in sorted(environment.items())
        ),
        stop_timeout_s=STOP_TIMEOUT_S,
        wanted_by="multi-user.target" if system else "default.target",
    )


def home_in(unit: str) -> str:
    """The home that a unit is for; empty when it is none of ours."""
    found = _HOME.search(unit)
    return "" if found is None else re.sub(r"\\(.)", r"\1", found[1]).replace("%%", "%")


def http_in(unit: str) -> str:
    """Where it serves HTTP; empty when it is none of ours."""
    found = _HTTP.search(unit)
    return "" if found is None else found[1]


def quoted(word: str) -> str:
    """A word as systemd takes it: nothing in it is a specifier, a quote or the end of a line."""
    if any(ord(character) < 32 or ord(character) == 127 for character in word):
        raise ValueError(f"{word!r} cannot stand in a unit")
    escaped = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    return f'"{escaped}"'
