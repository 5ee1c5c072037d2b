"""Where a cluster keeps its state on this machine: one folder, readable by its owner only. Stdlib only.

keys/{operator,system,account,controller,owner}.seed    keys/{controller,owner}.pub    users/<user>.json    hosts.json
keys/tls.{key,crt}, listen.json (others may join)       keeper.json (this machine has joined)       paused
foreign.json, keys/signing.seed (the cluster lives in a NATS that somebody else runs)
keys/accept.{key,crt}, arriving/ (the keeper moves here)     moved.json (it moved from here)
client.json and keeper.json: no machine's home but a client's (motes.contexts), with keys/ and users/ only
nats/{nats.conf,port,ports/,jetstream/}                 hosts/<name>/        logs/<process>.log
run/{lock,arriving.lock,cluster.json,supervisor.sock,hosts/<name>/ingress.sock}
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from motes import contexts, files
from motes.contexts import HOME_VARIABLE
from motes.errors import NotFound, Refused, Unavailable, Untrusted
from motes.model.credentials import Credentials
from motes.model.names import OWN_USER

MOST_KEPT = 64
"""Addresses of a keeper that has moved, the newest first."""
ANY_ADDRESS = ("0.0.0.0", "::", "[::]")
"""What stands for every address of a machine."""
HOW_TO_START = (
    "start one with: motes up"
    if sys.platform.startswith("linux")
    else f"hosts run on Linux: start one there, and set {HOME_VARIABLE} to its home"
)


class Listen(NamedTuple):
    """Where the keeper's nats-server is to be reached from other machines."""

    host: str
    port: int


class Keeper(NamedTuple):
    """How a cluster is reached: its servers with commas, and by what their certificate is known."""

    servers: str
    certificate: bytes


class Foreign(NamedTuple):
    """A NATS that the keeper uses and does not run: the same of it, and the public key of the account that is ours."""

    servers: str
    certificate: bytes
    account: str
    has_moved: bool
    """Whether machines may have joined that know other servers of it."""


def servers_of(addresses: Iterable[str]) -> str:
    """As a connection takes them: `HOST:PORT` is reached over TLS, `wss://HOST:PORT` over a WebSocket."""
    return ",".join(each if "//" in each else f"tls://{each}" for each in addresses)


def addresses_in(servers: str) -> tuple[str, ...]:
    """The other way; without TLS there are none for others."""
    return tuple(each.removeprefix("tls://") for each in servers.split(","))


class Home:
    """Every path of one home, and the small JSON files in it. Without `path` it is that of the context in force."""

    def __init__(self, path: str | os.PathLike[str] | None = None) -> None:
        self.path = Path(path or contexts.home_path()).absolute()
        self.keys = self.path / "keys"
        self.users = self.path / "users"
        self.nats = self.path / "nats"
        self.nats_config = self.nats / "nats.conf"
        self.nats_port = self.nats / "port"
        self.nats_ports = self.nats / "ports"
        self.nats_accounts = self.nats / "accounts"
        self.jetstream = self.nats / "jetstream"
        self.hosts_file = self.path / "hosts.json"
        self.hosts = self.path / "hosts"
        self.run = self.path / "run"
        self.lock = self.run / "lock"
        self.cluster_file = self.run / "cluster.json"
        self.supervisor_socket = self.run / "supervisor.sock"
        self.logs = self.path / "logs"
        self.layers = self.path / "layers"
        self.listen_file = self.path / "listen.json"
        self.paused_file = self.path / "paused"
        """There while this machine's owner wants it for himself."""
        self.keeper_file = self.path / "keeper.json"
        """There only where this machine has joined another's cluster."""
        self.client_file = self.path / "client.json"
        """There only where this is no machine's home but a context (motes.contexts): a way to others' cluster."""
        self.foreign_file = self.path / "foreign.json"
        """There only where the keeper starts no nats-server of its own."""
        self.tls_key, self.tls_certificate = self.keys / "tls.key", self.keys / "tls.crt"
        self.accept_key, self.accept_certificate = self.keys / "accept.key", self.keys / "accept.crt"
        self.arriving = self.path / "arriving"
        """There while a keeper moves here: a home of its own, which becomes this one."""
        self.arriving_lock = self.run / "arriving.lock"
        self.moved_file = self.path / "moved.json"
        """There where the keeper moved from here, while this machine forwards to it."""

    def key(self, name: str) -> Path:
        return self.keys / f"{name}.seed"

    def public_key(self, name: str) -> Path:
        """The key with which a signature of that key is checked, in hexadecimal."""
        return self.keys / f"{name}.pub"

    def user(self, user: str) -> Path:
        return self.users / f"{user}.json"

    def host(self, name: str) -> Path:
        """The state of one agent."""
        return self.hosts / name

    def host_run(self, name: str) -> Path:
        """The sockets of one agent."""
        return self.run / "hosts" / name

    def log(self, process: str) -> Path:
        return self.logs / f"{process}.log"

    def create(self) -> None:
        """Make the folders that are missing, for the owner only. Raises Unavailable."""
        folders = (self.path, self.keys, self.users, self.nats, self.nats_ports, self.nats_accounts, self.jetstream)
        with self.writing():
            for folder in (*folders, self.hosts, self.run, self.run / "hosts", self.logs):
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            # Nobody else may look in, whatever the umask or an earlier owner said.
            self.path.chmod(0o700)

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """Turn the system's refusal to write in the home into one clear error. Raises Unavailable."""
        try:
            yield
        except OSError as error:
            raise Unavailable(self._why_not(error)) from error

    def _why_not(self, error: OSError) -> str:
        where = f"the home {self.path}"
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            return f"{where} is on a full disk; free some space, or set {HOME_VARIABLE} to another folder"
        if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
            return f"{where} cannot be written to; set {HOME_VARIABLE} to a folder of your own"
        if error.errno in (errno.ENOTDIR, errno.EEXIST):
            return f"{where} is not a folder; set {HOME_VARIABLE} to another place"
        return f"{where} cannot be used ({error.strerror or error}); set {HOME_VARIABLE} to another folder"

    def cluster(self) -> dict[str, Any]:
        """The cluster that runs here: `{"http", "nats", "home", "pid"}`. Raises Unavailable when none does.

        In a client's home, the one that it leads to, whether that runs or not; nobody knows its `http` here.
        """
        if self.client_file.exists():
            return {"http": "", "nats": self.keeper().servers, "home": str(self.path), "pid": 0}
        try:
            found = json.loads(self.cluster_file.read_text())
        except (OSError, ValueError):
            found = None
        if not isinstance(found, dict) or not _is_alive(found.get("pid")):
            raise Unavailable(f"no cluster runs in {self.path}; {HOW_TO_START}")
        return found

    def listen(self) -> Listen | None:
        """Where other machines reach this keeper; None: they do not. Raises Unavailable."""
        found = self._read_json(self.listen_file)
        with _whole(self.listen_file):
            return None if found is None else Listen(str(found["host"]), int(found["port"]))

    def set_listen(self, **what: object) -> None:
        """Change some of it; what is None is no more. Raises Unavailable."""
        found = {**(self._read_json(self.listen_file) or {}), **what}
        self.write_json(self.listen_file, {name: value for name, value in found.items() if value is not None})

    def listen_web(self) -> Listen | None:
        """The same over WebSocket. Raises Unavailable."""
        found = (self._read_json(self.listen_file) or {}).get("web")
        with _whole(self.listen_file):
            return None if found is None else Listen(str(found["host"]), int(found["port"]))

    def moved_to(self) -> tuple[str, ...]:
        """Where this keeper is reached since it moved there; empty where it always was. Raises Unavailable."""
        if (foreign := self.foreign()) is not None:
            return addresses_in(foreign.servers) if foreign.has_moved and foreign.certificate else ()
        return tuple((self._read_json(self.listen_file) or {}).get("addresses", ()))

    def keeper(self) -> Keeper:
        """How this home's cluster is reached. Raises Unavailable."""
        found = self._read_json(self.keeper_file)
        if found is not None:
            with _whole(self.keeper_file):
                return Keeper(servers_of(found["addresses"]), bytes.fromhex(found["certificate"]))
        foreign = self.foreign()
        return Keeper(self.nats_url(), b"") if foreign is None else Keeper(foreign.servers, foreign.certificate)

    def foreign(self) -> Foreign | None:
        """The NATS that this keeper uses and does not run; None where it runs its own. Raises Unavailable."""
        found = self._read_json(self.foreign_file)
        if found is None:
            return None
        with _whole(self.foreign_file):
            certificate, has_moved = bytes.fromhex(found["certificate"]), bool(found.get("has_moved"))
            return Foreign(found["servers"], certificate, found["account"], has_moved)

    def followed(self) -> int:
        """The number of the newest word of where the keeper is that was believed here. Raises Unavailable."""
        return int((self._read_json(self.keeper_file) or {}).get("serial", 0))

    def follow(self, addresses: Sequence[str], certificate: bytes, serial: int) -> None:
        """The keeper, which is on another machine, is there from now on; older words change nothing.

        Raises Unavailable, and Untrusted for a keeper with another certificate than the one known: it takes it along.
        """
        with contextlib.nullcontext() if self.client_file.exists() else self.deciding():
            found = self._read_json(self.keeper_file)
            if found is None or not _is_own(self.keeper_file):
                return  # The keeper is here; or whose home this is could not read what root writes.
            if certificate.hex() != found.get("certificate"):
                raise Untrusted("a keeper is named whose certificate is another than that of this cluster")
            if serial > found.get("serial", 0):
                known = [*addresses, *(each for each in found.get("addresses", ()) if each not in addresses)]
                told = {"addresses": known[:MOST_KEPT], "certificate": certificate.hex(), "serial": serial}
                with self.writing():
                    files.replace(self.keeper_file, json.dumps(told, indent=1) + "\n", synced=True)

    def deciding(self) -> contextlib.AbstractContextManager[None]:
        """Alone with keeper.json and hosts.json, which several programs read in order to change them; as `alone_in`."""
        return self.alone_in(self.path)

    @contextlib.contextmanager
    def alone_in(self, folder: Path) -> Iterator[None]:
        """While nobody else is who asks for it in this way.

        Not within itself: that would wait for ever. Raises Unavailable.
        """
        import fcntl  # Not there on every system; nor are keepers and hosts.

        with self.writing():
            descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def reach(self, user: str) -> Keeper:
        """How `user` of this home reaches the cluster. Raises Unavailable, and Refused where this machine has joined.

        Unless the keeper moved away from here: its owner's key and credentials stay.
        """
        if not self.user(user).exists():
            self.refuse_joined("give this command there")
        return self.keeper()

    def own_user(self) -> str:
        """As whom they do. Raises Unavailable."""
        found = self._read_json(self.client_file)
        return OWN_USER if found is None else str(found.get("user"))

    def refuse_client(self) -> None:
        """Raises Refused where this home only leads to a cluster on other machines."""
        if self.client_file.exists():
            keeper = self.keeper().servers.partition(",")[0].rpartition("//")[2]
            raise Refused(
                f"the context in force, {self.path.name!r}, is the cluster of the keeper at {keeper}: give this command"
                f" there, or for this machine: motes --context {contexts.LOCAL} ..."
            )

    def refuse_joined(self, instead: str) -> None:
        """Raises Refused where this machine has joined a cluster: it has hosts only."""
        self.refuse_client()
        if self.keeper_file.exists():
            keeper = self.keeper().servers.partition(",")[0].rpartition("//")[2]
            raise Refused(f"this machine has joined the cluster of the keeper at {keeper}; {instead}")

    def _read_json(self, path: Path) -> dict[str, Any] | None:
        """None when there is no such file."""
        try:
            found = json.loads(path.read_text())
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise Unavailable(f"{path} cannot be read: {error}; mend or delete it") from error
        return found if isinstance(found, dict) else {}

    def nats_url(self) -> str:
        """Where this home's nats-server listens, known once it has started. Raises Unavailable and Refused."""
        self.refuse_joined("give this command there")
        listen = self.listen()
        host = "127.0.0.1" if listen is None or listen.host in ANY_ADDRESS else listen.host
        try:
            return f"nats://{host}:{int(self.nats_port.read_text())}"
        except (OSError, ValueError) as error:
            raise Unavailable(f"no cluster has run in {self.path} yet; {HOW_TO_START}") from error

    def credentials(self, user: str) -> Credentials:
        """What `user` shows to NATS. Raises NotFound."""
        try:
            found = json.loads(self.user(user).read_text())
            return Credentials(found["user"], found["jwt"], found["seed"])
        except (OSError, ValueError, KeyError) as error:
            raise NotFound(f"{self.user(user)} holds no credentials of a user {user!r}") from error

    def save_credentials(self, credentials: Credentials) -> None:
        self.write_json(self.user(credentials.user), credentials._asdict())

    def offers(self) -> dict[str, dict[str, Any]]:
        """The hosts that `up` starts here: name -> Offer as plain data. Raises Unavailable when it cannot be read."""
        return self._read_json(self.hosts_file) or {}

    @contextlib.contextmanager
    def changing_offers(self) -> Iterator[dict[str, dict[str, Any]]]:
        """The same, to be changed while no other command does; kept when this ends without an error."""
        with self.deciding():
            offers = self.offers()
            yield offers
            self.write_json(self.hosts_file, offers)

    def write_json(self, path: Path, value: object) -> None:
        """Replace a file as a whole, readable by the owner only. Raises Unavailable."""
        self.write_text(path, json.dumps(value, indent=1) + "\n")

    def decide(self, path: Path, value: object) -> None:
        """Write a file on which much depends: it is on the disk when this returns. Raises Unavailable."""
        with self.writing():
            files.replace(path, json.dumps(value, indent=1) + "\n", synced=True)
            sync(path.parent)

    def write_text(self, path: Path, text: str) -> None:
        """The same for text."""
        with self.writing():
            files.replace(path, text)


@contextlib.contextmanager
def _whole(path: Path) -> Iterator[None]:
    """Take what is missing in a file, or is something else, for one clear error. Raises Unavailable."""
    try:
        yield
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise Unavailable(f"{path} is not as it was written ({error!r}); mend or delete it") from error


def sync(path: Path) -> None:
    """Have the disk hold a file, or which files a folder has, before this returns."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _is_own(path: Path) -> bool:
    """Whether the file belongs to who runs this, where the system tells."""
    return not hasattr(os, "geteuid") or path.stat().st_uid == os.geteuid()


def _is_alive(pid: object) -> bool:
    if not isinstance(pid, int) or pid <= 0:
        return False
    if not sys.platform.startswith("linux"):
        # The cluster is on another system, as in a container: its pid means nothing here, the connection will tell.
        # And asking about a process the POSIX way would end it on Windows.
        return True
    try:
        os.kill(pid, 0)
        # Where nobody collects orphans, as in many containers, a dead process stays listed.
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except ProcessLookupError:
        return False
    except OSError:
        return True
