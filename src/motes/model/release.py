"""What an owner deploys: workloads, gathered in a manifest, with a bundle of code: a release."""

from __future__ import annotations

import hashlib
from typing import Annotated, Any, Literal

import msgspec

from motes.model.bounds import Count, Number, Size
from motes.model.names import NAME
from motes.model.place import MOST_TERMS, TERM
from motes.model.platform import accepts, target

MIB = 2**20

PAYLOAD_LIMIT_BYTES = 8 * MIB
"""The most that one call's body or result may hold."""


MOST_CALLS = 100
"""Functions that one function may declare to call."""


Callee = Annotated[str, msgspec.Meta(pattern=rf"^{NAME}(\.{NAME})?\Z")]
"""`name` of the same app, or `app.name`."""


Place = Annotated[
    tuple[Annotated[str, msgspec.Meta(pattern=TERM, max_length=80)], ...], msgspec.Meta(max_length=MOST_TERMS)
]
"""Which hosts may run it (motes.model.place); empty: any."""
Spread = Literal["machines", "pack"]
"""Its hosts are of different machines where there are such, or the fullest that have room."""


def address_of(name: str, app: str) -> str:
    """`app.name` for a name that may leave out the app when it is `app`."""
    return name if "." in name else f"{app}.{name}"


class Scale(msgspec.Struct, frozen=True, array_like=True):
    """How many instances: at least `min`, at most `max`; `max` None is as many as the hosts' offers hold."""

    min: Count = 0
    max: Count | None = None


class Function(msgspec.Struct, frozen=True, tag="function", tag_field="kind"):
    """An input to an output, by name. `parameters` and `result` are JSON Schema."""

    name: str
    module: str
    qualname: str
    parameters: dict[str, Any] = {}
    """JSON Schema of the body: of the one parameter's value, of an object by name, or empty for none."""
    parameter_names: tuple[str, ...] = ()
    result: dict[str, Any] = {}
    memory_bytes: Size = 64 * MIB
    timeout_s: Number = 30.0
    scale: Scale = Scale()
    idle_s: Number = 10.0
    idempotent: bool = False
    reuse: Literal["any", "call", "caller"] = "any"
    """Whose calls one instance gets: everybody's, one call, or those of one caller (motes.model.caller)."""
    concurrency: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 1
    """How many calls one instance works on at a time."""
    description: Annotated[str, msgspec.Meta(max_length=4000)] = ""
    """Its docstring."""
    tool: bool = False
    """Whether agents may find it (motes.gateway.tools)."""
    streams: bool = False
    """A generator: it gives items one after the other, and `result` is the schema of one."""
    calls: Annotated[tuple[Callee, ...], msgspec.Meta(max_length=MOST_CALLS)] = ()
    """The functions that it may call: `name` in its own app, `app.name` in another."""
    place: Place = ()
    spread: Spread = "machines"

    def may_call(self, app: str) -> tuple[str, ...]:
        """The addresses of `calls`, of a function of this app."""
        return tuple(address_of(each, app) for each in self.calls)


class Daemon(msgspec.Struct, frozen=True, tag="daemon", tag_field="kind"):
    """An ordinary server process: a command, started in the app's folder, one instance."""

    name: str
    command: tuple[str, ...]
    port: int | None = None
    """The TCP port it listens on inside its space; None serves nobody."""
    memory_bytes: Size = 256 * MIB
    processes: Count = 64
    place: Place = ()
    spread: Spread = "machines"


Workload = Function | Daemon


class Manifest(msgspec.Struct, frozen=True):
    """What an app contains."""

    app: str
    workloads: tuple[Workload, ...]
    entries: tuple[str, ...] = ()
    """`file.py:callable` for functions without the decorator."""

    def workload(self, name: str) -> Workload | None:
        """The workload of that name, or None."""
        return next((each for each in self.workloads if each.name == name), None)


class Packages(msgspec.Struct, frozen=True):
    """What an app needs beside its own files."""

    python: str = ""
    """The versions of Python that it runs with, as in `>=3.12`; empty: any."""
    layers: dict[str, str] = {}
    """By target (motes.model.platform), the SHA-256 of the archive with the installed packages; empty: none."""

    def fits(self, python: str, platform: str) -> bool:
        """Whether a host with this Python, on this platform, can run the app."""
        if self.python and not accepts(self.python, python):
            return False
        return not self.layers or self.layer(python, platform) is not None

    def layer(self, python: str, platform: str) -> str | None:
        """The layer for such a host, or None."""
        kind = target(python, platform)
        return self.layers.get(kind) if kind else None


class Release(msgspec.Struct, frozen=True):
    """One immutable version of an app; `bundle` is the SHA-256 of its archive, in hexadecimal."""

    manifest: Manifest
    bundle: str
    created_at: float
    """Unix time, seconds."""
    packages: Packages = Packages()

    @property
    def app(self) -> str:
        return self.manifest.app

    @property
    def archives(self) -> set[str]:
        """The hashes of everything that must have been uploaded."""
        return {self.bundle, *self.packages.layers.values()}


class Removal(msgspec.Struct, frozen=True):
    """The owner's word that an app shall be gone, and with it every release that was made before."""

    app: str
    removed_at: float
    """Unix time, seconds."""


class Signed(msgspec.Struct, frozen=True, array_like=True):
    """Bytes with an Ed25519 signature over them and the public key (32 bytes) that made it."""

    payload: bytes
    signature: bytes
    signer: bytes


def is_hash(text: str) -> bool:
    """Whether `text` is a SHA-256 in hexadecimal, as a bundle's name is."""
    return len(text) == 64 and all(digit in "0123456789abcdef" for digit in text)


def release_id(signed: Signed) -> str:
    """The release's name: 12 hexadecimal digits of the SHA-256 of what the owner signed."""
    return hashlib.sha256(signed.payload).hexdigest()[:12]
