"""Contexts: names for clusters, one of which commands and programs act on. Stdlib only.

chosen                   the name that `motes context use` was given last
contexts/<name>/home     the path of another home on this machine
contexts/<name>/         else itself the home (motes.home) of a client of a cluster on other machines
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

from motes.errors import BadInput, NotFound
from motes.model.names import is_name
from motes.model.naming import as_name

HOME_VARIABLE = "MOTES_HOME"
CONTEXT_VARIABLE = "MOTES_CONTEXT"
LOCAL = "local"
"""The context that is always there: this machine's own home."""


class Chosen(NamedTuple):
    """The context in force, and what says so: a variable's name, or nothing when `motes context use` did."""

    name: str
    by: str


def folder() -> Path:
    """Where contexts lie: `motes` in the user's settings."""
    settings = os.environ.get("XDG_CONFIG_HOME")
    return (Path(settings) if settings else Path.home() / ".config") / "motes"


def path_of(name: str) -> Path:
    """The folder of a context, also of one that is not there. Raises BadInput."""
    if name == LOCAL:
        raise BadInput(f"{LOCAL!r} is this machine's own home; choose another name")
    return folder() / "contexts" / as_name(name, "a context's name")


def names() -> list[str]:
    """Every context but LOCAL."""
    try:
        return sorted(each.name for each in (folder() / "contexts").iterdir() if is_name(each.name))
    except OSError:
        return []


def chosen() -> Chosen:
    """`--context` and $MOTES_CONTEXT go first, then $MOTES_HOME, then what `motes context use` chose."""
    if named := os.environ.get(CONTEXT_VARIABLE):
        return Chosen(named, CONTEXT_VARIABLE)
    if os.environ.get(HOME_VARIABLE):
        return Chosen(LOCAL, HOME_VARIABLE)
    try:
        return Chosen((folder() / "chosen").read_text().strip() or LOCAL, "")
    except OSError:
        return Chosen(LOCAL, "")


def home_path() -> Path:
    """The home of the context in force. Raises NotFound and BadInput."""
    return home_of(chosen().name)


def home_of(name: str) -> Path:
    """The home of a context. Raises NotFound and BadInput."""
    if name == LOCAL:
        return _own_home()
    path = path_of(name)
    if not path.is_dir():
        there = ", ".join([LOCAL, *names()])
        raise NotFound(f"there is no context {name!r}; there are: {there} (motes context add, motes context use)")
    try:
        return Path((path / "home").read_text().strip())
    except OSError:
        return path


def _own_home() -> Path:
    """`$MOTES_HOME`, else `motes` in the user's data folder."""
    if named := os.environ.get(HOME_VARIABLE):
        return Path(named)
    data = os.environ.get("XDG_DATA_HOME")
    return (Path(data) if data else Path.home() / ".local" / "share") / "motes"
