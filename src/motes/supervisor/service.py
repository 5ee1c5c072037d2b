"""The process tree of one machine: nats-server, if it is its own, controller, gateway and agents, as siblings.

Each child is restarted with backoff. The kernel ends every child when this process ends, however that happens, so
nothing is orphaned. SIGTERM or SIGINT ends all in order; a second one ends all at once.
This file imports neither NATS nor HTTP nor asyncio: what it has to outlive must not be able to break it.
"""

from __future__ import annotations

import contextlib
import math
import os
import selectors
import signal
import socket
import sys
import time
from typing import Any, NamedTuple

from motes.bus import server
from motes.errors import MotesError
from motes.home import Home
from motes.model.names import is_name
from motes.supervised import announce_ready
from motes.supervisor import control
from motes.supervisor.child import Child
from motes.supervisor.yielding import Yielding

START_TIMEOUT_S = 30.0
"""All must be ready within this at the first start, and each host that is started later."""
GRACE_S = 5.0
"""How long the children of one rank may take to end before they are killed."""
TICK_S = 0.5
POLL_S = 0.002
"""How often to look for the file by which nats-server says that it is ready."""
_PORT_TRIES = 3

PROGRAMS = {name: [sys.executable, "-P", "-m", f"motes.{name}"] for name in ("controller", "gateway", "agent")} | {
    "forward": [sys.executable, "-P", "-m", "motes.supervisor.forward"]
}
"""What to run, apart from nats-server; `--programs FILE` replaces it, for tests."""

_ENDING_ORDER = ("agent", "gateway", "controller", "nats-server", "forward")


class Waiting(NamedTuple):
    """Somebody who wants to be told when a child is `ready` or `ended`, or what it has `told` after an order."""

    child: Child
    until: str
    tell: control.Tell
    asker: control.Asker | None = None
    """Who has to be there still; None: it is waited for whoever hears it."""
    deadline: float = math.inf
    """For one that does not get ready."""


class Supervisor:
    """The children of one home, and the control socket."""

    def __init__(self, home: Home, http: str, programs: dict[str, list[str]], grace_s: float = GRACE_S) -> None:
        self.home = home
        self.http = http
        self.programs = programs
        self.grace_s = grace_s
        self.children: dict[str, Child] = {}
        self.selector = selectors.DefaultSelector()
        self.waiting: list[Waiting] = []
        self.nats_port = 0
        self.nats_tries = 0
        self.started = False
        self.failed: dict[str, str] = {}
        self.stop_signals = 0
        self.yielding = Yielding(self)

    def run(self) -> int:
        """Until told to end; the exit code."""
        deadline = time.monotonic() + START_TIMEOUT_S
        self._listen_to_signals()
        self.socket = control.ControlSocket(self.home, self.selector, self._answer)
        try:
            if self.home.keeper_file.exists():
                self._start_agents()
                self.yielding.start_forward()
            elif self.home.foreign() is not None:
                # Alone at first: should it find that this home must not be there, no host of this one has been, either.
                self.start_program("controller", "controller")
            else:
                self.start_nats()
            while not self.stop_signals and not self.failed:
                self._turn()
                if not self.started:
                    self._continue_start(deadline)
        finally:
            self._end_all()
        if self.failed:
            announce_ready(**self.failed)
        return 1 if self.failed else 0

    # From here on: starting.

    def _listen_to_signals(self) -> None:
        woken, self.waker = socket.socketpair()
        for end in (woken, self.waker):
            end.setblocking(False)
        self.selector.register(woken, selectors.EVENT_READ, lambda: self._drain(woken))
        signal.set_wakeup_fd(self.waker.fileno())
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._note_stop)
        # Only to wake the loop up; without a handler Python writes nothing to the socket.
        signal.signal(signal.SIGCHLD, lambda *_: None)

    def _note_stop(self, *_: object) -> None:
        self.stop_signals += 1

    @staticmethod
    def _drain(woken: socket.socket) -> None:
        with contextlib.suppress(BlockingIOError):
            woken.recv(4096)

    def start_nats(self) -> None:
        """The first of a keeper's programs."""
        self.nats_port = server.choose_port(self.home)
        self.nats_tries += 1
        for stale in self.home.nats_ports.glob("*.ports"):
            stale.unlink(missing_ok=True)
        child = self._add("nats-server", server.command(self.home, self.nats_port), server.ENVIRONMENT)
        child.ready_file = lambda pid: server.ports_file(self.home, pid)
        child.start()

    def _start_others(self) -> None:
        if "controller" not in self.children:
            self.start_program("controller", "controller")
        self.start_program("gateway", "gateway", "--http", self.http)
        self._start_agents()

    def _start_agents(self) -> None:
        for name in () if self.home.paused_file.exists() else self.home.offers():
            self._start_agent(name)

    def _start_agent(self, name: str) -> Child:
        python = self.home.offers().get(name, {}).get("python")
        return self.start_program(f"agent-{name}", "agent", "--name", name, python=python)

    def start_program(self, name: str, program: str, *arguments: str, python: str | None = None) -> Child:
        """One of `programs`; with `python`, by this interpreter instead of this process's own."""
        own, *words = self.programs[program]
        command = [python or own, *words, "--home", str(self.home.path), *arguments]
        child = self._add(name, command, takes_orders=program == "agent")
        child.start()
        return child

    def _add(
        self, name: str, command: list[str], environment: dict[str, str] | None = None, takes_orders: bool = False
    ) -> Child:
        child = Child(name, command, environment or {}, self.home.log(name), self.selector, takes_orders)
        self.children[name] = child
        return child

    def _continue_start(self, deadline: float) -> None:
        children = list(self.children.values())
        if all(child.ready for child in children):
            if [child.name for child in children] in (["nats-server"], ["controller"]):
                self._start_others()
            else:
                self._finish_start()
            return
        late = next(child for child in children if not child.ready)
        broken = next((child for child in children if child.pid is None and not child.ready), None)
        if broken is not None and self._lost_the_port(broken):
            self.start_nats()
        elif broken is not None:
            self._fail(broken, broken.trouble or f"{broken.name} ended with {broken.last_end} before it was ready")
        elif time.monotonic() > deadline:
            self._fail(late, f"{late.name} was not ready within {START_TIMEOUT_S:g} s")

    def _lost_the_port(self, child: Child) -> bool:
        taken = child.name == "nats-server" and not server.is_free(self.nats_port)
        return taken and self.nats_tries < _PORT_TRIES

    def _fail(self, child: Child, what: str) -> None:
        host = child.name.removeprefix("agent-")
        if host != child.name:
            joined = self.home.keeper_file.exists()
            way = "motes leave" if joined else f"motes host stop --name {host}"
            what += f" (what it lends: motes lend --host {host}; to go on without it: {way})"
        listen = self.home.listen() if child.name == "nats-server" else None
        if listen is not None:
            what += f" (it listens at {listen.host}:{listen.port}; for this machine only: motes up --listen off)"
        self.failed = {"error": what, "log": str(child.log)}

    def _finish_start(self) -> None:
        self.started = True
        self.tell_facts()
        announce_ready(**self._facts())

    def tell_facts(self) -> None:
        """For every command that asks which cluster runs here."""
        self.home.write_json(self.home.cluster_file, self._facts())

    def _facts(self) -> dict[str, Any]:
        return {
            "http": f"http://{self.http}",
            "nats": self.home.keeper().servers,
            "home": str(self.home.path),
            "pid": os.getpid(),
        }

    # From here on: running.

    def _turn(self) -> None:
        """Wait for something to happen, or a moment, and see to every child."""
        for key, _ in self.selector.select(self._pause_s()):
            key.data()
        now = time.monotonic()
        for child in list(self.children.values()):
            child.see_to(now, restart=self.started and not self.stop_signals)
        self._tell_waiting()
        self.yielding.see_to()

    def _pause_s(self) -> float:
        now = time.monotonic()
        pauses = [child.pause_s(now, POLL_S) for child in self.children.values()]
        return max(0.0, min([TICK_S, *pauses]))

    def _end_all(self) -> None:
        with contextlib.suppress(OSError):
            self.home.cluster_file.unlink(missing_ok=True)
        for rank in _ENDING_ORDER:
            self._end([child for name, child in self.children.items() if name.startswith(rank)])
        with contextlib.suppress(OSError):
            self.socket.remove()

    def _end(self, children: list[Child]) -> None:
        deadline = time.monotonic() + self.grace_s
        for child in children:
            child.terminate()
        while any(child.pid is not None for child in children):
            if time.monotonic() > deadline or self.stop_signals > 1:
                for child in children:
                    child.kill()
            self._turn_while_ending(children)

    def _turn_while_ending(self, children: list[Child]) -> None:
        for key, _ in self.selector.select(0.05):
            key.data()
        for child in children:
            child.see_to(time.monotonic(), restart=False)

    # From here on: what the control socket asks.

    def _answer(self, request: dict[str, Any], tell: control.Asker) -> dict[str, Any] | None:
        do, name = str(request.get("do")), str(request.get("name", ""))
        if do == "status":
            return self._status()
        if do == "down":
            self.stop_signals = max(1, self.stop_signals)
            return {"pid": os.getpid()}
        if do in self.yielding.verbs and self.started:
            return self.yielding.verbs[do](request, tell)
        if do == "start-host" and is_name(name) and self.started:
            self._start_host(name, tell)
            return None
        if do == "stop-host" and (found := self.children.get(f"agent-{name}")) is not None:
            # The keeper shows it; a host that does not hear it just goes.
            found.order({"ends": str(request.get("why", ""))})
            self.end(found, tell)
            return None
        if do == "lend" and (found := self.children.get(f"agent-{name}")) is not None:
            return self._order(found, name, tell)
        return {
            "error": f"no host {name!r} runs here" if do in ("stop-host", "lend") else f"cannot do {do!r} {name!r} now"
        }

    def _start_host(self, name: str, tell: control.Tell) -> None:
        child = self.children.get(f"agent-{name}")
        if child is not None and not child.wanted:
            # Just told to end: the next one takes its place.
            self.waiting.append(Waiting(child, "ended", lambda _: self._start_host(name, tell)))
            return
        try:
            started = child or self._start_agent(name)
        except Exception as error:
            # As where a file that it needs is damaged: it may be later than its asker's turn, and all others go on.
            tell({"error": f"host {name!r} cannot be started: {error}"})
        else:
            self.waiting.append(Waiting(started, "ready", tell, deadline=time.monotonic() + START_TIMEOUT_S))

    def _order(self, child: Child, name: str, asker: control.Asker) -> dict[str, Any] | None:
        """Tell a host what hosts.json says of it now, and whoever asked for it what it answers."""
        try:
            entry = self.home.offers().get(name, {})
        except MotesError as error:
            return {"error": error.message}
        if not child.order(entry):
            return {"error": f"host {name!r} does not hear now; it will lend so once it starts again"}
        self.waiting.append(Waiting(child, "told", asker, asker))
        return None

    def end(self, child: Child, tell: control.Tell = lambda _: None) -> None:
        """For good; `tell` is called when it has ended."""
        child.wanted = False
        child.terminate(kill_after_s=self.grace_s)
        self.waiting.append(Waiting(child, "ended", tell))

    def _status(self) -> dict[str, Any]:
        processes = [child.status() for child in self.children.values()]
        return {**self._facts(), "ready": self.started, "processes": processes}

    def _tell_waiting(self) -> None:
        for waiting in list(self.waiting):
            child = waiting.child
            if waiting.asker is not None and not waiting.asker.is_there:
                pass  # One that never answers would be waited for as long as it runs.
            elif waiting.until == "told":
                if child.told is None and child.pid is not None:
                    continue
                waiting.tell({"error": f"{child.name} has just ended"} if child.told is None else child.told)
            elif child.ready and waiting.until == "ready":
                waiting.tell({"name": child.name, "pid": child.pid})
            elif child.pid is None and waiting.until == "ended":
                self._forget(child)
                waiting.tell({"name": child.name})
            elif child.pid is None:
                child.wanted = False
                self._forget(child)
                waiting.tell({"error": f"{child.name} ended with {child.last_end}; see {child.log}"})
            elif time.monotonic() > waiting.deadline:
                self.end(child)
                waiting.tell({"error": _late(child)})
            else:
                continue
            self.waiting.remove(waiting)

    def _forget(self, child: Child) -> None:
        """Another of its name may have come already."""
        if self.children.get(child.name) is child:
            del self.children[child.name]


def _late(child: Child) -> str:
    host = child.name.removeprefix("agent-")
    return (
        f"host {host!r} was not ready within {START_TIMEOUT_S:g} s, and is ended; how far it came is in its log,"
        f" {child.log}; then give the command once more"
    )
