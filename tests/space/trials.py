"""Trials: async tests that make real spaces, in a process that may: one per module and role.

As `root` that process is root and gives it up itself; as `user` it is an ordinary user's from its first instruction.
"""

from __future__ import annotations

import asyncio
import functools
import importlib.util
import inspect
import json
import os
import subprocess
import sys
import tempfile
import textwrap
import traceback
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from tests.space import masks

TRIAL_LIMIT_S = 60.0
MODULE_LIMIT_S = 170.0
ROOT, USER = "root", "user"
ROLES = (ROOT, USER) if os.geteuid() == 0 else (USER,)
REPOSITORY = Path(__file__).parents[2]

Trial = Callable[["Lab"], Awaitable[None]]


def trial(body: Trial) -> Callable[[str], None]:
    """Make `body`, which is given a Lab, a test for each role."""

    machines = [(role, masks.NONE) for role in ROLES] + [(USER, mask) for mask in lacking(body)]

    @pytest.mark.parametrize(("role", "lacks"), machines)
    def test(role: str, lacks: str) -> None:
        failure = _results(inspect.getsourcefile(body) or "", role, lacks)[body.__name__]
        assert failure is None, f"as {role}, without {lacks}:\n{failure}"

    test.__name__, test.__doc__, test.__module__ = body.__name__, body.__doc__, body.__module__
    test.trial = body  # type: ignore[attr-defined]
    return test


def on(*lacking: str) -> Callable[[Trial], Trial]:
    """Run a trial also on machines that lack these; a module's LACKING says it for all of its trials."""

    def note(body: Trial) -> Trial:
        body.lacking = lacking  # type: ignore[attr-defined]
        return body

    return note


def lacking(body: Trial) -> tuple[str, ...]:
    """On which machines a trial is run beside one that has everything."""
    found = getattr(body, "lacking", body.__globals__.get("LACKING", ()))  # type: ignore[attr-defined]
    assert isinstance(found, tuple)
    return found


@functools.cache
def _results(file: str, role: str, lacks: str) -> dict[str, str | None]:
    """Every trial of a module, by name: None, or how it failed."""
    command = masks.command(lacks, sys.executable, "-m", "tests.space.trials", file, role, lacks)
    done = subprocess.run(
        command, cwd=REPOSITORY, capture_output=True, text=True, timeout=MODULE_LIMIT_S, stdin=subprocess.DEVNULL
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(done.stdout.rpartition("\n")[2])
    assert isinstance(found, dict)
    return found


def main(file: str, role: str, lacks: str) -> None:
    """Run a module's trials, and print what `_results` gives."""
    from motes.space.descend import descend
    from motes.space.interpreter import program_paths

    if os.geteuid() == 0:
        descend([*program_paths(), REPOSITORY], [], "trials")
        if role == USER:
            os.execv(sys.executable, [sys.executable, "-m", "tests.space.trials", file, role, lacks])
    spec = importlib.util.spec_from_file_location("trials_module", file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    bodies = {name: value.trial for name, value in vars(module).items() if hasattr(value, "trial")}
    bodies = {name: body for name, body in bodies.items() if lacks == masks.NONE or lacks in lacking(body)}
    print(json.dumps({name: _run(body, lacks) for name, body in bodies.items()}), end="")


def _run(body: Trial, lacks: str) -> str | None:
    try:
        if os.environ.get("MOTES_TRIALS_LOOP") == "asyncio":
            asyncio.run(_within_limit(body, lacks))
        else:
            import uvloop

            uvloop.run(_within_limit(body, lacks))
    except BaseException as error:
        # With the values, for there is no pytest here to show them.
        told = traceback.TracebackException.from_exception(error, capture_locals=True)
        for frame in told.stack:
            frame.locals = frame.locals and {name: text[:2000] for name, text in frame.locals.items()}
        return "".join(told.format())[-20000:]
    return None


async def _within_limit(body: Trial, lacks: str) -> None:
    failures: list[str] = []
    asyncio.get_running_loop().set_exception_handler(
        lambda _, context: failures.append(f"{context['message']}: {context.get('exception')!r}")
    )
    lab = Lab(lacks)
    try:
        await asyncio.wait_for(body(lab), TRIAL_LIMIT_S)
    finally:
        await lab.close()
    assert not failures, failures


class Lab:
    """Makes spaces and closes them at the end of a trial."""

    def __init__(self, lacks: str = masks.NONE) -> None:
        self.lacks = lacks
        """What this machine has not, see masks."""
        self._open: list[Functions] = []
        self._folder = tempfile.TemporaryDirectory(prefix="trial-")
        self.folder = Path(self._folder.name)
        self._count = 0

    def app(self, files: str | dict[str, str]) -> Path:
        """A folder with these files; a text is `app.py`."""
        self._count += 1
        folder = self.folder / f"app{self._count}"
        folder.mkdir()
        for name, text in ({"app.py": files} if isinstance(files, str) else files).items():
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_text(textwrap.dedent(text))
        return folder

    async def functions(
        self, files: str | dict[str, str], entries: tuple[str, ...] = (), timeout_s: float = 20.0, **view: Any
    ) -> Functions:
        """An open function space with this app."""
        from motes.space.function_space import FunctionSpace
        from motes.space.view import View

        opened = Functions()
        code = View(code=self.app(files), **view)
        opened.space = await FunctionSpace.open(code, opened, timeout_s=timeout_s, entries=entries)
        self._open.append(opened)
        return opened

    async def close(self) -> None:
        for each in self._open:
            await each.space.close()
        self._folder.cleanup()


class Functions:
    """A function space that remembers what it was told."""

    def __init__(self) -> None:
        self.space: Any = None
        self.events: list[tuple[Any, ...]] = []
        self.pids: dict[int, int] = {}
        self.ends: dict[int, tuple[Any, str]] = {}
        self.is_closed = False
        self.asks: list[tuple[int, int, int, str, bytes]] = []
        """The calls that instances made: instance, number, tag, name, body."""
        self._printed: dict[int, bytes] = {}
        self._outcomes: dict[int, dict[int, Any]] = {}
        self._items: dict[int, list[bytes]] = {}
        self._tags = 0
        self._changed = asyncio.Event()
        self._last = 0

    # What the space tells.

    def started(self, number: int, pid: int) -> None:
        self._note("started", number, pid)
        self.pids[number] = pid

    def replied(self, number: int, tag: int, outcome: Any, worked_s: float) -> None:
        self._note("replied", number)
        self._outcomes.setdefault(number, {})[tag] = outcome

    def item(self, number: int, tag: int, body: bytes) -> None:
        self._items.setdefault(tag, []).append(body)
        self._note("item", number)

    def asked(self, number: int, ask: int, tag: int, name: str, body: bytes) -> None:
        self.asks.append((number, ask, tag, name, body))
        self._note("asked", number)

    def left(self, number: int, ask: int) -> None:
        self._note("left", number, ask)

    def taken(self, number: int, ask: int, count: int) -> None:
        self._note("taken", number, ask, count)

    def output(self, number: int, data: bytes) -> None:
        self._note("output", number)
        self._printed[number] = self._printed.get(number, b"") + data

    def ended(self, number: int, reason: Any, detail: str) -> None:
        self._note("ended", number, reason, detail)
        assert number not in self.ends, f"instance {number} ended twice"
        self.ends[number] = (reason, detail)

    def closed(self, detail: str) -> None:
        self._note("closed", detail)
        self.is_closed = True

    def _note(self, *event: Any) -> None:
        self.events.append(event)
        self._changed.set()

    # What a trial asks.

    def spawn(self, function: str, **limits: int) -> int:
        """A new instance's number."""
        from motes.space.limits import Limits

        self._last += 1
        self.space.spawn(self._last, function, Limits(**limits))
        return self._last

    async def ask(self, number: int, *arguments: Any, body: bytes | None = None) -> Any:
        """The outcome of one more call: of the one argument, or of none."""
        tag = self.deliver(number, body if body is not None else b"".join(json.dumps(a).encode() for a in arguments))
        await self.until(lambda: tag in self._outcomes.get(number, {}) or number in self.ends)
        answers = self._outcomes.get(number, {})
        assert tag in answers, f"instance {number} ended: {self.ends[number]}\n{self.printed(number)}"
        return answers[tag]

    @property
    def next_tag(self) -> int:
        """Of the next call."""
        return self._tags + 1

    def deliver(self, number: int, body: bytes) -> int:
        """Send a call; returns its tag."""
        self._tags += 1
        self.space.deliver(number, self._tags, body)
        return self._tags

    def items(self, tag: int) -> list[bytes]:
        """Of the stream of a call."""
        return self._items.get(tag, [])

    def outcomes(self, number: int) -> list[Any]:
        """What its calls came to, in the order of the answers."""
        return list(self._outcomes.get(number, {}).values())

    async def call(self, function: str, *arguments: Any, **limits: int) -> Any:
        """The result of a call to a new instance."""
        return self.value(await self.ask(self.spawn(function, **limits), *arguments))

    async def fail(self, function: str, *arguments: Any, **limits: int) -> Any:
        """The error of a call to a new instance."""
        outcome = await self.ask(self.spawn(function, **limits), *arguments)
        assert outcome.status != 0, outcome.body
        return outcome.error()

    @staticmethod
    def value(outcome: Any) -> Any:
        assert outcome.status == 0, outcome.body
        return json.loads(outcome.body)

    async def end_of(self, number: int) -> tuple[Any, str]:
        """Why it ended, when it has."""
        await self.until(lambda: number in self.ends)
        return self.ends[number]

    def printed(self, number: int) -> str:
        return self._printed.get(number, b"").decode()

    async def until(self, holds: Callable[[], bool]) -> None:
        while not holds():
            self._changed.clear()
            await self._changed.wait()


if __name__ == "__main__":
    main(*sys.argv[1:])
