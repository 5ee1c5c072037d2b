"""The streams and buckets of the store: how large each may become, and how the end of one is read."""

from __future__ import annotations

from collections import deque
from typing import Any

Settings = dict[str, Any]
"""As nats-py takes them."""

BUCKETS = ("apps", "removals", "releases", "cluster", "invites", "members", "sets", "callers")
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
KEPT_S = 14 * 24 * 3600.0
"""How long events and logs are kept at most."""
_ASYNC_PERSISTENCE_SINCE = (2, 12)
_PAGE = 500


def bucket(name: str) -> Settings:
    """The settings of one of BUCKETS."""
    return {
        "bucket": name,
        "history": 1,
        # Without it, nats-py reads through the API, which is slower.
        "direct": True,
        "storage": "file",
        "max_value_size": VALUE_LIMIT_BYTES,
        "max_bytes": BUCKET_LIMIT_BYTES,
    }


def streams(server_version: tuple[int, int]) -> list[Settings]:
    """For a nats-server of this version."""
    noted: Settings = {
        "storage": "file",
        "discard": "old",
        "max_age": KEPT_S,
        "no_ack": True,
        "allow_direct": True,
        "persist_mode": "async" if server_version >= _ASYNC_PERSISTENCE_SINCE else None,
    }
    return [
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
    ]


async def tail(client: Any, stream: str, subject: str, first: int, limit: int, timeout_s: float) -> list[bytes]:
    """The last `limit` messages on `subject` from sequence number `first` on, by batched direct gets."""
    kept: deque[bytes] = deque(maxlen=limit)
    inbox = client.new_inbox()
    answers = await client.subscribe(inbox)
    try:
        while True:
            ask = b'{"seq":%d,"next_by_subj":"%b","batch":%d}' % (first, subject.encode(), _PAGE)
            await client.publish(f"$JS.API.DIRECT.GET.{stream}", ask, reply=inbox)
            while True:
                message = await answers.next_msg(timeout=timeout_s)
                headers = message.headers or {}
                if "Status" in headers:
                    break
                first = int(headers["Nats-Sequence"]) + 1
                kept.append(message.data)
            # 404: nothing at all; 204: the page ends, and says how many more there are.
            if headers["Status"] != "204" or headers.get("Nats-Num-Pending", "0") == "0":
                return list(kept)
    finally:
        await answers.unsubscribe()
