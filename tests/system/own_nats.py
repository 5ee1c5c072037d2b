"""A NATS that the user runs: an operator, its accounts, TLS of an authority of its own; one server, or a cluster."""

from __future__ import annotations

import asyncio
import base64
import datetime
import hashlib
import ipaddress
import json
import re
import signal
import subprocess
import time
from pathlib import Path
from typing import Any, Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from motes.bus import server
from motes.bus.connection import Connection
from motes.controller.door import UPDATE
from motes.grants import jwt, roles
from motes.grants.keys import Key, Nkey
from motes.model.certificate import authorities
from ports import free_port
from system.running import RunningCluster

START_TIMEOUT_S = 30.0
LEADER = re.compile("new (JetStream cluster )?metadata leader")
EVERYTHING = -1
ENOUGH = {"disk_storage": EVERYTHING, "mem_storage": EVERYTHING, "streams": EVERYTHING, "consumer": EVERYTHING}
JETSTREAM = {"max_file_store": 2**40, "max_memory_store": 2**26}
APP = """
import os
from motes import function

@function
def where() -> str:
    return os.environ["HOME"]

@function
def double(number: int) -> int:
    return 2 * number
"""


class Account:
    """An account of the user's, as nsc makes it, with a key that signs for it."""

    def __init__(self, name: str, jetstream: dict[str, int] = ENOUGH) -> None:
        self.name = name
        self.key, self.signing = Key.generate(), Key.generate()
        self.jetstream = jetstream
        self.listed = [self.signing]
        """The signing keys in its JWT."""
        self.revoked: dict[bytes, int] = {}

    @property
    def id(self) -> str:
        return self.key.nkey(Nkey.ACCOUNT)

    def file(self) -> str:
        """What `motes up --creds` takes, as nsc prints it."""
        return f'{self.signing.nkey_seed(Nkey.ACCOUNT)}\n{self.signing.nkey(Nkey.ACCOUNT)}\n\n"{self.id}"\n'

    def user(self, name: str = "admin") -> str:
        """A `.creds` file of a user who may do everything."""
        return jwt.creds_text(jwt.credentials(self.key, roles.KEEPER._replace(user=name)))

    def token(self, operator: Key) -> str:
        token = jwt.account_token(operator, self.key, self.name, jetstream=False, revoked=self.revoked)
        claims = json.loads(base64.urlsafe_b64decode(token.split(".")[1] + "=="))
        claims["nats"]["signing_keys"] = [key.nkey(Nkey.ACCOUNT) for key in self.listed]
        claims["nats"]["limits"] |= self.jetstream
        return _signed(claims, operator)


def _signed(claims: dict[str, Any], key: Key) -> str:
    claims.pop("jti")
    claims["jti"] = base64.b32encode(hashlib.sha256(json.dumps(claims).encode()).digest()).decode().rstrip("=")
    head, body = ({"typ": "JWT", "alg": "ed25519-nkey"}, claims)
    unsigned = ".".join(_url64(json.dumps(each).encode()) for each in (head, body))
    return f"{unsigned}.{_url64(key.sign_bytes(unsigned.encode()))}"


def _url64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


class OwnNats:
    """Servers on the loopback, each of which knows the accounts and shows a certificate of the authority.

    They run while it is a context.
    """

    def __init__(
        self, folder: Path, *accounts: Account, servers: int = 1, tls: bool = True, websocket: int = 0, **more: Any
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.operator, self.system = Key.generate(), Account("SYS", {})
        self.accounts = accounts
        self.authority = folder / "ca.pem"
        self.ports = [free_port() for _ in range(servers)]
        self._routes = [free_port() for _ in range(servers)] if servers > 1 else []
        self._tls = _certificates(folder, self.authority) if tls else None
        self.websocket = websocket
        """The port for it; 0: there is none."""
        self._more = more
        self.processes: list[subprocess.Popen[bytes] | None] = [None] * servers

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def url(self) -> str:
        return ",".join(f"{'tls' if self._tls else 'nats'}://127.0.0.1:{port}" for port in self.ports)

    def options(self, account: Account) -> list[str]:
        """Of `motes up`, to live there."""
        file = self.folder / f"{account.name}.nk"
        file.write_text(account.file())
        ca = ["--nats-ca", str(self.authority)] if self._tls else []
        return ["--nats", self.url, "--creds", str(file), *ca]

    def system_options(self) -> list[str]:
        """Of `motes up`, to be told there who comes and goes."""
        file = self.folder / "system.creds"
        file.write_text(self.system.user("a user with a name that is none here"))
        return ["--system-creds", str(file)]

    def start(self) -> None:
        for place in range(len(self.ports)):
            self.start_one(place)
        deadline = time.monotonic() + START_TIMEOUT_S
        # Of several, each answers for JetStream when it knows whom they have agreed on as their leader.
        while len(self.ports) > 1 and not all(LEADER.search(log) for log in self.logs()):
            assert time.monotonic() < deadline, self.logs()
            time.sleep(0.05)

    def logs(self) -> list[str]:
        return [file.read_text() for file in self.folder.glob("*.log")]

    def start_one(self, place: int) -> None:
        config = self._write_config(place)
        ports = self.folder / f"ports{place}"
        ports.mkdir(exist_ok=True)
        with (self.folder / f"{place}.log").open("ab") as log:
            command = [str(server.find_binary().path), "--config", str(config)]
            process = subprocess.Popen(command, stdout=log, stderr=log)
        self.processes[place] = process
        deadline = time.monotonic() + START_TIMEOUT_S
        while not (ports / f"nats-server_{process.pid}.ports").exists():
            assert process.poll() is None and time.monotonic() < deadline, self.logs()
            time.sleep(0.005)

    def push(self, account: Account) -> None:
        """Tell the servers what the account is now, as `nsc push` does."""

        async def tell() -> bytes:
            user = jwt.credentials(self.system.key, roles.SYSTEM)
            known = authorities(self.authority.read_text()) if self._tls else b""
            connection = await Connection.open(self.url, user, certificate=known)
            try:
                return await connection.request(UPDATE, account.token(self.operator).encode(), START_TIMEOUT_S)
            finally:
                await connection.close()

        assert b"error" not in asyncio.run(tell())

    def stop_one(self, place: int, number: signal.Signals = signal.SIGTERM) -> None:
        process, self.processes[place] = self.processes[place], None
        if process is not None:
            process.send_signal(number)
            process.wait(START_TIMEOUT_S)

    def stop(self) -> None:
        for place in range(len(self.processes)):
            self.stop_one(place)

    def _write_config(self, place: int) -> Path:
        known = (self.system, *self.accounts)
        config: dict[str, Any] = {
            "server_name": f"own{place}",
            "host": "127.0.0.1",
            "port": self.ports[place],
            "ports_file_dir": str(self.folder / f"ports{place}"),
            "operator": jwt.operator_token(self.operator, self.system.key),
            "system_account": self.system.id,
            "resolver": {"type": "full", "dir": str(self.folder / f"accounts{place}")},
            "resolver_preload": {each.id: each.token(self.operator) for each in known},
            "jetstream": {**JETSTREAM, "store_dir": str(self.folder / f"store{place}")},
            **self._more,
        }
        if self._tls is not None:
            config["tls"] = self._tls
        if self.websocket:
            config["websocket"] = {"host": "127.0.0.1", "port": self.websocket, "tls": self._tls}
        if self._routes:
            routes = [f"nats://127.0.0.1:{port}" for port in self._routes]
            own = {"name": "own", "host": "127.0.0.1", "port": self._routes[place], "routes": routes}
            config["cluster"] = own
        file = self.folder / f"{place}.conf"
        file.write_text(json.dumps({name: value for name, value in config.items() if value is not None}))
        return file


class Lodger(RunningCluster):
    """A keeper whose cluster lives in such a NATS."""

    def live_in(self, nats: OwnNats, *more: str) -> None:
        """Start it, in the first account there."""
        self.motes("up", "--http", "127.0.0.1:0", *nats.options(nats.accounts[0]), *more)


def _certificates(folder: Path, authority: Path) -> dict[str, str]:
    """An authority, and a server's certificate that it signed."""
    ca_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    ca_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "the user's own authority")])
    names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    ca_id = x509.SubjectKeyIdentifier.from_public_key(ca_key.public_key())
    uses = dict.fromkeys(
        ("content_commitment", "key_encipherment", "data_encipherment", "key_agreement", "encipher_only"), False
    )
    signs = x509.KeyUsage(digital_signature=True, key_cert_sign=True, crl_sign=True, decipher_only=False, **uses)
    ca = (
        _unsigned(ca_name, ca_name, ca_key)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(signs, critical=True)
        .add_extension(ca_id, critical=False)
        .sign(ca_key, hashes.SHA256())
    )
    known = x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(ca_id)
    certificate = (
        _unsigned(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "nats")]), ca_name, key)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(known, critical=False)
        .sign(ca_key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    authority.write_bytes(ca.public_bytes(pem))
    files = {"cert_file": folder / "nats.crt", "key_file": folder / "nats.key"}
    files["cert_file"].write_bytes(certificate.public_bytes(pem))
    secret = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    files["key_file"].write_bytes(secret)
    return {name: str(file) for name, file in files.items()}


def _unsigned(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=30))
    )
