"""The streams and buckets of the store: how large each may become, and how the end of one is read."""

from __future__ import annotations

import asyncio
import itertools
from collections import deque
from typing import Any, NamedTuple

from motes.bus.connection import Connection, Message
from motes.errors import Unavailable

Settings = dict[str, Any]
"""As nats-py takes them."""

BUCKETS = ("apps", "removals", "releases", "cluster", "invites", "members", "sets", "callers", "drained")
CHUNK_LIMIT_BYTES = 256 * 2**10
_HEADERS_BYTES = 4096
"""What nats-py adds to a message; the server counts it."""
BUNDLES_LIMIT_BYTES = 4 * 2**30
VALUE_LIMIT_BYTES = 4 * 2**20
BUCKET_LIMIT_BYTES = 512 * 2**20
EVENTS_LIMIT = 20_000
EVENTS_OF_ONE_LIMIT = 5_000
"""Events of one sender: a host that tells without end pushes out its own."""
EVENT_LIMIT_BYTES = 8 * 2**10
LOGS_OF_ONE_LIMIT = 1_000
"""Log messages of one app, of all its workloads and hosts together: a loud app pushes out its own."""
LOG_LIMIT_BYTES = 16 * 2**10
LOGS_LIMIT_BYTES = 4 * 2**30
"""A thousand apps, each with as many messages as it may have and 4 KiB in each."""
RECEIPTS_LIMIT = 1_000_000
RECEIPTS_OF_ONE_LIMIT = 100_000
"""Receipts of one host, 70 MB: one that sends without end pushes out its own."""
RECEIPT_LIMIT_BYTES = 4 * 2**10
RECEIPTS_KEPT_S = 35 * 24 * 3600.0
"""More than a month, so that a month can be added up."""
KEPT_S = 14 * 24 * 3600.0
"""How long events and logs are kept at most."""
_ASYNC_PERSISTENCE_SINCE = (2, 12)
_ANY_VERSION = (0, 0)
_PAGE = 500
_TIMEOUT_S = 5.0
"""Between two messages of a page."""
_ENDS = ("204", "404")
_numbers = itertools.count(1)


def bucket(name: str, replicas: int) -> Settings:
    """The settings of one of BUCKETS, kept on so many servers."""
    return {
        "bucket": name,
        "history": 1,
        # Without it, nats-py reads through the API, which is slower. A replica may not have heard the newest yet.
        "direct": replicas == 1,
        "replicas": replicas,
        "storage": "file",
        "max_value_size": VALUE_LIMIT_BYTES,
        "max_bytes": BUCKET_LIMIT_BYTES,
    }


def most_bytes() -> int:
    """What all of them together set aside."""
    of_streams: list[int] = [each.get("max_bytes", 0) for each in streams(_ANY_VERSION, 1)]
    return len(BUCKETS) * BUCKET_LIMIT_BYTES + sum(of_streams)


def stream_names() -> set[str]:
    """Of all streams and buckets."""
    return {*(f"KV_{name}" for name in BUCKETS), *(str(each["name"]) for each in streams(_ANY_VERSION, 1))}


def streams(server_version: tuple[int, int], replicas: int) -> list[Settings]:
    """For a nats-server of this version, kept on so many servers."""
    is_async = server_version >= _ASYNC_PERSISTENCE_SINCE and replicas == 1
    noted: Settings = {
        "storage": "file",
        "discard": "old",
        "max_age": KEPT_S,
        "no_ack": True,
        "allow_direct": True,
        "persist_mode": "async" if is_async else None,
    }
    made: list[Settings] = [
        dict(
            name="BUNDLES",
            subjects=["bundle.*.*"],
            storage="file",
            discard="new",
            max_bytes=BUNDLES_LIMIT_BYTES,
            max_msgs_per_subject=1,
            max_msg_size=CHUNK_LIMIT_BYTES + _HEADERS_BYTES,
            allow_direct=True,
        ),
        dict(
            name="EVENTS",
            subjects=["event.*"],
            max_msgs=EVENTS_LIMIT,
            max_bytes=EVENTS_LIMIT * EVENT_LIMIT_BYTES,
            max_msgs_per_subject=EVENTS_OF_ONE_LIMIT,
            max_msg_size=EVENT_LIMIT_BYTES,
            **noted,
        ),
        dict(
            name="LOGS",
            subjects=["log.*"],
            max_msgs_per_subject=LOGS_OF_ONE_LIMIT,
            max_bytes=LOGS_LIMIT_BYTES,
            max_msg_size=LOG_LIMIT_BYTES,
            **noted,
        ),
        dict(
            name="RECEIPTS",
            subjects=["receipt.*"],
            storage="file",
            discard="old",
            max_age=RECEIPTS_KEPT_S,
            max_msgs_per_subject=RECEIPTS_OF_ONE_LIMIT,
            # Without a limit in bytes, which would be set aside of what there is for all streams.
            max_msgs=RECEIPTS_LIMIT,
            max_msg_size=RECEIPT_LIMIT_BYTES,
            allow_direct=True,
        ),
    ]
    return [{**each, "num_replicas": replicas} for each in made]


class Kept(NamedTuple):
    """One message of a stream."""

    sequence: int
    subject: str
    data: bytes


class Page(NamedTuple):
    """Some messages of a stream, and whether there are more."""

    messages: list[Kept]
    more: bool


async def tail(connection: Connection, stream: str, subject: str, first: int, limit: int) -> list[bytes]:
    """The last `limit` messages on `subject` from sequence number `first` on. Raises Unavailable."""
    kept: deque[bytes] = deque(maxlen=limit)
    while True:
        found = await page(connection, stream, subject, first, _PAGE)
        kept.extend(each.data for each in found.messages)
        if not found.more:
            return list(kept)
        first = found.messages[-1].sequence + 1


async def page(connection: Connection, stream: str, subject: str, first: int | str, count: int) -> Page:
    """The next `count` messages on `subject`, from a sequence number on, or from a time, as RFC 3339 writes it.

    By one batched direct get. Raises Unavailable.
    """
    messages: list[Kept] = []
    inbox = f"{connection.inbox}.page.{next(_numbers)}"
    arrived: asyncio.Queue[Message] = asyncio.Queue()
    heard = await connection.subscribe(inbox, arrived.put_nowait)
    try:
        start = b'"seq":%d' % first if isinstance(first, int) else b'"start_time":"%b"' % first.encode()
        ask = b'{%b,"next_by_subj":"%b","batch":%d}' % (start, subject.encode(), count)
        if not connection.publish(f"$JS.API.DIRECT.GET.{stream}", ask, inbox):
            raise Unavailable("no connection to the store")
        while True:
            async with asyncio.timeout(_TIMEOUT_S):
                message = await arrived.get()
            status, headers = _read_headers(message.headers)
            if status:
                break
            messages.append(Kept(int(headers["Nats-Sequence"]), headers["Nats-Subject"], message.data))
    except TimeoutError:
        raise Unavailable(f"the store said no more of {stream} for {_TIMEOUT_S:g} s") from None
    finally:
        heard.unsubscribe()
    if status not in _ENDS:
        raise Unavailable(f"the store does not read {stream}: {status}")
    # 404: nothing at all; 204: the page ends, and says how many more there are.
    return Page(messages, status == "204" and headers.get("Nats-Num-Pending", "0") != "0")


def _read_headers(data: bytes) -> tuple[str, dict[str, str]]:
    """The status, or nothing where there is none, and the fields."""
    first, *lines = data.decode().splitlines()
    fields = (line.partition(":") for line in lines)
    return first.removeprefix("NATS/1.0").strip()[:3], {name: value.strip() for name, _, value in fields}
