"""A client of a daemon: bytes from its connection to one inside the daemon's space and back.

Requests are followed, so that the loopback rules hold for each of them; answers are not looked at, except for the one
that takes up or declines a WebSocket. Nothing of a head is passed on before all of it is judged.

A first request that changes nothing is sent once more when the daemon ends before a word of its answer: it may have
been replaced just then, or its machine have died. Later requests of a connection are the client's to send again.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import cast

from motes.errors import MotesError
from motes.gateway.activity import Activity
from motes.gateway.daemon_counts import Visit
from motes.gateway.daemons import Daemons
from motes.gateway.problems import Problem, problem_of, say_farewell
from motes.gateway.switch_watch import SwitchWatch
from motes.gateway.watch import MAX_HEAD_BYTES, TOO_LARGE, RequestWatch

LINGER_S = 5.0
"""How long one side may stay after the other has ended."""

SAFE_METHODS = (b"GET ", b"HEAD ", b"OPTIONS ")
"""Of requests that change nothing (RFC 9110, 9.2.1)."""
MOST_RESENT_BYTES = 64 * 1024

_ENDED_EARLY = Problem(502, "daemon_ended", "the daemon closed the connection without an answer")


class DaemonProxy(asyncio.Protocol):
    """The client's side of one proxied connection; owns the daemon's side."""

    def __init__(
        self, watch: RequestWatch, daemons: Daemons, app: str, visit: Visit, ended: Callable[[DaemonProxy], None]
    ) -> None:
        self._watch = watch
        self._daemons = daemons
        self._app = app
        self._visit = visit
        self._ended = ended
        self._loop = asyncio.get_running_loop()
        self._client: asyncio.Transport | None = None
        self._daemon: asyncio.Transport | None = None
        self._opening: asyncio.Task[None] | None = None
        self._unsent: list[bytes] = []
        self._unsent_head_bytes = 0
        self._sent: bytes | None = b""
        """All that the daemon was sent, while that may be sent once more."""
        self._holds: set[str] = set()
        self._switch: SwitchWatch | None = None
        self._is_raw = False
        self._is_over = False
        self._client_ended = self._daemon_ended = False
        self._answered = False
        self._refusal: Problem | None = None
        self._later: asyncio.TimerHandle | None = None
        self._activity = Activity(watch)

    def begin(self, transport: asyncio.Transport, data: bytes, http_size: int) -> None:
        """Take over `transport`, with the first bytes that came, already fed to the watch; called while it reads."""
        self._client = transport
        transport.set_protocol(self)
        self._hold("opening")
        self._opening = self._loop.create_task(self._open())
        self._take(data, http_size)

    # The client's side, called by its transport.

    def data_received(self, data: bytes) -> None:
        self._activity.asked()
        if self._is_over:
            return
        if self._is_raw:
            self._forward(data)
        else:
            self._take(data, self._watch.feed(data))

    def eof_received(self) -> bool:
        self._client_ended = True
        if self._daemon is not None:
            self._daemon.write_eof()
        # Once both have ended there is nothing left to carry.
        return not self._is_over and not self._daemon_ended

    def pause_writing(self) -> None:
        if self._daemon is not None:
            self._daemon.pause_reading()

    def resume_writing(self) -> None:
        if self._daemon is not None:
            self._daemon.resume_reading()

    def connection_lost(self, error: Exception | None) -> None:
        self._client = None
        self._stop_timer()
        self._visit.ended()
        self._ended(self)
        if self._opening is not None:
            self._opening.cancel()
        if self._daemon is not None:
            # What the client sent is still delivered, though not for ever.
            self._daemon.close()
            self._after_linger(self._daemon.abort)

    # The daemon's side, called by its half.

    def daemon_data(self, data: bytes) -> None:
        self._answered, self._sent = True, None
        self._activity.answered()
        self._visit.answered()
        if self._client is not None:
            self._client.write(data)
        if self._switch is not None:
            self._decide_switch(self._switch, data)

    def daemon_eof(self) -> None:
        if self._daemon is not None and self._may_send_again:
            self._daemon.abort()  # And is heard of again in daemon_lost.
            return
        self._daemon_ended = True
        if self._client is None or self._is_over:
            return
        if problem := self._unsaid:
            self._end_with(problem)
        elif self._client_ended:
            self._client.close()
        else:
            self._client.write_eof()
            self._after_linger(self.close)

    def daemon_lost(self) -> None:
        self._daemon = None
        if self._may_send_again:
            self._send_again()
            return
        if self._client is None:
            self._stop_timer()
        if problem := self._unsaid:
            self._end_with(problem)
        elif self._client is not None and not self._is_over:
            self._client.close()

    # What the server does with all of its connections.

    def close(self) -> None:
        """End both sides once what was written is sent."""
        if self._client is not None:
            self._client.close()

    def abort(self) -> None:
        """End both sides at once."""
        if self._client is not None:
            self._client.abort()
        if self._daemon is not None:
            self._daemon.abort()

    def tick(self) -> None:
        """Ends the connection when nothing moved for long, or one head takes too many ticks."""
        if self._activity.is_stale_at_tick():
            self.abort()

    @property
    def is_quiet(self) -> bool:
        """Whether nothing moved since the last tick, and what moved last was the daemon's answer."""
        return self._activity.is_quiet

    # How it works.

    async def _open(self) -> None:
        try:
            connection = await self._daemons.open(self._app)
            try:
                await self._connect(connection)
            except BaseException:
                connection.close()
                raise
        except MotesError as error:
            self._visit.failed()
            self._end_with(problem_of(error))
        except OSError:
            self._end_with(_ENDED_EARLY)
        finally:
            if self._opening is asyncio.current_task():
                self._opening = None

    async def _connect(self, connection: socket.socket) -> None:
        if connection.family == socket.AF_UNIX:
            await self._loop.create_unix_connection(lambda: _DaemonSide(self), sock=connection)
        else:
            await self._loop.create_connection(lambda: _DaemonSide(self), sock=connection)

    def daemon_made(self, transport: asyncio.Transport) -> None:
        """Before anything else is heard of it: a daemon may end as it is connected to."""
        if self._client is None:
            transport.abort()
            return
        self._daemon = transport
        self._visit.opened()
        if self._refusal is None and not self._watch.in_head:
            self._flush()
        if self._client_ended:
            self._daemon.write_eof()
        self._release("opening")

    @property
    def _may_send_again(self) -> bool:
        if self._client is None or self._client.is_closing() or self._is_over or self._refusal is not None:
            return False
        is_first = self._watch.requests == 1 and not self._watch.in_head
        return is_first and (self._sent or b"").startswith(SAFE_METHODS)

    def _send_again(self) -> None:
        """To whichever daemon takes a connection now; this time its end is final."""
        self._unsent.insert(0, self._sent or b"")
        self._sent = None
        self._hold("opening")
        self._holds.discard("full")
        self._opening = self._loop.create_task(self._open())

    def _take(self, data: bytes, http_size: int) -> None:
        """Pass on what belongs to judged requests, keep what does not yet."""
        if self._watch.problem is not None:
            self._refuse(self._watch.problem)
            return
        self._visit.asked(self._watch.requests)
        if self._watch.upgrade is not None:
            self._ask_switch(data[:http_size], data[http_size:])
        elif self._watch.in_head:
            self._keep(data)
        else:
            self._forward(data)

    def _keep(self, data: bytes) -> None:
        # The head's beginning within the first of these reads is not known, so that read does not count.
        self._unsent_head_bytes += len(data) if self._unsent_head_bytes else 1
        self._unsent.append(data)
        if self._unsent_head_bytes > MAX_HEAD_BYTES:
            self._refuse(TOO_LARGE)

    def _forward(self, data: bytes) -> None:
        if self._unsent or self._daemon is None:
            self._unsent.append(data)
            self._flush()
        else:
            self._write(self._daemon, data)

    def _flush(self) -> None:
        if self._daemon is not None:
            self._write(self._daemon, b"".join(self._unsent))
            self._unsent.clear()
            self._unsent_head_bytes = 0

    def _write(self, daemon: asyncio.Transport, data: bytes) -> None:
        if self._sent is not None:
            self._sent = self._sent + data if len(self._sent) + len(data) <= MOST_RESENT_BYTES else None
        daemon.write(data)

    def _ask_switch(self, request: bytes, rest: bytes) -> None:
        self._forward(request)
        if self._watch.upgrade == b"websocket":
            self._switch = SwitchWatch(rest)
            self._hold("switch")
        else:
            # Nothing else is taken up here; were the daemon to switch, what follows would be no HTTP/1.1 and end it.
            self._continue_plain(rest)

    def _decide_switch(self, switch: SwitchWatch, data: bytes) -> None:
        switch.feed(data)
        if switch.status is None:
            return
        self._switch = None
        if switch.status == 101:
            self._is_raw = True
            self._forward(switch.rest)
        elif switch.status:
            self._continue_plain(switch.rest)
        else:
            self.abort()
        self._release("switch")

    def _continue_plain(self, rest: bytes) -> None:
        self._watch.restart()
        if rest:
            self._take(rest, self._watch.feed(rest))

    def _refuse(self, problem: Problem) -> None:
        """Nothing more of the client's goes on; answers under way are let through, then comes the problem."""
        self._unsent.clear()
        self._hold("refused")
        if self._daemon is None:
            self._end_with(problem)
        else:
            self._refusal = problem
            self._daemon.write_eof()
            self._after_linger(self._end_with, problem)

    def _after_linger(self, end: Callable[..., None], *arguments: Problem) -> None:
        self._stop_timer()
        self._later = self._loop.call_later(LINGER_S, end, *arguments)

    def _stop_timer(self) -> None:
        if self._later is not None:
            self._later.cancel()
            self._later = None

    @property
    def _unsaid(self) -> Problem | None:
        """What the client has yet to hear when the daemon is through."""
        return self._refusal or (None if self._answered else _ENDED_EARLY)

    def _end_with(self, problem: Problem) -> None:
        if self._client is None or self._is_over:
            return
        if problem is _ENDED_EARLY:
            self._visit.failed()
        self._is_over = True
        self._holds.clear()
        self._client.resume_reading()
        say_farewell(self._client, problem)
        if self._client_ended:
            self._client.close()

    def _hold(self, reason: str) -> None:
        if not self._holds and self._client is not None:
            self._client.pause_reading()
        self._holds.add(reason)

    def _release(self, reason: str) -> None:
        self._holds.discard(reason)
        if not self._holds and self._client is not None:
            self._client.resume_reading()

    def daemon_full(self, is_full: bool) -> None:
        """The daemon reads slower than the client writes, or no longer so."""
        if is_full:
            self._hold("full")
        else:
            self._release("full")


class _DaemonSide(asyncio.Protocol):
    """The connection inside the daemon's space."""

    def __init__(self, proxy: DaemonProxy) -> None:
        self._proxy = proxy
        self.data_received = proxy.daemon_data  # type: ignore[method-assign]

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are not subclasses of asyncio's.
        self._proxy.daemon_made(cast(asyncio.Transport, transport))

    def eof_received(self) -> bool:
        self._proxy.daemon_eof()
        return True

    def connection_lost(self, error: Exception | None) -> None:
        self._proxy.daemon_lost()

    def pause_writing(self) -> None:
        self._proxy.daemon_full(True)

    def resume_writing(self) -> None:
        self._proxy.daemon_full(False)
