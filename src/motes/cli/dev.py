"""`motes dev`: a private cluster in the foreground for a file or folder, deployed again whenever it changes."""

from __future__ import annotations

import asyncio
import subprocess
from typing import TYPE_CHECKING

import click

from motes.cli.private import Private, Stop, private_cluster
from motes.cli.target import Target, options, show_ways_in, target_of

if TYPE_CHECKING:
    from motes.client.cluster import Cluster

POLL_S = 0.3
"""How often to look for changes; nothing but folders is read."""


@click.command(short_help="Run a file or folder in a private cluster, and again whenever it changes.")
@click.argument("path")
@options
def command(path: str, name: str | None, cmd: str | None, port: int | None) -> int:
    """Run PATH in a private cluster of one host, and deploy it again whenever a source changes.

    It serves at localhost:8080, or the next free port. What the app prints is shown; code that cannot be loaded shows
    its traceback, and the last release that could goes on. It runs here whatever its place says. Ctrl-C ends everything
    and leaves nothing behind; that is how it ends, so the exit code is then 0.

    \b
    Example:
      motes dev hello.py
      curl localhost:8080/hello/greet -d '"Ada"'
    """
    target = target_of(path, name, cmd, port)
    _check(target)
    with Stop() as stop, private_cluster() as private:
        return asyncio.run(_serve(private, target, stop))


def _check(target: Target) -> None:
    """What cannot be packed at all is said before anything starts. Raises BadBundle and TooLarge."""
    from motes.bundle.pack import app_name, bundle_sources

    if target.name is None:
        app_name(target.path)
    bundle_sources(target.path)


async def _serve(private: Private, target: Target, stop: Stop) -> int:
    from motes.client.cluster import connect

    wanted = stop.event()
    async with connect(private.home.path) as cluster:
        await _stream_logs(cluster)
        click.echo(f"motes dev: {private.facts['http']} (Ctrl-C ends it)")
        work = asyncio.create_task(_keep_deployed(cluster, target, private.supervisor))
        end = asyncio.create_task(wanted.wait())
        await asyncio.wait((work, end), return_when=asyncio.FIRST_COMPLETED)
        for task in (work, end):
            task.cancel()
        await asyncio.wait((work, end))
        if not work.cancelled():
            work.result()
    return 0


async def _keep_deployed(cluster: Cluster, target: Target, supervisor: subprocess.Popen[bytes]) -> None:
    """Deploy now and at each change. Raises Unavailable when the cluster has ended."""
    from motes.bundle.fingerprint import fingerprint
    from motes.errors import Unavailable

    last = ""
    while supervisor.poll() is None:
        found = await asyncio.to_thread(fingerprint, target.path)
        if found != last:
            await _deploy(cluster, target, is_first=not last)
            last = found
        await asyncio.sleep(POLL_S)
    raise Unavailable(f"the private cluster has ended with exit code {supervisor.returncode}; start again: motes dev")


async def _deploy(cluster: Cluster, target: Target, is_first: bool) -> None:
    from motes.cli.deploy import deploy
    from motes.cli.main import say
    from motes.client.placing import Placing
    from motes.errors import MotesError

    try:
        told = await deploy(cluster, target, placing=Placing(anywhere=True))
    except MotesError as error:
        say(error)
        click.echo("waiting for a change ...", err=True)
        return
    click.echo(f"{told['app']}: release {told['release']}")
    if is_first or told["changed"]:
        show_ways_in(told["workloads"])


async def _stream_logs(cluster: Cluster) -> None:
    """Print what the app prints from now on."""
    import msgspec

    from motes.bus.connection import Message
    from motes.bus.subjects import log
    from motes.cli.logs import Lines
    from motes.model.keeper import LogLine

    lines = Lines()

    def show(message: Message) -> None:
        lines.add([msgspec.json.decode(message.data, type=LogLine)])

    await cluster.connection.subscribe(log("*", "*", "*"), show)
