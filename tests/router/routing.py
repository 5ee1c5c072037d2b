"""A Router under test: what it knows, and short words for what it does."""

from __future__ import annotations

import itertools
import random

from motes.errors import MotesError, NotFound, Overloaded, SpaceFailed
from motes.model.call import STATUS_OK, Outcome, failed
from motes.model.host import Beat, Load
from motes.model.routes import Route, Routes
from motes.router.core import Router
from motes.router.effects import Effect, Send, Settle

DONE = Outcome(STATUS_OK, b"1")
NO_LEASE = failed(NotFound("holds no lease"), try_elsewhere=True)
NO_SPACE = failed(SpaceFailed("no space"), try_elsewhere=True)
FULL = failed(Overloaded("full"), try_elsewhere=True)

numbers = itertools.count(1)
epochs = itertools.count(1)
beats = itertools.count(1)


def a_router(*hosts: str, idempotent: bool = False, now: float = 0.0) -> Router:
    """A router that knows `app.f` on these hosts."""
    router = Router(random.Random(1).randrange)
    router.on_routes(routes(*hosts, idempotent=idempotent), now)
    return router


def routes(*hosts: str, idempotent: bool = False) -> Routes:
    return Routes("app", next(epochs), {"f": Route("function", hosts, idempotent)})


def call(router: Router, now: float = 0.0, timeout_s: float | None = 10.0) -> tuple[bytes, list[Effect]]:
    call_id = next(numbers).to_bytes(16)
    return call_id, router.call(call_id, "app", "f", b"x", timeout_s, now)


def reply(router: Router, call_id: bytes, outcome: Outcome, now: float, number: int | None = None) -> list[Effect]:
    """The answer to this sending of the call; None: to the last."""
    if number is None:
        number = router.calls[call_id].number if call_id in router.calls else 1
    return router.on_reply(call_id, number, outcome, now)


def sent_to(effects: list[Effect]) -> list[str]:
    return [effect.host for effect in effects if isinstance(effect, Send)]


def outcome_of(effects: list[Effect]) -> Outcome:
    (settled,) = [effect for effect in effects if isinstance(effect, Settle)]
    return settled.outcome


def error_of(effects: list[Effect]) -> MotesError:
    return outcome_of(effects).error()


def beat(
    host: str, load: dict[str, Load] | None = None, boot: str = "1", number: int | None = None, connection: int = 0
) -> Beat:
    return Beat(host, boot, next(beats) if number is None else number, load or {}, connection)
