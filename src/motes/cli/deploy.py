"""`motes deploy`: deploy a file or folder as an app."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from motes.cli.session import with_cluster
from motes.cli.target import Target, options, show_ways_in, target_of, ways_in
from motes.model.place import SPREADS

if TYPE_CHECKING:
    from motes.client.cluster import Cluster
    from motes.client.placing import Placing


@click.command(short_help="Deploy a file or folder as an app.")
@click.argument("path")
@options
@click.option("--place", help="Which hosts may run it, and see it: own, named:SET, arch:PROCESSOR, labels, !LABEL.")
@click.option("--spread", type=click.Choice(SPREADS), help="Of a daemon: a host with room, or (pack) the fullest.")
@click.option("--lock", is_flag=True, help="Write the pins of its packages first, into a file beside it.")
@click.option(
    "--json",
    "as_json",
    is_flag=True,
    help="Print an object: app, release, changed, http, workloads (name, kind, signature or command, url, curl).",
)
def command(
    path: str,
    name: str | None,
    cmd: str | None,
    port: int | None,
    place: str | None,
    spread: str | None,
    lock: bool,
    as_json: bool,
) -> None:
    """Deploy PATH, a Python file or a folder, as an app: hello.py becomes app hello.

    Its functions are those with the @function decorator, or the one named by FILE.py:CALLABLE. With --cmd the app is a
    daemon: an ordinary server process, served at http://APP.localhost when it has a --port.

    Packages that a file names in a `# /// script` header (PEP 723), or a folder in its pyproject.toml, are had as
    wheels from the package index, for each kind of host that there is, and come along.

    The code is first loaded in a space. When that fails, the app's own traceback is shown, the exit code is 6, and
    what was deployed before goes on. A new release takes over while calls run.

    \b
    Example:
      motes deploy hello.py
      motes deploy plain.py:greet --name hello
      motes deploy ./bot --cmd 'python bot.py'
      motes deploy ./site --cmd 'python -m http.server 8000' --port 8000 --place 'own,!attic'
    """
    target = target_of(path, name, cmd, port)
    if spread and not target.command:
        raise click.UsageError("--spread is a daemon's; a function says it itself: @function(spread=...)")
    placing = placing_of(place, spread)
    with progress(quiet=as_json) as on_progress:
        told = with_cluster(lambda cluster: deploy(cluster, target, on_progress, lock, placing))
    if as_json:
        click.echo(json.dumps(told))
        return
    click.echo(f"{told['app']}: release {told['release']}{'' if told['changed'] else ', as it was'}")
    show_ways_in(told["workloads"])


def placing_of(place: str | None, spread: str | None) -> Placing:
    """Raises UsageError."""
    from motes.client.placing import Placing
    from motes.model.place import parse_place

    try:
        return Placing(parse_place(place or ()), "pack" if spread == "pack" else "machines")
    except ValueError as error:
        raise click.UsageError(f"--{error}") from None


async def deploy(
    cluster: Cluster, target: Target, on_progress: Any = None, lock: bool = False, placing: Placing | None = None
) -> dict[str, Any]:
    """Deploy, and say what there is now: app, release, changed, http, workloads."""
    from motes.client.deploy import prepare, submit
    from motes.client.placing import EVERYWHERE

    path, name, entries, command, port = target
    release = await prepare(
        cluster,
        path,
        name=name,
        entries=entries,
        command=command,
        port=port,
        lock=lock,
        placing=placing or EVERYWHERE,
        on_progress=on_progress,
        on_notice=_show_notice,
    )
    deployed = await submit(cluster, release, on_progress)
    http = cluster.home.cluster()["http"]
    return {
        "app": deployed.app,
        "release": deployed.release,
        "changed": deployed.changed,
        "http": http,
        "workloads": ways_in(release.manifest, http),
    }


def _show_notice(what: str) -> None:
    from motes.cli.table import plain

    click.echo(plain(f"motes: {what}"), err=True)


@contextlib.contextmanager
def progress(quiet: bool) -> Iterator[Any]:
    """Shows steps, and how far they are, only where somebody looks on: a motes.client.deploy.Progress, or None."""
    if quiet or not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(binary_units=True), TransferSpeedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as shown:
        bars: dict[str, Any] = {}

        def show(step: str, done: int = 0, total: int = 0) -> None:
            if not total:
                shown.console.print(f"{step} ...", highlight=False, markup=False)
                return
            if step not in bars:
                bars[step] = shown.add_task(step, total=total)
            shown.update(bars[step], completed=min(done, total))

        yield show
