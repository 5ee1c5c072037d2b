"""A keeper goes to another machine, or comes to this one, while the agents here go on.

freeze    end the controller: nothing is accepted any more, while calls go on. It comes back when the asker goes.
hand-over end gateway and nats-server too, decide in one file that the keeper is elsewhere, and forward to it
rise      this machine has become the keeper: start what a keeper needs

What was begun goes on when the asker ends. This file decides nothing about keys or streams: see motes.moving.
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from motes.errors import MotesError
from motes.supervisor import succession
from motes.supervisor.child import Child
from motes.supervisor.control import Asker

if TYPE_CHECKING:
    from motes.supervisor.service import Supervisor

KEEPERS = ("gateway", "nats-server", "controller")
"""What only a keeper runs, in the order in which it ends when it moves."""
FORWARD = "forward"
AGAIN_S = 1.0
"""Between two attempts to be the keeper again, where that cannot be written, as on a full disk."""


class Yielding:
    """The part of one supervisor that knows of other machines."""

    def __init__(self, supervisor: Supervisor) -> None:
        self._supervisor = supervisor
        self._asker: Asker | None = None
        """Who has frozen the desired state, while it holds."""
        self._facts: dict[str, Any] | None = None
        """What to decide once all has ended."""
        self._again_at: float | None = None
        """When to try once more to be the keeper."""
        self.verbs: dict[str, Callable[[dict[str, Any], Asker], dict[str, Any] | None]] = {
            "freeze": self._freeze,
            "hand-over": self._hand_over,
            "rise": self._rise,
        }

    def start_forward(self) -> None:
        """Where the keeper moved away from here."""
        if self._supervisor.home.moved_file.exists():
            self._supervisor.start_program(FORWARD, FORWARD)

    def see_to(self) -> None:
        """Go on with what is under way, at each turn of the supervisor."""
        if not self._supervisor.started:
            return
        if self._facts is not None:
            self._end_next()
        elif self._again_at is not None and time.monotonic() >= self._again_at:
            self._be_the_keeper()
        elif self._child("nats-server") is not None and self._asker is None:
            self._start_missing()
        forward = self._child(FORWARD)
        if forward is not None and forward.pid is None and not self._supervisor.home.moved_file.exists():
            # Its time is over, or the other machine never took the keeper.
            del self._supervisor.children[FORWARD]
            if not self._supervisor.home.keeper_file.exists():
                self._be_the_keeper()

    def _be_the_keeper(self) -> None:
        """Again; the others follow. What cannot be written now must not end the hosts that run here."""
        self._again_at = None
        try:
            if self._child("nats-server") is None:
                self._supervisor.start_nats()
            self._supervisor.tell_facts()
        except (OSError, MotesError) as error:
            self._again_at = time.monotonic() + AGAIN_S
            print(f"this machine cannot be the keeper yet: {error}", file=sys.stderr)

    def _start_missing(self) -> None:
        """After a freeze, or where this machine has just become the keeper."""
        if self._child("controller") is None:
            self._supervisor.start_program("controller", "controller")
        if self._child("gateway") is None:
            self._supervisor.start_program("gateway", "gateway", "--http", self._supervisor.http)

    def _child(self, name: str) -> Child | None:
        return self._supervisor.children.get(name)

    # From here on: the keeper goes.

    def _freeze(self, request: dict[str, Any], asker: Asker) -> dict[str, Any] | None:
        controller = self._child("controller")
        if controller is None or self._asker is not None:
            return {"error": "no keeper runs here" if controller is None else "another command moves the keeper"}
        self._asker = asker
        asker.on_gone = self._thaw
        self._supervisor.end(controller, lambda _: asker({"frozen": True}))
        return None

    def _thaw(self) -> None:
        """The asker has gone without handing over: everything is as before."""
        self._asker = None

    def _hand_over(self, request: dict[str, Any], asker: Asker) -> dict[str, Any] | None:
        if self._asker is not asker or self._child("controller") is not None:
            return {"error": "nothing is frozen by this command; begin again"}
        self._facts = dict(request["facts"])
        return None

    def _end_next(self) -> None:
        """First who takes calls, then what carries them; then it is decided."""
        for name in KEEPERS:
            child = self._child(name)
            if child is None:
                continue
            if child.wanted:
                self._supervisor.end(child)
            return
        assert self._facts is not None
        supervisor, facts, self._facts = self._supervisor, self._facts, None
        answer: dict[str, Any] = {"moved": True}
        why = ""
        try:
            succession.hand_over(supervisor.home, facts)
        except (OSError, MotesError) as error:
            why = str(error)
        if supervisor.home.keeper_file.exists():
            # Decided, also where the disk complained of it. Nobody is the keeper before it holds that (see `forward`).
            self.start_forward()
            with contextlib.suppress(MotesError):
                supervisor.tell_facts()
        else:
            # Nothing is decided, as on a full disk: the keeper is here as before.
            answer = {"error": f"it could not be written that the keeper is elsewhere ({why}); it stays here"}
            self._be_the_keeper()
        if self._asker is not None:
            self._asker(answer)
            self._asker.on_gone = None
        self._asker = None

    # From here on: the keeper comes.

    def _rise(self, request: dict[str, Any], asker: Asker) -> dict[str, Any] | None:
        if self._supervisor.home.keeper_file.exists() or self._child("nats-server") is not None:
            return {"error": "this machine's home is not that of a keeper that waits to be started"}
        self._supervisor.http = str(request["http"])
        # The others follow at the next turn; each is started again until what it needs is there.
        self._supervisor.start_nats()
        self._supervisor.tell_facts()
        return {"rising": True}
