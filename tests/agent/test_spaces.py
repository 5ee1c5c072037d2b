"""What becomes of spaces that end, or cannot be had, while they are being made."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar, cast

import msgspec
import pytest

from agent.lent_host import function
from motes.agent import daemon_spaces, function_spaces
from motes.agent.code import Folders
from motes.agent.core.effects import Close, Effect, End, Prepare, StartDaemon, Tell
from motes.agent.core.machine import Machine
from motes.agent.core.pool import Call
from motes.agent.service import Agent
from motes.agent.spaces import Spaces
from motes.errors import LoadFailed, MotesError
from motes.model.host import Lease, Offer
from motes.model.instance import EndReason
from motes.model.release import Daemon, Manifest, Packages, Release, Workload
from motes.space.limits import Usage
from motes.space.view import View
from motes.tasks import Tasks

BOT = Daemon("bot", ("true",), None)


class Host:
    """An agent's core with its spaces; what the core wants is done when the test is about it."""

    def __init__(self, folder: Path, workload: Workload) -> None:
        self.machine = Machine("h", Offer())
        self.tasks = Tasks("agent")
        self.spans = None
        self.code = self
        self.effects: list[Effect] = []
        self.logged: list[tuple[str, bytes]] = []
        self.folder: Folders | Exception = Folders(folder)
        manifest = Manifest("app", (workload,))
        self.spaces = Spaces(cast(Agent, self), folder / "blank")
        self.spaces.releases["r1"] = Release(manifest, "0" * 64, 0.0, Packages())
        self.feed(self.machine.on_lease(Lease("h", "app", workload.name, "r1", 1, 0, 1), 0.0))
        self.feed(self.machine.on_release("r1", manifest, 0.0))

    async def folders(self, bundle: str, packages: Packages) -> Folders:
        if isinstance(self.folder, Exception):
            raise self.folder
        return self.folder

    def now(self) -> float:
        return 0.0

    def log(self, address: str, pid: int, data: bytes) -> None:
        self.logged.append((address, data))

    def feed(self, effects: Sequence[Effect]) -> None:
        for effect in effects:
            self.effects.append(effect)
            if isinstance(effect, StartDaemon):
                self.spaces.daemons.start(effect)
            elif isinstance(effect, Prepare):
                self.spaces.functions.prepare(effect)
            elif isinstance(effect, End):
                self.spaces.end(effect)

    def call(self) -> None:
        self.feed(self.machine.on_call(Call(b"0" * 16, "app.f", b"x", 0.0, 30.0, ["_INBOX.me.1"]), 0.0))

    def ends(self) -> list[tuple[str, str]]:
        return [(str(each.reason), each.detail) for each in self.effects if isinstance(each, Tell)]

    async def settle(self) -> None:
        await self.tasks.wait()
        await asyncio.sleep(0)


def play(test: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(asyncio.wait_for(test(), 30.0))


class EndedDaemon:
    """A daemon that has ended before anybody has it."""

    pid = 7
    port: int | None = 7000

    def __init__(self, view: View, events: Any) -> None:
        self.view = view
        events.closed(EndReason.RETURNED, "exit code 0")

    @classmethod
    async def open(cls, view: View, command: Sequence[str], port: int | None, events: Any) -> EndedDaemon:
        return cls(view, events)

    def cpu_s(self) -> float:
        return 0.0

    async def has_clients(self) -> bool:
        return False

    async def close(self, grace_s: float) -> None: ...


def test_a_daemon_that_ends_while_its_space_is_made_has_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(daemon_spaces, "DaemonSpace", EndedDaemon)

    async def story() -> None:
        host = Host(tmp_path, BOT)
        await host.settle()
        assert not host.machine.instances
        assert [each for each in host.ends() if each[0] == EndReason.RETURNED] == [("returned", "exit code 0")]

    play(story)


class DeafDaemon(EndedDaemon):
    """One that never listens, and ends when it is told to."""

    def __init__(self, view: View, events: Any) -> None:
        self.view = view
        self._over = asyncio.Event()

    async def wait_until_listening(self, timeout_s: float) -> None:
        await self._over.wait()
        raise LoadFailed("the daemon ended before it listened")

    async def close(self, grace_s: float) -> None:
        self._over.set()
        for _ in range(5):
            await asyncio.sleep(0)


def test_a_daemon_that_is_told_to_end_while_it_is_waited_for_ends_for_that_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(daemon_spaces, "DaemonSpace", DeafDaemon)

    async def story() -> None:
        host = Host(tmp_path, msgspec.structs.replace(BOT, port=7000))
        await asyncio.sleep(0.01)
        host.feed(host.machine.on_lease(Lease("h", "app", "bot", "r1", 0, 0, 2), 0.0))
        await host.settle()
        await host.spaces.wait_until_closed()
        assert [reason for reason, _ in host.ends()] == ["removed"] and not host.machine.instances

    play(story)


class VisitedDaemon(EndedDaemon):
    """One that serves, and has as many clients as the test says."""

    made: ClassVar[list[VisitedDaemon]] = []

    def __init__(self, view: View, events: Any) -> None:
        self.view = view
        self.clients, self.is_closed, self.is_read, self.memory_bytes = 0, False, True, 0
        self.made.append(self)

    async def wait_until_listening(self, timeout_s: float) -> None: ...

    async def has_clients(self) -> bool:
        return self.clients > 0 and not self.is_closed

    def processes(self) -> list[int]:
        return [self.pid]

    def usage(self) -> Usage:
        return Usage(0.0, self.memory_bytes, 1)

    def pause_output(self) -> None:
        self.is_read = False

    def resume_output(self) -> None:
        self.is_read = True

    async def close(self, grace_s: float) -> None:
        self.is_closed = True


@pytest.fixture
def visited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], Awaitable[tuple[Host, VisitedDaemon]]]:
    """A host, made on the loop, with a daemon that somebody is connected to."""
    monkeypatch.setattr(daemon_spaces, "DaemonSpace", VisitedDaemon)
    monkeypatch.setattr(VisitedDaemon, "made", [])

    async def make() -> tuple[Host, VisitedDaemon]:
        host = Host(tmp_path, msgspec.structs.replace(BOT, port=7000))
        await host.settle()
        (daemon,) = VisitedDaemon.made
        daemon.clients = 1
        return host, daemon

    return make


def lease(release: str, ceiling: int, epoch: int) -> Lease:
    return Lease("h", "app", "bot", release, ceiling, 0, epoch)


@pytest.mark.parametrize("way", ["moved", "replaced", "misplaced"])
def test_a_daemon_that_another_takes_over_from_goes_on_while_somebody_is_connected(visited: Any, way: str) -> None:
    async def story() -> None:
        host, daemon = await visited()
        if way == "moved":
            host.feed(host.machine.on_lease(lease("r1", 0, 2), 0.0))
        elif way == "misplaced":
            offer = msgspec.structs.replace(host.machine.offer, serve=("other",))
            (number,) = host.machine.instances
            host.machine.offer = offer
            host.spaces.end(End(number, EndReason.MISPLACED))
        else:
            host.spaces.releases["r2"] = host.spaces.releases["r1"]
            host.feed(host.machine.on_lease(lease("r2", 1, 2), 0.0))
            manifest = Manifest("app", (msgspec.structs.replace(BOT, port=7000),))
            host.feed(host.machine.on_release("r2", manifest, 0.0))
            while len(VisitedDaemon.made) < 2:
                await host.settle()
        await asyncio.sleep(5 * daemon_spaces.LOOK_S)
        assert not daemon.is_closed
        daemon.clients = 0
        await host.spaces.wait_until_closed()
        assert daemon.is_closed
        assert len(host.machine.instances) == (1 if way == "replaced" else 0)

    play(story)


def test_while_it_goes_on_it_has_its_code_and_is_held_to_what_holds_for_all(visited: Any, tmp_path: Path) -> None:
    async def story() -> None:
        host, daemon = await visited()
        daemons, (number,) = host.spaces.daemons, host.machine.instances
        host.feed(host.machine.on_lease(lease("r1", 0, 2), 0.0))
        await asyncio.sleep(daemon_spaces.LOOK_S)
        # A release that is new here may need the room of one that nobody uses.
        assert host.spaces.used_folders() == {tmp_path}
        assert host.spaces.processes() == [daemon.pid]
        daemons.read(number, False)
        assert not daemon.is_read
        daemons.read(number, True)
        assert daemon.is_read
        daemon.clients = 0
        await host.spaces.wait_until_closed()
        assert not host.spaces.used_folders() and not host.spaces.processes()

    play(story)


def test_its_memory_counts_while_it_goes_on_and_is_limited(visited: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(daemon_spaces, "PARTING_S", 1000.0)

    async def story() -> None:
        host, daemon = await visited()
        host.feed(host.machine.on_lease(lease("r1", 0, 2), 0.0))
        await asyncio.sleep(daemon_spaces.LOOK_S)
        before = host.spaces.measure()[1]
        for memory_bytes in (BOT.memory_bytes, BOT.memory_bytes + 1):
            assert not daemon.is_closed
            daemon.memory_bytes = memory_bytes
            usages, used_bytes, shared = host.spaces.measure()
            # What the agent itself has is counted, too, and may change a little.
            assert used_bytes - before > memory_bytes // 2
            host.feed(host.machine.on_usage(usages, used_bytes, 0.0, shared))
            assert {each.memory_bytes for each in host.machine.instances.values()} == {memory_bytes}
        await host.spaces.wait_until_closed()
        assert [reason for reason, _ in host.ends()] == ["floor", "memory_limit"] and not host.machine.instances

    play(story)


def test_it_does_not_go_on_for_ever(visited: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(daemon_spaces, "PARTING_S", 0.2)

    async def story() -> None:
        host, daemon = await visited()
        host.feed(host.machine.on_lease(lease("r1", 0, 2), 0.0))
        await host.spaces.wait_until_closed()
        assert daemon.is_closed and daemon.clients

    play(story)


def test_one_without_a_port_waits_for_nobody(visited: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(daemon_spaces, "PARTING_S", 1000.0)
    monkeypatch.setattr(VisitedDaemon, "port", None)

    async def story() -> None:
        host, daemon = await visited()
        async with host.spaces.daemons._looking:
            host.feed(host.machine.on_lease(lease("r1", 0, 2), 0.0))
            await host.spaces.wait_until_closed()
            assert daemon.is_closed

    play(story)


def test_it_ends_where_nobody_can_look(visited: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    async def no_thread(daemon: VisitedDaemon) -> bool:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(VisitedDaemon, "has_clients", no_thread)

    async def story() -> None:
        host, daemon = await visited()
        host.feed(host.machine.on_lease(lease("r1", 0, 2), 0.0))
        await host.spaces.wait_until_closed()
        assert daemon.is_closed and not host.machine.instances

    play(story)


def test_of_many_that_leave_together_one_at_a_time_is_looked_at(visited: Any) -> None:
    looking: list[VisitedDaemon] = []
    most = looks = 0

    class Looked(VisitedDaemon):
        async def has_clients(self) -> bool:
            nonlocal most, looks
            looking.append(self)
            looks, most = looks + 1, max(most, len(looking))
            await asyncio.sleep(0.01)
            looking.remove(self)
            return looks < 20

    async def story() -> None:
        host, daemon = await visited()
        leaving = [Looked(daemon.view, None) for _ in range(5)]
        await asyncio.gather(*(host.spaces.daemons._part(each) for each in leaving))
        assert looks >= 20 and most == 1

    play(story)


@pytest.mark.parametrize("way", ["wanted back before", "wanted back after", "stopped"])
def test_it_goes_on_for_nobody_when_the_machine_is_wanted_back_or_the_host_stops(
    visited: Any, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    monkeypatch.setattr(daemon_spaces, "PARTING_S", 1000.0)

    async def story() -> None:
        host, daemon = await visited()
        if way == "wanted back before":
            host.feed(host.machine.on_withdraw("the owner is back", 0.0))
        elif way == "wanted back after":
            host.feed(host.machine.on_lease(lease("r1", 0, 2), 0.0))
            await asyncio.sleep(2 * daemon_spaces.LOOK_S)
            host.feed(host.machine.on_withdraw("the owner is back", 0.0))
        else:
            await host.spaces.close_all()
        await host.spaces.wait_until_closed()
        assert daemon.is_closed and daemon.clients

    play(story)


@pytest.mark.parametrize("error", [OSError(30, "Read-only file system"), KeyError("a mistake of ours")])
def test_a_daemon_whose_start_fails_as_nobody_foresaw_has_ended_and_says_so(tmp_path: Path, error: Exception) -> None:
    async def story() -> None:
        host = Host(tmp_path, BOT)
        host.folder = error
        await host.settle()
        assert not host.machine.instances
        assert type(error).__name__ in host.machine.daemons["app.bot"].failing

    play(story)


def test_a_release_whose_space_fails_as_nobody_foresaw_is_not_waited_for(tmp_path: Path) -> None:
    async def story() -> None:
        host = Host(tmp_path, function("f"))
        host.folder = OSError(30, "Read-only file system")
        host.call()
        await host.settle()
        assert host.machine.spaces["r1"].state == "failed" and not host.machine.calls
        assert "Read-only file system" in host.machine.pools["app.f"].failing

    play(story)


class LoadingSpace:
    """A space that never has loaded its app."""

    on_disk_bytes = 0

    def __init__(self, view: View, events: Any) -> None:
        self.view = view

    async def load(self, *what: Any, **more: Any) -> None:
        await asyncio.Event().wait()

    def cpu_s(self) -> float:
        return 1.0


def test_a_space_whose_opening_is_called_off_is_forgotten_with_its_time_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(function_spaces, "FunctionSpace", LoadingSpace)

    async def story() -> None:
        host = Host(tmp_path, function("f"))
        host.call()
        await asyncio.sleep(0.01)
        host.spaces.functions.close(Close("r1"))
        await host.spaces.wait_until_closed()
        assert not host.spaces.cpu._open and host.spaces.cpu_s() == 1.0

    play(story)


class SlowSpace:
    """A space that takes its time to end."""

    on_disk_bytes = 0
    made: ClassVar[list[SlowSpace]] = []

    def __init__(self, view: View, events: Any) -> None:
        self.view, self.events = view, events
        self.gone: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self.made.append(self)

    async def load(self, *what: Any, **more: Any) -> None: ...

    def cpu_s(self) -> float:
        return 1.0

    def spawn(self, *what: Any) -> None: ...
    def deliver(self, *what: Any) -> None: ...

    async def close(self) -> None:
        await asyncio.wait((self.gone,))
        self.events.closed("it was told to")


def test_the_end_of_a_space_is_not_that_of_the_one_that_has_followed_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(function_spaces, "FunctionSpace", SlowSpace)
    SlowSpace.made.clear()

    async def story() -> None:
        host = Host(tmp_path, function("f"))
        host.call()
        await host.settle()
        first = SlowSpace.made[0]
        host.spaces.functions.close(Close("r1"))
        host.spaces.functions.prepare(Prepare("r1"))
        await host.settle()
        assert len(SlowSpace.made) == 2 and host.machine.spaces["r1"].state == "ready"
        first.gone.set_result(0)
        await host.spaces.wait_until_closed()
        assert host.machine.spaces["r1"].state == "ready" and len(host.spaces.cpu._open) == 1
        # Of a release that this host knows no more, too, something may still come.
        first.events.output(0, b"the last word")
        assert host.logged == [("app.load", b"the last word")]

    play(story)


def test_a_fetch_that_fails_as_nobody_foresaw_is_told(tmp_path: Path) -> None:
    class BrokenCode:
        async def release(self, release: str) -> Release:
            raise OSError(30, "Read-only file system")

    async def story() -> None:
        host: Any = Host(tmp_path, function("f"))
        told: list[MotesError] = []
        host.code = BrokenCode()
        host.machine.on_fetch_failed = lambda release, error, now: told.append(error) or []
        await Agent._fetch(host, "r2")
        assert "Read-only file system" in told[0].message

    play(story)


def test_a_host_that_stops_ends_its_daemons_all_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each has its grace: one after the other many would hold up the machine's owner."""
    both = asyncio.Event()

    class Together(VisitedDaemon):
        async def close(self, grace_s: float) -> None:
            self.is_closed = True
            if all(each.is_closed for each in VisitedDaemon.made):
                both.set()
            await both.wait()

    monkeypatch.setattr(daemon_spaces, "DaemonSpace", Together)
    monkeypatch.setattr(VisitedDaemon, "made", [])

    async def story() -> None:
        host = Host(tmp_path, BOT)
        manifest = Manifest("other", (BOT,))
        host.spaces.releases["r2"] = Release(manifest, "0" * 64, 0.0, Packages())
        host.feed(host.machine.on_lease(Lease("h", "other", "bot", "r2", 1, 0, 1), 0.0))
        host.feed(host.machine.on_release("r2", manifest, 0.0))
        await host.settle()
        assert len(VisitedDaemon.made) == 2
        host.spaces.daemons.close_all()
        await host.spaces.wait_until_closed()
        assert all(each.is_closed for each in VisitedDaemon.made)

    play(story)
