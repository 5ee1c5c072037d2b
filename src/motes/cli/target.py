"""The PATH that `deploy` and `dev` take, and what they show of an app that was deployed."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import click

if TYPE_CHECKING:
    from motes.model.release import Manifest

F = TypeVar("F", bound=Callable[..., Any])


class Target(NamedTuple):
    """What to deploy: the keyword arguments of motes.client.deploy."""

    path: Path
    name: str | None
    entries: tuple[str, ...]
    command: tuple[str, ...]
    port: int | None


def options(command: F) -> F:
    """The options that make a Target."""
    for option in (
        click.option("--port", type=click.IntRange(1, 65535), help="The TCP port that the daemon listens on."),
        click.option("--cmd", metavar="COMMAND", help="Run this command as a daemon, in the app's folder."),
        click.option("--name", metavar="APP", help="The app's name. Default: that of the file or folder."),
    ):
        command = option(command)
    return command


def target_of(path: str, name: str | None, cmd: str | None, port: int | None) -> Target:
    """PATH may be written FILE.py:CALLABLE, for a function without the decorator. Raises UsageError."""
    command = _split(cmd) if cmd is not None else ()
    if port is not None and not command:
        raise click.UsageError("--port is a daemon's; give its command too: --cmd 'COMMAND'")
    file, colon, callable = path.rpartition(":")
    if not colon or Path(path).exists() or not callable.isidentifier():
        return Target(Path(path), name, (), command, port)
    return Target(Path(file), name, (f"{Path(file).name}:{callable}",), command, port)


def _split(cmd: str) -> tuple[str, ...]:
    try:
        words = tuple(shlex.split(cmd))
    except ValueError as error:
        raise click.UsageError(f"--cmd {cmd!r} cannot be read: {error}") from None
    if not words:
        raise click.UsageError("--cmd is empty; write the daemon's command, as in --cmd 'python bot.py'")
    return words


def ways_in(manifest: Manifest, http: str) -> list[dict[str, str]]:
    """How each workload is reached: `{"name", "kind", "signature" or "command", "url", "curl"}`, the last two where it
    is known at which address HTTP is served."""
    return [_way_in(manifest.app, workload, http) for workload in manifest.workloads]


def _way_in(app: str, workload: Any, http: str) -> dict[str, str]:
    from motes.model.release import Function
    from motes.model.signature import curl, signature

    if isinstance(workload, Function):
        url = f"{http}/{app}/{workload.name}"
        shown = {"signature": signature(workload)} | ({"url": url, "curl": curl(url, workload)} if http else {})
        return {"name": workload.name, "kind": "function", **shown}
    found = {"name": workload.name, "kind": "daemon", "command": shlex.join(workload.command)}
    if workload.port is None or not http:
        return found
    url = f"http://{app}.localhost:{http.rpartition(':')[2]}/"
    return {**found, "url": url, "curl": f"curl {url}"}


def show_ways_in(ways: list[dict[str, str]]) -> None:
    """Each workload with the line that reaches it. Their types have the names that the app, or a host, gave them."""
    from motes.cli.table import plain

    for way in ways:
        click.echo(plain(f"  {way.get('signature') or way['command']}").replace("\n", "\\n"))
        if "curl" in way:
            click.echo(f"    {way['curl']}")
