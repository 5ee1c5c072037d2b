"""`motes demo`: a cluster of three hosts at work on real input, with a kill in the middle; checked to the last file."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from motes.cli.private import Private, Stop, private_cluster

if TYPE_CHECKING:
    from motes.client.cluster import Cluster
    from motes.demo.burst import Figures
    from motes.demo.display import Display
    from motes.demo.web import WebFigures

HOSTS = ("a", "b", "c")
PLAIN_TIMEOUT_S = 120.0


@click.command(short_help="Show it all at work.")
@click.option("--daemon/--no-daemon", default=True, help="Whether to run the web daemon, which comes from PyPI.")
@click.option(
    "--json", "as_json", is_flag=True, help="Print an object, index and web; what happens is said on standard error."
)
def command(daemon: bool, as_json: bool) -> int:
    """Start a private cluster of three hosts, and show what it does.

    First an index of the Python standard library's own sources, one call a file: instances start from nothing, the
    agent of one host is killed while calls run in it, and every result is compared with the same index made in a plain
    process. Then a Twisted web daemon, unmodified, from PyPI: its process is killed and comes back. At the end all of
    it is ended and deleted. The exit code is 1 when anything differs or fails.

    \b
    Example:
      motes demo
      motes demo --no-daemon
    """
    from motes.cli.main import say
    from motes.demo.display import Display
    from motes.errors import MotesError

    try:
        with (
            Stop() as stop,
            _plain_index() as plain,
            private_cluster("127.0.0.1:0", _offers()) as private,
            Display(sys.stderr if as_json else None) as display,
        ):
            index, web = asyncio.run(_until(stop, _show(private, plain, daemon, display)))
    except MotesError as error:
        say(error)
        return 1
    if as_json:
        told = {**index._asdict(), "kill": index.kill._asdict()}
        click.echo(json.dumps({"index": told, "web": web and web._asdict()}))
    else:
        _print([*_figures(index), *(_web_figures(web) if web else ())])
    return 0


def _offers() -> dict[str, dict[str, float | int]]:
    cpus = (os.cpu_count() or 1) / len(HOSTS)
    return {name: {"cpus": cpus, "memory_bytes": 2**30, "spaces": 100} for name in HOSTS}


@contextlib.contextmanager
def _plain_index() -> Iterator[subprocess.Popen[bytes]]:
    """The same work in a plain process, while the cluster starts."""
    process = subprocess.Popen([sys.executable, "-P", "-m", "motes.demo.plain"], stdout=subprocess.PIPE)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


async def _until(stop: Stop, work: Any) -> Any:
    """What `work` returns. Raises KeyboardInterrupt when the user wants an end first."""
    wanted = stop.event()
    task, end = asyncio.ensure_future(work), asyncio.ensure_future(wanted.wait())
    await asyncio.wait((task, end), return_when=asyncio.FIRST_COMPLETED)
    for each in (task, end):
        each.cancel()
    await asyncio.wait((task, end))
    if task.cancelled():
        raise KeyboardInterrupt
    return task.result()


async def _show(
    private: Private, plain: subprocess.Popen[bytes], daemon: bool, display: Display
) -> tuple[Figures, WebFigures | None]:
    from motes.client.cluster import connect

    display.say(f"a cluster of {len(HOSTS)} hosts runs at {private.facts['http']}")
    async with connect(private.home.path) as cluster:
        index = await _index(cluster, plain, display)
        return index, await _web(cluster, private, display) if daemon else None


async def _index(cluster: Cluster, plain: subprocess.Popen[bytes], display: Display) -> Figures:
    from motes.demo.burst import Burst
    from motes.demo.plain import library

    expected = await _expected(plain)
    display.say(f"the standard library's {len(expected)} files are indexed in a plain process, to compare")
    found, figures = await Burst(cluster, library(), display).run()
    display.clear()
    display.say(f"{figures.files} files in {figures.seconds:.1f} s; then the last instance went away")
    _compare(expected, found)
    display.say("every result is the same as in the plain process")
    return figures


async def _expected(plain: subprocess.Popen[bytes]) -> dict[str, Any]:
    from motes.errors import MotesError

    try:
        told, _ = await asyncio.to_thread(plain.communicate, timeout=PLAIN_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        raise MotesError(f"the index in a plain process is not done within {PLAIN_TIMEOUT_S:g} s") from None
    if plain.returncode:
        raise MotesError(f"the index in a plain process failed with exit code {plain.returncode}")
    expected: dict[str, Any] = json.loads(told)
    return expected


def _compare(expected: dict[str, Any], found: dict[str, Any]) -> None:
    from motes.errors import MotesError

    different = [name for name in expected | found if expected.get(name) != found.get(name)]
    if different:
        raise MotesError(f"{len(different)} files have another index than in a plain process, first {different[0]}")


async def _web(cluster: Cluster, private: Private, display: Display) -> WebFigures:
    from motes.demo.web import Web, install

    with tempfile.TemporaryDirectory(prefix="motes-demo-") as folder:
        display.say("installing Twisted from PyPI, with pinned hashes")
        await install(Path(folder))
        web = Web(cluster, private.facts["http"])
        display.say(f"deploying it, unmodified; it will answer at http://{web.host}/")
        figures = await web.run(Path(folder))
    display.say(f"it answered, its process was killed, and it answered again after {figures.back_after_s:.2f} s")
    return figures


def _figures(figures: Figures) -> list[tuple[str, str]]:
    from motes.model.units import format_bytes

    return [
        ("files indexed, and the same as in a plain process", str(figures.files)),
        ("calls a second", f"{figures.files / figures.seconds:.0f}"),
        ("instances started", str(figures.starts)),
        ("instances at the peak", str(figures.peak_instances)),
        (f"calls at work on host {figures.kill.host} when its agent was killed", str(figures.kill.busy)),
        ("longest wait of a call at the kill", f"{figures.longest_wait_s:.2f} s"),
        ("until no instance was left", f"{figures.empty_after_s:.1f} s"),
        ("CPU time of the instances", f"{figures.cpu_s:.1f} s"),
        ("memory of the instances at the peak", format_bytes(figures.memory_bytes)),
    ]


def _web_figures(figures: WebFigures) -> list[tuple[str, str]]:
    from motes.model.units import format_bytes

    return [
        ("web daemon: killed, and back after", f"{figures.back_after_s:.2f} s"),
        ("web daemon: CPU time", f"{figures.cpu_s:.1f} s"),
        ("web daemon: memory", format_bytes(figures.memory_bytes)),
    ]


def _print(rows: list[tuple[str, str]]) -> None:
    width = max(len(name) for name, _ in rows)
    click.echo()
    for name, value in rows:
        click.echo(f"{name:<{width}}  {value:>8}")
