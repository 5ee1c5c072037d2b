"""A NATS that somebody else runs: whether it will do for a cluster, and whose cluster lives in the account.

Asked in NATS's own words, over the keeper's connection and before anything is kept there.
"""

from __future__ import annotations

import base64
import json
import re
from typing import Any

from motes.bus import notices, subjects
from motes.bus.connection import Connection
from motes.bus.streams import BUCKETS, most_bytes, stream_names
from motes.errors import MotesError, Refused, TimedOut, Unavailable
from motes.model.names import KEEPER
from motes.model.units import format_bytes

LEAST_VERSION = (2, 11)
LEAST_PAYLOAD_BYTES = 2**20
"""A chunk of code has a quarter of it; results over what NATS carries end with an error that says so."""
THREE = 3
"""So many servers named: what is kept is on three of them."""
CLAIM = "claim"
"""In the bucket `cluster`: whose it is, by the controller's public key in hexadecimal."""
_TIMEOUT_S = 5.0
_ALIVE_TIMEOUT_S = 2.0
_NOT_FOUND = 404
_NOT_PERMITTED = "Permissions Violation"


def replicas_of(servers: str) -> int:
    """On how many servers to keep what is kept, where these are named."""
    return THREE if len(servers.split(",")) >= THREE else 1


async def examine(connection: Connection, owner: str) -> None:
    """Raises Refused with what has to be done where the cluster with the claim `owner` cannot live there."""
    version = tuple(map(int, re.findall(r"\d+", connection.server_version)[:2]))
    if version < LEAST_VERSION:
        raise Refused(
            f"NATS at {connection.server} is of version {connection.server_version or 'unknown'}; Motes needs"
            f" {'.'.join(map(str, LEAST_VERSION))} or later"
        )
    if connection.payload_limit_bytes < LEAST_PAYLOAD_BYTES:
        raise Refused(
            f"NATS at {connection.server} carries messages of {connection.payload_limit_bytes} bytes; Motes needs"
            f" {LEAST_PAYLOAD_BYTES} (max_payload in its configuration, and nsc edit account MOTES --payload -1)"
        )
    _check_limits(connection, await _ask(connection, "INFO", {}))
    claimed = await claim(connection)
    if claimed not in ("", owner):
        raise Refused(
            f"another Motes cluster lives in this account ({claimed[:16]} there, {owner[:16]} here); give each an"
            " account of its own: nsc add account NAME"
        )
    found = set((await _ask(connection, "STREAM.NAMES", {})).get("streams") or ())
    if strange := sorted(found - stream_names()):
        raise Refused(
            f"the account holds streams of somebody else's ({', '.join(strange)[:200]}); give Motes one of its own, for"
            " it uses every subject: nsc add account MOTES"
        )


def _check_limits(connection: Connection, told: dict[str, Any]) -> None:
    replicas = replicas_of(connection.server)
    tier = (told.get("tiers") or {}).get(f"R{replicas}")
    limits, needed_bytes = (told, most_bytes() * replicas) if tier is None else (tier, most_bytes())
    storage, streams = limits["limits"]["max_storage"], limits["limits"]["max_streams"]
    if 0 <= storage < needed_bytes:
        raise Refused(
            f"JetStream lets the account keep {format_bytes(storage)}; Motes sets {format_bytes(needed_bytes)} aside,"
            " though little of it is taken before it is needed (nsc edit account MOTES --js-disk-storage"
            f" {-(-needed_bytes // 2**30)}G)"
        )
    if 0 <= streams < len(stream_names()):
        raise Refused(
            f"JetStream lets the account have {streams} streams; Motes needs {len(stream_names())} (nsc edit account"
            " MOTES --js-streams -1)"
        )


async def claim(connection: Connection) -> str:
    """Whose cluster lives in the account; empty: nobody's. Raises Unavailable and Refused."""
    found = await _ask(connection, "STREAM.MSG.GET.KV_cluster", {"last_by_subj": f"$KV.cluster.{CLAIM}"})
    return base64.b64decode(found.get("message", {}).get("data", "")).decode(errors="replace")


async def keys(connection: Connection, bucket: str) -> int:
    """How many keys a bucket has. Raises Unavailable and Refused."""
    assert bucket in BUCKETS
    found = await _ask(connection, f"STREAM.INFO.KV_{bucket}", {})
    return int(found.get("state", {}).get("messages", 0))


async def check_alone(connection: Connection) -> None:
    """Raises Refused where a controller works in this account already, with the keys of this one's home."""
    try:
        await connection.request(subjects.keeper(KEEPER, "services"), b"\xc0", _ALIVE_TIMEOUT_S)
    except (Unavailable, TimedOut):
        return
    raise Refused(
        "this cluster's keeper runs already, on another machine (was this home copied?); end one of the two: motes down"
    )


async def check_system(system: Connection, account: str) -> None:
    """Raises Refused unless this user may do in the system account what the keeper does there, with what it may not.

    `account` is the cluster's public key, as NATS writes it. Nothing is changed.
    """
    hears = (f"{system.inbox}.>", notices.connects(account), notices.disconnects(account))
    says = (notices.LIST, notices.kick("*"))
    unheard = [subject for subject in hears if await _is_refused(system, subject, hear=True)]
    unsaid = [subject for subject in says if await _is_refused(system, subject, hear=False)]
    if unheard or unsaid:
        unheard = [subject.replace(system.inbox, subjects.inbox(system.user)) for subject in unheard]
        raise Refused(
            f"the user of --system-creds lacks permissions in NATS at {system.server}, without which the keeper cannot"
            " see who comes and goes and end whom it removes: nsc edit user --account SYS --name NAME"
            + "".join(f" --allow-sub '{each}'" for each in unheard)
            + "".join(f" --allow-pub '{each}'" for each in unsaid)
            + "; nsc generate creds --account SYS --name NAME > FILE"
        )
    try:
        # A list of its own connections any account gets. There is no connection 0, which only the system account hears.
        server, _ = notices.listed(await system.request(notices.LIST, notices.question(account, 1, 0), _TIMEOUT_S))
        await system.request(notices.kick(server), b'{"cid":0}', _TIMEOUT_S)
    except (MotesError, ValueError) as error:
        raise Refused(
            f"--system-creds is no user of the system account of NATS at {system.server}: {error} (make one:"
            " nsc add user --account SYS NAME; nsc generate creds --account SYS --name NAME)"
        ) from None


async def _is_refused(system: Connection, subject: str, hear: bool) -> bool:
    system.refused = ""
    if hear:
        (await system.subscribe(subject, lambda message: None)).unsubscribe()
    else:
        # To no server, so that none does anything.
        system.publish(subject.replace("*", "NONE"), b"")
    await system.flush()
    return _NOT_PERMITTED in system.refused


async def _ask(connection: Connection, what: str, question: dict[str, Any]) -> dict[str, Any]:
    """JetStream's answer; empty where it says that there is no such thing. Raises Unavailable and Refused."""
    try:
        answer = json.loads(
            await connection.request(f"$JS.API.{what}", json.dumps(question).encode(), _TIMEOUT_S),
        )
    except Unavailable:
        if not connection.connected:
            raise
        raise Refused(
            f"NATS at {connection.server} has no JetStream (jetstream {{ store_dir: ... }} in its configuration)"
        ) from None
    except TimedOut:
        raise Unavailable(
            f"JetStream at {connection.server} does not answer: its servers may still be agreeing on which of them"
            " leads; try again"
        ) from None
    if (error := answer.get("error")) is None:
        return dict(answer)
    if error.get("code") == _NOT_FOUND:
        return {}
    raise Refused(
        f"JetStream at {connection.server} refuses the account: {error.get('description')} (nsc edit account MOTES"
        " --js-enable 0)"
    )
