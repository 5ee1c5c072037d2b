"""The files that say where a cluster's keeper is while it moves; each decision is one of them, there or not.

On the machine that it leaves `keeper.json` decides: once it is there, this machine is no keeper any more. On the one
that it moves to the stage `committed` does, which is reached only after that. So there are never two. Stdlib only.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from motes.bus import server
from motes.errors import Refused, Unavailable
from motes.home import Home, sync
from motes.model.names import GATEWAY, GATEWAY_ANSWERS, GATEWAY_STREAMS, KEEPER

SECRETS = ("operator", "system", "account", "controller")
"""The keys that only a keeper holds. The owner's signing key is none of them: it stays where the owner is."""
PREPARED, COMMITTED = "prepared", "committed"
NOTICE = "keeper.notice"
"""In an agent's folder: the newest word of where the keeper is, signed."""

# From here on: the machine that the keeper leaves.


def hand_over(home: Home, facts: dict[str, Any]) -> None:
    """Decide that the keeper is elsewhere. `facts` are this machine's keeper.json and moved.json from then on."""
    home.decide(home.moved_file, facts["moved"])
    home.decide(home.keeper_file, facts["keeper"])


def take_back(home: Home) -> None:
    """Be the keeper again, for the other machine never became it."""
    with home.deciding():
        home.keeper_file.unlink(missing_ok=True)
    sync(home.path)
    home.moved_file.unlink(missing_ok=True)


def forget(home: Home) -> None:
    """Remove what only a keeper has, for another machine is it."""
    if not home.keeper_file.exists():
        return  # Meanwhile this one is it again.
    users = (home.user(user) for user in (KEEPER, "system", GATEWAY, GATEWAY_ANSWERS, GATEWAY_STREAMS))
    keys = (home.key(name) for name in SECRETS)
    for file in (*keys, *users, home.tls_key, home.tls_certificate, home.listen_file, home.nats_port):
        file.unlink(missing_ok=True)
    shutil.rmtree(home.nats, ignore_errors=True)


# From here on: the machine that it moves to.


def state_file(home: Home) -> Path:
    return home.arriving / "state.json"


def arrival(home: Home) -> dict[str, Any]:
    """How far a keeper has come that moves here: `stage`, `session` and more; empty when none does.

    Raises Unavailable where that cannot be read: then nobody may take what came for nothing, and remove it.
    """
    file = state_file(home)
    try:
        return dict(json.loads(file.read_text()))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise Unavailable(
            f"{file} says how far a keeper has come that moves here, and cannot be read: {error}"
        ) from None


@contextlib.contextmanager
def taking(home: Home) -> Iterator[None]:
    """Alone with what arrives. Raises Refused where another command is."""
    import fcntl

    with open(home.arriving_lock, "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Refused("this machine waits to become the keeper already: `motes keeper accept` runs") from None
        yield


def forget_unfinished(home: Home) -> None:
    """Remove the keeper's keys, which came for nothing: the command that took them was killed before all was there."""
    with contextlib.suppress(Refused), taking(home):
        if not arrival(home):
            shutil.rmtree(home.arriving, ignore_errors=True)


def install(home: Home) -> None:
    """Be the keeper that was committed; done again after a crash in the middle it completes what is missing.

    Raises Unavailable.
    """
    state = arrival(home)
    if state.get("stage") != COMMITTED:
        return
    came = Home(home.arriving)
    home.create()
    for source, target in ((came.keys, home.keys), (came.users, home.users)):
        for file in source.iterdir():
            os.replace(file, target / file.name)
        sync(target)
    if came.jetstream.exists():
        shutil.rmtree(home.jetstream)
        os.replace(came.jetstream, home.jetstream)
    shutil.rmtree(home.nats_accounts, ignore_errors=True)
    home.create()
    server.write_config(home, server.Accounts(**state["accounts"]))
    home.write_text(home.nats_port, f"{state['listen']['port']}\n")
    home.write_json(home.listen_file, {**state["listen"], "addresses": state["addresses"]})
    for notice in home.hosts.glob(f"*/{NOTICE}"):
        notice.unlink()
    for written in (home.nats_config, home.nats_port, home.listen_file, home.nats, home.path):
        sync(written)
    home.moved_file.unlink(missing_ok=True)
    with home.deciding():
        home.keeper_file.unlink(missing_ok=True)
    sync(home.path)
    # First: killed in the middle of the rest, the next start finds only what came for nothing.
    state_file(home).unlink()
    shutil.rmtree(home.arriving)
