"""One user's connection to NATS: publish, subscribe, request, and come back after a loss.

Nothing is buffered while disconnected: `publish` says False and the message is gone, for a late call or beat is
worse than none. Whoever has state to tell tells it again in `on_reconnected`.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import itertools
import logging
import secrets
import ssl
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from motes.bus import subjects, tls
from motes.bus.wire import Message, Wire
from motes.errors import MotesError, TimedOut, TooLarge, Unavailable, Untrusted
from motes.model.credentials import Credentials
from motes.model.invite import WEB_SCHEME

CONNECT_TIMEOUT_S = 1.0
WEB_TIMEOUT_S = 3.0
"""For a WebSocket: a proxy, TLS and HTTP come before the first word."""
RECONNECT_WAIT_S = 0.05
RECONNECT_WAIT_MAX_S = 0.25
NOT_TAKEN_WAIT_MAX_S = 60.0
"""Between two attempts of a user whom the server does not take: it says the same for long."""
PING_INTERVAL_S = 1.0
PINGS_UNANSWERED = 2
"""A server that has not answered this many pings is gone."""
REQUESTS_LIMIT = 65536
REFUSAL = "Authorization Violation"
"""How nats-server answers a token that does not hold."""
SERVERS_LIMIT = 64
"""Where to look for a keeper that has moved, the newest first."""

_log = logging.getLogger("motes.bus")

__all__ = ["Connection", "Message", "Subscription"]


class Subscription:
    """Interest in a subject, until `unsubscribe`."""

    def __init__(self, connection: Connection, number: bytes) -> None:
        self._connection = connection
        self._number = number

    def unsubscribe(self) -> None:
        """Hear no more; messages that are on the way are dropped."""
        self._connection._forget(self._number)


class Connection:
    """A connection that heals itself. `inbox` is this connection's own prefix for replies, new at each `open`."""

    def __init__(
        self,
        server: str,
        credentials: Credentials,
        on_disconnected: Callable[[], None] | None,
        on_reconnected: Callable[[], None] | None,
        certificate: bytes = b"",
        find: Callable[[], tuple[str, bytes]] | None = None,
    ) -> None:
        self.server = server
        self.credentials = credentials
        self.certificate = certificate
        self._plain = frozenset() if certificate else frozenset(server.split(","))
        """This machine's own, found without TLS also after the keeper moved from it."""
        self._find = find
        self.user = credentials.user
        self.inbox = f"{subjects.inbox(self.user)}.{secrets.token_hex(8)}"
        self.connected = False
        self.refused = ""
        """The server's last refusal, for example a permission that the user does not have."""
        self.trouble: MotesError | None = None
        """Why it is not connected, as far as the last attempt has shown."""
        self.lost_at = 0.0
        """Since when it is not, by the loop's clock."""
        self._on_disconnected = on_disconnected
        self.on_reconnected = on_reconnected
        self._numbers = itertools.count(1)
        self._handlers: dict[bytes, Callable[[Message], None]] = {}
        self._subjects: dict[bytes, tuple[str, str]] = {}
        """What is heard, and with which queue."""
        self._requests: dict[str, asyncio.Future[bytes]] = {}
        self._request_inbox = f"{self.inbox}.request."
        self._closed = False
        self.count = 0
        """How often it was made: one more after each loss, at whatever server."""
        self.number = 0
        """What the server calls it; another after each loss."""
        self.server_id = ""
        """Of the server that calls it so: another one may give the same number."""
        self.pings = 0
        """Sent so far, each a while after the last."""
        self.pings_answered = 0
        """The last of them that was: the server has got all that was sent before it."""
        self.payload_limit_bytes = 0
        """The most that one message may have."""
        self.server_version = ""
        self._wire: Wire | None = None
        self._healing: asyncio.Task[None] | None = None
        self._watching: asyncio.Task[None] | None = None

    @classmethod
    async def open(
        cls,
        server: str,
        credentials: Credentials,
        *,
        on_disconnected: Callable[[], None] | None = None,
        on_reconnected: Callable[[], None] | None = None,
        certificate: bytes = b"",
        find: Callable[[], tuple[str, bytes]] | None = None,
    ) -> Connection:
        """Connect to `server`, as `nats://127.0.0.1:4222`, or to the first that answers of several, with commas.

        With `certificate`, by which the server's is known (motes.model.certificate), nothing is said but over
        TLS to that one. `find` says both anew before each further connect: the keeper may have moved. Raises
        Unavailable, and Untrusted where another answers.
        """
        connection = cls(server, credentials, on_disconnected, on_reconnected, certificate, find)
        await connection._connect()
        await connection.subscribe(connection._request_inbox + "*", connection._take_answer)
        connection._watching = asyncio.create_task(connection._watch())
        return connection

    # From here on: what users of a connection do.

    def publish(self, subject: str, payload: bytes, reply: str = "", headers: Mapping[str, str] | None = None) -> bool:
        """Send a message; False when it was dropped: not connected, or too much is unsent. With headers, no reply.

        Raises TooLarge, and ValueError for a subject with white space in it.
        """
        wire = self._wire
        if wire is None or not self.connected:
            return False
        if len(payload) > self.payload_limit_bytes:
            raise TooLarge(
                f"a message of {len(payload)} bytes; NATS here carries {self.payload_limit_bytes}",
                limit_bytes=self.payload_limit_bytes,
            )
        if headers is not None:
            return wire.publish_with_headers(subject, payload, headers)
        return wire.publish(subject, payload, reply)

    async def subscribe(self, subject: str, callback: Callable[[Message], None], queue: str = "") -> Subscription:
        """Call `callback` for each message; returns when the server knows. The callback must not block or raise.

        Of those that subscribe with the same `queue` one gets each message.
        """
        number = b"%d" % next(self._numbers)
        self._handlers[number] = callback
        self._subjects[number] = subject, queue
        if self._wire is not None and self.connected:
            self._wire.subscribe(number, subject, queue)
            # Should the connection be lost meanwhile, the next one subscribes again.
            with contextlib.suppress(Unavailable, TimedOut):
                await self.flush(CONNECT_TIMEOUT_S)
        return Subscription(self, number)

    async def request(self, subject: str, payload: bytes, timeout_s: float) -> bytes:
        """One answer. Raises Unavailable (nobody there, not connected, or the connection was lost) and TimedOut."""
        if len(self._requests) >= REQUESTS_LIMIT:
            raise Unavailable(f"over {REQUESTS_LIMIT} requests wait for an answer on this connection")
        # Nobody can guess it: a host could answer in the controller's place.
        token = secrets.token_hex(16)
        answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._requests[token] = answer
        try:
            if not self.publish(subject, payload, self._request_inbox + token):
                raise Unavailable(f"no connection to NATS at {self.server}")
            async with asyncio.timeout(timeout_s):
                return await answer
        except TimeoutError:
            raise TimedOut(f"no answer on {subject} within {timeout_s:g} s", timeout_s=timeout_s) from None
        finally:
            del self._requests[token]

    @property
    def unsent_bytes(self) -> int:
        """What was published and the server has not taken yet."""
        return 0 if self._wire is None else self._wire.unsent_bytes

    def lead_to(self, servers: str, certificate: bytes) -> None:
        """Look there first from the next connect on; where it was before remains, for who moves may come back.

        Raises Untrusted for another certificate than the one that is known.
        """
        if self.certificate not in (b"", certificate):
            raise Untrusted("a server is named whose certificate is another than the one that is known")
        first = servers.split(",")
        known = (*first, *(each for each in self.server.split(",") if each not in first))
        self.server, self.certificate = ",".join(known[:SERVERS_LIMIT]), certificate

    async def flush(self, timeout_s: float = CONNECT_TIMEOUT_S) -> None:
        """Wait until the server has handled everything sent so far. Raises Unavailable and TimedOut."""
        if self._wire is None:
            raise Unavailable(f"no connection to NATS at {self.server}")
        try:
            async with asyncio.timeout(timeout_s):
                await self._wire.ping()
        except TimeoutError:
            raise TimedOut(
                f"NATS at {self.server} did not answer within {timeout_s:g} s", timeout_s=timeout_s
            ) from None
        except ConnectionError as error:
            raise Unavailable(f"the connection to NATS at {self.server} was lost") from error

    async def close(self) -> None:
        """Send what is queued and end; callbacks are not called any more."""
        self._closed = True
        self.connected = False
        self._handlers.clear()
        for task in (self._watching, self._healing):
            if task is not None:
                task.cancel()
                await asyncio.wait((task,))
        self._fail_requests()
        if (wire := self._wire) is not None:
            wire.close()
            # TLS says goodbye, too.
            await asyncio.wait((wire.ended,), timeout=CONNECT_TIMEOUT_S)
            wire.abort()

    # From here on: answers.

    def _take_answer(self, message: Message) -> None:
        answer = self._requests.get(message.subject[len(self._request_inbox) :])
        if answer is None or answer.done():
            return
        if message.no_responders:
            answer.set_exception(Unavailable("nobody hears this subject now"))
        else:
            answer.set_result(message.data)

    def _fail_requests(self) -> None:
        for answer in self._requests.values():
            if not answer.done():
                answer.set_exception(Unavailable(f"the connection to NATS at {self.server} was lost"))

    def _forget(self, number: bytes) -> None:
        self._handlers.pop(number, None)
        if self._subjects.pop(number, None) is not None and self._wire is not None and self.connected:
            self._wire.unsubscribe(number)

    # From here on: connecting, and coming back.

    async def _connect(self) -> None:
        """To the first of the servers that takes this user. Raises the most telling of what they said."""
        failures: list[MotesError] = []
        for server in self.server.split(","):
            try:
                return await self._connect_to(server)
            except (Unavailable, Untrusted) as error:
                failures.append(error)
        raise most_telling(failures)

    async def _connect_to(self, server: str) -> None:
        wire: Wire | None = None
        said: list[str] = []
        is_web = server.startswith(WEB_SCHEME)
        is_secure = bool(self.certificate) and server not in self._plain and not is_web
        try:
            async with asyncio.timeout(WEB_TIMEOUT_S if is_web else CONNECT_TIMEOUT_S):
                wire = self._new_wire(is_secure, said)
                await self._reach(wire, server, is_web)
                await self._greet(wire, server, is_secure)
                told = await self._subscribe_again(wire)
        except BaseException as error:
            if wire is not None:
                wire.abort()
            if isinstance(error, ssl.SSLCertVerificationError):
                raise tls.not_vouched_for(server, error) from None
            # An address may be none, and what answers there anything.
            if not isinstance(error, (OSError, TimeoutError, ValueError, TypeError, LookupError, OverflowError)):
                raise  # Somebody closes this connection meanwhile.
            why = said[-1] if said else str(error) or type(error).__name__
            refusal = {"refused": said[-1]} if said else {}
            raise Unavailable(f"no connection to NATS at {server} as {self.user!r}: {why}", **refusal) from error
        self._wire = wire
        self.count += 1
        self.connected = True
        self.trouble = None
        for number in self._subjects.keys() - told:
            wire.subscribe(number, *self._subjects[number])
        for number in told - self._subjects.keys():
            wire.unsubscribe(number)

    async def _reach(self, wire: Wire, server: str, is_web: bool) -> None:
        address = server.rpartition("//")[2]
        if is_web:
            # What few use costs the others nothing.
            from motes.bus import websocket

            await websocket.connect(wire, address, self.certificate)
            return
        await asyncio.get_running_loop().create_connection(lambda: wire, *_parts(server))

    def _new_wire(self, is_secure: bool, said: list[str]) -> Wire:
        wire: Wire

        def on_refused(what: str) -> None:
            self.refused = what
            if wire is self._wire:
                _log.warning("NATS refuses something to %s: %s", self.user, what)
            else:
                said.append(what)  # Whoever connects says so.

        wire = Wire(self._handlers, on_refused, lambda: self._note_loss(wire), deaf=is_secure)
        return wire

    async def _greet(self, wire: Wire, server: str, is_secure: bool) -> None:
        info = await wire.info
        if is_secure:
            await wire.start_tls(tls.context(self.certificate), tls.name_of(_parts(server)[0], self.certificate))
            tls.check(wire.transport, self.certificate)
        self.payload_limit_bytes = int(info["max_payload"])
        self.server_version = str(info.get("version", ""))
        self.number, self.server_id = int(info.get("client_id", 0)), str(info.get("server_id", ""))
        wire.connect(self._options(str(info.get("nonce", ""))))
        await wire.ping()

    async def _subscribe_again(self, wire: Wire) -> set[bytes]:
        """Tell the server what is heard here, and wait until it knows: whoever sees `connected` can be answered."""
        told = set(self._subjects)
        for number in told:
            wire.subscribe(number, *self._subjects[number])
        await wire.ping()
        if not wire.open:
            # Lost between the answer and this task's turn: nobody else would notice.
            raise ConnectionError("the connection to NATS ended")
        return told

    def _options(self, nonce: str) -> dict[str, Any]:
        signature = Ed25519PrivateKey.from_private_bytes(self.credentials.secret).sign(nonce.encode())
        return {
            "verbose": False,
            "pedantic": False,
            "lang": "python-motes",
            "version": "1",
            "protocol": 1,
            "headers": True,
            "no_responders": True,
            "name": self.user,
            "jwt": self.credentials.jwt,
            "sig": base64.b64encode(signature).decode(),
        }

    def _note_loss(self, wire: Wire) -> None:
        if wire is not self._wire or self._closed:
            return
        self._wire = None
        self.connected = False
        self.trouble = Unavailable(f"the connection to NATS at {self.server} was lost")
        self.lost_at = asyncio.get_running_loop().time()
        self._fail_requests()
        self._healing = asyncio.create_task(self._reconnect())
        if self._on_disconnected is not None:
            self._on_disconnected()

    async def _reconnect(self) -> None:
        wait_s = RECONNECT_WAIT_S
        while True:
            try:
                self._look_again()
                await self._connect()
                break
            except (Unavailable, Untrusted) as error:
                if is_not_taken(error) and not is_not_taken(self.trouble):
                    _log.warning("%s; trying again every now and then", error)
                self.trouble = error
            await asyncio.sleep(wait_s)
            wait_s = next_wait_s(wait_s, self.trouble)
        if self.on_reconnected is not None:
            self.on_reconnected()

    def _look_again(self) -> None:
        if self._find is not None:
            with contextlib.suppress(MotesError):
                server, certificate = self._find()
                if certificate and certificate == self.certificate:
                    # What was heard and could not be kept remains.
                    self.lead_to(server, certificate)
                    return
                self.server, self.certificate = server, certificate
                self._plain = frozenset() if certificate else frozenset(server.split(","))

    async def _watch(self) -> None:
        """Ping the server; one from which nothing comes is lost, though the socket may say nothing.

        The answer to a ping comes behind all that the server has for this connection, which may be much.
        """
        while True:
            await asyncio.sleep(PING_INTERVAL_S)
            wire = self._wire
            if wire is None:
                continue
            reads = wire.reads
            try:
                self.pings += 1
                async with asyncio.timeout(PINGS_UNANSWERED * PING_INTERVAL_S):
                    await wire.ping()
                self.pings_answered = self.pings
            except TimeoutError:
                if wire.reads != reads:
                    continue
                _log.warning("NATS at %s does not answer; connecting again", self.server)
                wire.abort()
            except ConnectionError:
                continue


def _parts(server: str) -> tuple[str, int]:
    """Host and port of a URL. Raises ValueError."""
    host, _, port = server.rpartition("//")[2].rpartition(":")
    return host.strip("[]"), int(port)


def most_telling(failures: Sequence[MotesError]) -> MotesError:
    """Of what several addresses of one server said: that it does not want this user, that it is another, or the first,
    which is where it most likely is."""
    return next(
        (error for kind in (is_not_taken, _is_another) for error in failures if kind(error)),
        failures[0],
    )


def is_not_taken(error: MotesError | None) -> bool:
    """Whether the server itself says that this user's key opens nothing."""
    return error is not None and REFUSAL in str(error.detail.get("refused", ""))


def _is_another(error: MotesError) -> bool:
    return isinstance(error, Untrusted)


def next_wait_s(wait_s: float, error: MotesError | None, most_s: float = RECONNECT_WAIT_MAX_S) -> float:
    """How long to wait before the next attempt but one, after a wait and a failure."""
    return min(wait_s * 2, NOT_TAKEN_WAIT_MAX_S) if is_not_taken(error) else min(wait_s * 1.2, most_s)
