"""Every app as a NATS service: `fn.<app>.<function>` for any NATS client, and the standard `$SRV` subjects.

A service is an app, an endpoint is one of its functions. The body is JSON as over HTTP, the reply its result; an error
is a reply with the headers Nats-Service-Error and Nats-Service-Error-Code. Who sends to `fn.<app>.<function>` nobody
knows; to `fn.<app>.<function>.<user>` only that user can. The protocol is ADR-32 of
https://github.com/nats-io/nats-architecture-and-design
"""

from __future__ import annotations

import asyncio
import datetime
import functools
import hashlib
import re
import secrets
from collections.abc import Mapping
from typing import Any, Protocol

import msgspec

from motes.bus.connection import Connection, Message
from motes.bus.subjects import SHUT
from motes.errors import BadInput, MotesError, NotFound, Overloaded, Refused
from motes.gateway.call_request import MAX_TIMEOUT_S, HeldBytes
from motes.gateway.recent import Recent
from motes.grants.shut_out import ShutOut
from motes.model.call import FROM_OUTSIDE, Context
from motes.model.caller import told_over_nats
from motes.model.host import HostInstances
from motes.model.keeper import Service
from motes.model.release import Function
from motes.model.totals import Totals
from motes.model.units import parse_seconds
from motes.tasks import Tasks
from motes.tracing import note_incoming

MOST_CALLS = 1_000
"""Calls of NATS clients that are under way at a time."""
QUEUE = "q"
"""The protocol's usual queue group."""
ERROR_LIMIT = 500
MOST_ERRORS = 1_000
"""Addresses of which the last error is known: anybody may call what there is not."""
_TYPE = "io.nats.micro.v1.{}_response"
_INBOX = "_INBOX."
_VERBS = ("PING", "INFO", "STATS")


class Cluster(Protocol):
    """The part of `motes.client.cluster.Cluster` that services use."""

    async def call_bytes(
        self, app: str, workload: str, body: bytes, timeout_s: float | None = None, context: Context = FROM_OUTSIDE
    ) -> bytes: ...

    async def services(self) -> list[Service]: ...

    async def look(self) -> dict[str, HostInstances | None]: ...


class Services:
    """Answers NATS clients on one connection."""

    def __init__(self, cluster: Cluster, answers: Connection, shut_out: ShutOut) -> None:
        self._cluster = cluster
        self._shut_out = shut_out
        self._answers = answers
        self._calls = 0
        self._tasks = Tasks("gateway")
        self._seed = secrets.token_bytes(16)
        self._started = datetime.datetime.now(datetime.UTC).isoformat().replace("+00:00", "Z")
        self._held = HeldBytes()
        self._services = Recent(cluster.services)
        self._hosts = Recent(cluster.look)
        self._told = {verb: Recent(functools.partial(self._tell_all, verb)) for verb in _VERBS}
        """The answers of all apps; they are long, and whoever asks needs a few bytes for it."""
        self._turn = asyncio.Lock()
        self._last_errors: dict[str, str] = {}
        """By address, of the calls that came this way."""

    async def start(self) -> None:
        """Raises Unavailable."""
        for subject in ("fn.*.*", "fn.*.*.*"):
            await self._answers.subscribe(subject, self._on_call, QUEUE)
        await self._answers.subscribe(SHUT, lambda message: self._shut_out.hear(message.data))
        for verb in _VERBS:
            for subject in (f"$SRV.{verb}", f"$SRV.{verb}.*", f"$SRV.{verb}.*.*"):
                await self._answers.subscribe(subject, self._on_question)

    # ------------------------------------------------------------------ calls

    def _on_call(self, message: Message) -> None:
        # The reply is the asker's choice: an answer goes to inboxes only, as this user's permissions say as well.
        if not message.reply.startswith(_INBOX):
            return
        user = message.subject.split(".")[3:]
        if user and user[0] in self._shut_out.names:
            self._refuse(message, Refused(f"the keys of caller {user[0]!r} were withdrawn"))
            return
        if self._calls >= MOST_CALLS:
            error = Overloaded(f"{MOST_CALLS} calls over NATS are under way; try again in a second", retry_after_s=1)
            self._refuse(message, error)
            return
        self._calls += 1
        self._tasks.spawn(self._call(message))

    async def _call(self, message: Message) -> None:
        _, app, function, *user = message.subject.split(".")
        context = Context(on_behalf=told_over_nats(user[0])) if user else FROM_OUTSIDE
        try:
            self._held.hold(len(message.data))
            headers = parse_headers(message.headers)
            if (trace := headers.get("traceparent")) is not None:
                note_incoming(trace.encode("latin-1", "replace"))
            result = await self._cluster.call_bytes(app, function, message.data, _timeout_of(headers), context)
            self._answers.publish(message.reply, result)
        except MotesError as error:
            if not isinstance(error, NotFound):
                self._note_error(f"{app}.{function}", f"{error.http_status}:{error.message[:ERROR_LIMIT]}")
            self._refuse(message, error)
        finally:
            self._held.hold(-len(message.data))
            self._calls -= 1

    def _note_error(self, address: str, text: str) -> None:
        self._last_errors.pop(address, None)
        self._last_errors[address] = text
        if len(self._last_errors) > MOST_ERRORS:
            del self._last_errors[next(iter(self._last_errors))]

    def _refuse(self, message: Message, error: MotesError) -> None:
        body = msgspec.json.encode(error.to_wire())
        headers = {"Nats-Service-Error": one_line(error.message), "Nats-Service-Error-Code": str(error.http_status)}
        self._answers.publish(message.reply, body, headers=headers)

    # ------------------------------------------------------------------ what there is

    def _on_question(self, message: Message) -> None:
        if message.reply.startswith(_INBOX) and len(self._tasks) < 2 * MOST_CALLS:
            self._tasks.spawn(self._tell(message))

    async def _tell(self, message: Message) -> None:
        _, verb, *which = message.subject.split(".")
        try:
            told = await self._told[verb].get()
        except MotesError:
            return  # Nothing is known now; whoever asks waits only so long.
        async with self._turn:
            for app, own_id, answer in told:
                if which[:1] in ([], [app]) and which[1:] in ([], [own_id]):
                    self._answers.publish(message.reply, answer)
                    # A question of a few bytes may have many answers: calls have their turn after each.
                    await asyncio.sleep(0)

    async def _tell_all(self, verb: str) -> list[tuple[str, str, bytes]]:
        """Of each app its name, its id and the answer. Raises what asking raises."""
        services = await self._services.get()
        totals = _sum_totals(await self._hosts.get()) if verb == "STATS" else {}
        found: list[tuple[str, str, bytes]] = []
        for service in services:
            own_id = self._id_of(service.app)
            told: dict[str, Any] = {
                "type": _TYPE.format(verb.lower()),
                "name": service.app,
                "id": own_id,
                "version": f"0.0.0+{service.release}",
                "metadata": {"release": service.release},
            }
            if verb == "INFO":
                told |= {"description": "", "endpoints": [_info(service.app, each) for each in service.functions]}
            elif verb == "STATS":
                endpoints = [self._stats(service.app, each, totals) for each in service.functions]
                told |= {"started": self._started, "endpoints": endpoints}
            found.append((service.app, own_id, msgspec.json.encode(told)))
            await asyncio.sleep(0)
        return found

    def _id_of(self, app: str) -> str:
        """The same as long as this gateway runs."""
        return hashlib.sha256(self._seed + app.encode()).hexdigest()[:22].upper()

    def _stats(self, app: str, function: Function, totals: Mapping[str, Totals]) -> dict[str, Any]:
        address = f"{app}.{function.name}"
        found = totals.get(address, Totals())
        spent_ns = int(found.answered_s * 1e9)
        return {
            **_endpoint(app, function),
            "num_requests": found.calls,
            "num_errors": found.errors,
            "last_error": self._last_errors.get(address, ""),
            "processing_time": spent_ns,
            "average_processing_time": spent_ns // max(found.answers, 1),
        }


def _endpoint(app: str, function: Function) -> dict[str, Any]:
    return {"name": function.name, "subject": f"fn.{app}.{function.name}", "queue_group": QUEUE}


def _info(app: str, function: Function) -> dict[str, Any]:
    schemas = {"request": function.parameters, "response": function.result}
    told = {key: msgspec.json.encode(value).decode() for key, value in schemas.items()}
    described = {"description": function.description, "streams": str(function.streams).lower()}
    return {**_endpoint(app, function), "metadata": {**told, **described}}


def _sum_totals(hosts: Mapping[str, HostInstances | None]) -> dict[str, Totals]:
    found: dict[str, Totals] = {}
    for host in hosts.values():
        for address, more in (host.totals if host is not None else {}).items():
            one = found.get(address, Totals())
            found[address] = Totals(
                one.calls + more.calls,
                one.errors + more.errors,
                answers=one.answers + more.answers,
                answered_s=one.answered_s + more.answered_s,
            )
    return found


def _timeout_of(headers: Mapping[str, str]) -> float | None:
    """The header Motes-Timeout, as over HTTP. Raises BadInput."""
    value = headers.get("motes-timeout")
    if value is None:
        return None
    try:
        seconds = parse_seconds(value)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds <= MAX_TIMEOUT_S:
        raise BadInput(f"Motes-Timeout must be above 0 and at most {MAX_TIMEOUT_S:.0f} seconds")
    return seconds


def parse_headers(data: bytes) -> dict[str, str]:
    """A message's headers by lower-case name, the first value of each."""
    found: dict[str, str] = {}
    for line in data.decode("utf-8", "replace").split("\r\n")[1:]:
        name, colon, value = line.partition(":")
        if colon:
            found.setdefault(name.strip().lower(), value.strip())
    return found


def one_line(text: str) -> str:
    """What a header may hold."""
    return re.sub(r"[\x00-\x1f\x7f]+", " ", text)[:ERROR_LIMIT]
