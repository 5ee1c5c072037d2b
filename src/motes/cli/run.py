"""`motes run`: one script, once, in a space, without a cluster."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

import click

from motes.cli.amounts import DURATION, SIZE
from motes.errors import BadBundle, MotesError
from motes.model.instance import EndReason
from motes.model.units import format_bytes

if TYPE_CHECKING:
    from motes.space.view import View

MOST_SCRIPT_BYTES = 16 * 2**20
LIMIT_CODES = {
    EndReason.TIME_LIMIT: 124,
    EndReason.MEMORY_LIMIT: 123,
    EndReason.PROCESS_LIMIT: 122,
    EndReason.FILE_LIMIT: 121,
}
FORWARDED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@click.command(
    short_help="Run a script once, in a space, without a cluster.",
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
)
@click.option("--memory", type=SIZE, default="256 MiB", show_default=True, help="The most memory it may use.")
@click.option("--timeout", type=DURATION, default="10 min", show_default=True, help="The longest it may run.")
@click.option("--tmp", type=SIZE, default="64 MiB", show_default=True, help="The size of its /tmp, and of a file.")
@click.option(
    "--processes",
    type=click.IntRange(1, 4096),
    default=1,
    show_default=True,
    help="The most processes and threads. With 1 it may start none (but threads); with more it sees /usr.",
)
@click.option("--env", "names", multiple=True, metavar="NAME[=VALUE]", help="A variable that it may see.")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def command(
    memory: float,
    timeout: float,
    tmp: float,
    processes: int,
    names: tuple[str, ...],
    file: Path,
    arguments: tuple[str, ...],
) -> int:
    """Run the Python script FILE with ARGUMENTS, once, in a process space of its own.

    It sees its own file, an empty /tmp, Python's standard library and the packages that it names in a `# /// script`
    header (PEP 723), had as wheels from the package index: no other file, no process, no network and no environment of
    yours. Standard streams and the exit code are passed through; 128 and the number for a signal.
    A limit that ends it gives 124 (time), 123 (memory), 122 (processes) or 121 (files), and one line on stderr.

    \b
    Example:
      motes run --memory 128MiB --timeout 5s script.py --verbose < input.txt
    """
    from motes.space.view import View

    content = _read(file)
    with _packages(file, content) as wheels:
        view = View(
            script=file.name,
            wheels=wheels,
            memory_bytes=int(memory),
            tmp_bytes=int(tmp),
            processes=processes,
            system=processes > 1,
            environment=tuple(_variable(name) for name in names),
        )
        return _below_root(lambda: _run(view, content, arguments, timeout), wheels)


@contextlib.contextmanager
def _packages(file: Path, content: bytes) -> Iterator[Path | None]:
    """A folder with what the script's header asks for, while it runs; None when there is no header."""
    if b"# /// script" not in content:
        yield None
        return
    from motes.client.packages import folder_for_this_python
    from motes.client.requirements import requirements_of
    from motes.home import Home

    with folder_for_this_python(requirements_of(file), Home().layers) as folder:
        yield folder


def _variable(text: str) -> tuple[str, str]:
    name, given, value = text.partition("=")
    return name, value if given else os.environ.get(name, "")


def _read(file: Path) -> bytes:
    with file.open("rb") as source:
        content = source.read(MOST_SCRIPT_BYTES + 1)
    if len(content) > MOST_SCRIPT_BYTES:
        raise BadBundle(f"{file} has more than {format_bytes(MOST_SCRIPT_BYTES)}, the most that a script may have")
    return content


def _below_root(work: Callable[[], int], wheels: Path | None) -> int:
    """Run `work` as an ordinary user: at once, or when this is root in a child that gives root up."""
    if os.geteuid() != 0:
        return work()
    child = os.fork()
    if child == 0:
        _work_as_ordinary_user(work, wheels)

    def forward(number: int, frame: FrameType | None) -> None:
        os.kill(child, number)

    for number in FORWARDED:
        signal.signal(number, forward)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status) if os.WIFEXITED(status) else 128 + os.WTERMSIG(status)


def _work_as_ordinary_user(work: Callable[[], int], wheels: Path | None) -> None:
    from motes.cli.main import say
    from motes.space.descend import descend
    from motes.space.interpreter import program_paths

    code = 1
    try:
        descend([*program_paths(), *([wheels] if wheels else [])], [], "run")
        code = work()
    except MotesError as error:
        say(error)
        code = error.exit_code
    except KeyboardInterrupt:
        code = 128 + signal.SIGINT
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        sys.stdout.flush()
        os._exit(code)


def _run(view: View, content: bytes, arguments: tuple[str, ...], timeout_s: float) -> int:
    import asyncio

    from motes.space.enclosure import Streams
    from motes.space.script_space import ScriptSpace

    end = asyncio.run(ScriptSpace(view, content, arguments, timeout_s).run(Streams(0, 1, 2)))
    if end.limit is None:
        return end.code
    click.echo(f"motes: the script was ended: {end.detail}", err=True)
    return LIMIT_CODES[end.limit]
