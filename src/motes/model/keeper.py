"""What hosts and callers ask the controller, by verb, as MessagePack.

An answer is an `Answer`: either `value`, encoded as the verb says, or `error` as `MotesError.to_wire` gives it.
"""

from __future__ import annotations

from typing import Annotated, Any, TypeVar

import msgspec

from motes.errors import MotesError, Unavailable, from_wire
from motes.model.bounds import UNREADABLE, Count, Number
from motes.model.release import Function, Manifest, Packages, Place, Signed
from motes.model.wire import WIRE

CHUNK_BYTES = 256 * 2**10
"""A bundle travels in chunks of this size."""
MOST_CHUNKS = 2048
"""Of one bundle, or of one layer of packages: 512 MiB, compressed."""


class Answer(msgspec.Struct, frozen=True):
    """What comes back for every verb."""

    value: msgspec.Raw = msgspec.Raw(b"\xc0")
    error: dict[str, Any] | None = None


class AskRoutes(msgspec.Struct, frozen=True):
    """`routes` and `activate`: an app's Routes; `activate` also sees that a host holds a lease for the workload."""

    app: str
    workload: str = ""


class PutChunk(msgspec.Struct, frozen=True):
    """`bundle-put`: one chunk of `count`; answers True once the bundle is whole and its hash holds."""

    bundle: str
    index: int
    count: int
    data: bytes


class AskChunks(msgspec.Struct, frozen=True):
    """`bundle-has`: what of a bundle arrived: an Arrived."""

    bundle: str


class Arrived(msgspec.Struct, frozen=True):
    """Whether a bundle is there, whole; if not, the indexes of the chunks that are."""

    whole: bool
    chunks: list[int] = []


class GetChunk(msgspec.Struct, frozen=True):
    """`bundle-get`: the chunk as bytes, with how many there are: `[count, bytes]`."""

    bundle: str
    index: int


class Fetching(msgspec.Struct, frozen=True):
    """`fetching` lists them: a host that gets an archive, how much of it so far, and how much that is in all."""

    host: str
    archive: str
    done_bytes: int
    total_bytes: int


class Inspect(msgspec.Struct, frozen=True):
    """`inspect`, signed by the owner: load the bundle in a space on some host, and say what it holds: a Manifest.

    With `command` it is a daemon's: it is started, must listen on `port` (or live on for a second), and ends again.
    """

    app: str
    bundle: str
    entries: tuple[str, ...] = ()
    """`file.py:callable` for plain callables without the decorator."""
    command: tuple[str, ...] = ()
    port: int | None = None
    memory_bytes: int = 256 * 2**20
    packages: Packages = Packages()
    place: Place = ()
    """Only a host there may see the app."""


class Deploy(msgspec.Struct, frozen=True):
    """`deploy`: a Release that the owner signed; answers a Deployed once it is stored."""

    release: Signed


class Deployed(msgspec.Struct, frozen=True):
    """What `deploy` did."""

    app: str
    release: str
    changed: bool
    """False when the very same release was deployed already."""


class Remove(msgspec.Struct, frozen=True):
    """`remove`: a Removal that the owner signed; answers True."""

    removal: Signed


class AppSummary(msgspec.Struct, frozen=True):
    """One deployed app, for `motes apps`."""

    app: str
    release: str
    deployed_at: float
    """Unix time, seconds."""
    manifest: Manifest
    instances: int
    failing: dict[str, str]
    """By workload, why it fails where it fails."""
    nowhere: dict[str, str] = {}
    """By workload of which something must always run, why no host can take it."""


class Tool(msgspec.Struct, frozen=True):
    """`tools` lists them: a function that its owner offers to agents."""

    app: str
    name: str
    description: str
    parameters: dict[str, Any]
    """JSON Schema of the body."""
    parameter_names: tuple[str, ...]


class Service(msgspec.Struct, frozen=True):
    """`services` lists them: an app that has functions."""

    app: str
    release: str
    functions: list[Function]


class NameHosts(msgspec.Struct, frozen=True):
    """`host-name`: put hosts in a set, or take them out; answers True."""

    set: str
    hosts: list[str]
    is_in: bool = True


class AskInvite(msgspec.Struct, frozen=True):
    """`invite`: let machines join; answers an Invited."""

    expires_s: float
    uses: int = 1


class Invited(msgspec.Struct, frozen=True):
    """What an invite is made of but for where the keeper is; see motes.model.invite."""

    account: bytes
    secret: bytes
    issued_at: int
    expires_at: int
    signature: bytes
    issuer: bytes = b""
    """Who signed in the account's name; empty: the account itself."""


class AskJoin(msgspec.Struct, frozen=True):
    """`join`, by the bearer of an invite: admit a host with this name, whose NATS key is `public`; an Admitted."""

    name: str
    public: bytes
    version: str
    wire: int = WIRE


class Admitted(msgspec.Struct, frozen=True):
    """What a host needs beside its own key: its NATS token, and whom to believe."""

    token: str
    controller: bytes
    owners: Annotated[list[bytes], msgspec.Meta(min_length=1)]


class AskToken(msgspec.Struct, frozen=True):
    """`caller-admit`: a NATS token for the caller of that name who holds the secret of the key `public`; text."""

    name: str
    public: bytes


class KnownCaller(msgspec.Struct, frozen=True):
    """`callers` lists them: who has how many keys, and when the last was made, Unix time in seconds."""

    name: str
    keys: int
    last_at: int


class AskDrain(msgspec.Struct, frozen=True):
    """`drain`: a host shall take no new work, or take it again; answers True once that is stored."""

    host: str
    drained: bool


class AskLogs(msgspec.Struct, frozen=True):
    """`logs`: the last LogLines of an app, or of one workload."""

    app: str
    workload: str | None = None
    limit: int = 200


class LogLine(msgspec.Struct, frozen=True):
    """What a workload wrote in a short time."""

    at: Number
    """Unix time, seconds."""
    host: str
    app: str
    workload: str
    pid: Count
    text: str


T = TypeVar("T")


def encode_answer(value: object) -> bytes:
    return msgspec.msgpack.encode(Answer(msgspec.Raw(msgspec.msgpack.encode(value))))


def encode_error(error: MotesError) -> bytes:
    return msgspec.msgpack.encode(Answer(error=error.to_wire()))


def decode_answer(data: bytes, kind: type[T]) -> T:
    """The value in an answer. Raises the error in it, or Unavailable when `data` is no answer."""
    try:
        answer = msgspec.msgpack.decode(data, type=Answer)
        if answer.error is None:
            return msgspec.msgpack.decode(answer.value, type=kind)
    except UNREADABLE as error:
        raise Unavailable(f"the controller's answer cannot be read: {error}") from error
    raise from_wire(answer.error)
