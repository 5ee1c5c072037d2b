"""A NATS that will not do is refused before anything is kept there, or here; each time with what to do."""

from __future__ import annotations

import asyncio
import shutil
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from motes.bus.connection import Connection
from motes.grants import jwt, roles
from motes.grants.keys import SigningKey
from motes.model import certificate
from ports import free_port
from system.own_nats import ENOUGH, Account, OwnNats
from system.running import RunningCluster

UNREACHED = "tls://127.0.0.1:1"


@pytest.fixture(scope="module")
def nats(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnNats]:
    accounts = (
        Account("MOTES"),
        Account("NONE", {}),
        Account("POOR", ENOUGH | {"disk_storage": 2**30}),
        Account("FEW", ENOUGH | {"streams": 3}),
        Account("UNLISTED"),
        Account("FULL"),
        Account("FREE"),
    )
    accounts[4].listed = []
    with OwnNats(tmp_path_factory.mktemp("nats"), *accounts) as made:
        yield made


@pytest.fixture
def keeper(tmp_path: Path) -> Iterator[RunningCluster]:
    """Not started yet."""
    with RunningCluster(tmp_path / "keeper") as cluster:
        yield cluster


def account(nats: OwnNats, name: str) -> Account:
    return next(each for each in nats.accounts if each.name == name)


def api(nats: OwnNats, of: Account, subject: str, question: bytes) -> bytes:
    """What JetStream answers a user of the account who may do everything."""

    async def ask() -> bytes:
        user = jwt.credentials(SigningKey(of.signing.secret, of.key.public), roles.KEEPER)
        known = certificate.authorities(nats.authority.read_text())
        connection = await Connection.open(nats.url, user, certificate=known)
        try:
            return await connection.request(f"$JS.API.{subject}", question, 10.0)
        finally:
            await connection.close()

    return asyncio.run(ask())


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("NONE", "refuses the account: JetStream not enabled for account (nsc edit account"),
        ("POOR", "--js-disk-storage 1"),
        ("FEW", "lets the account have 3 streams"),
        ("UNLISTED", "takes no user that the signing key"),
    ],
)
def test_an_account_that_will_not_do_is_refused_with_what_mends_it(
    nats: OwnNats, keeper: RunningCluster, name: str, said: str
) -> None:
    line = keeper.refusal(3, "up", *nats.options(account(nats, name)))
    assert said in line and "nsc" in line
    assert not keeper.home.foreign_file.exists() and not keeper.home.key("signing").exists()


def test_an_account_with_streams_of_others_is_refused(nats: OwnNats, keeper: RunningCluster) -> None:
    full = account(nats, "FULL")
    api(nats, full, "STREAM.CREATE.ORDERS", b'{"name":"ORDERS","subjects":["orders.>"],"storage":"file"}')
    assert "streams of somebody else's (ORDERS)" in keeper.refusal(3, "up", *nats.options(full))
    assert b"KV_cluster" not in api(nats, full, "STREAM.NAMES", b"{}")


def test_two_clusters_do_not_share_an_account_nor_two_keepers_one_cluster(
    nats: OwnNats, keeper: RunningCluster, tmp_path: Path
) -> None:
    options = nats.options(account(nats, "MOTES"))
    keeper.motes("up", "--http", "127.0.0.1:0", *options)
    second = RunningCluster(tmp_path / "second")
    assert "another Motes cluster lives in this account" in second.refusal(3, "up", *options)
    assert "runs already" in keeper.refusal(3, "up", *options)
    # Of a home that was copied both would be the keeper.
    shutil.copytree(keeper.folder, tmp_path / "copy", ignore=shutil.ignore_patterns("run"))
    copy = RunningCluster(tmp_path / "copy")
    assert "keeper runs already, on another machine" in copy.refusal(8, "up", "--http", "127.0.0.1:0")
    assert keeper.json("host", "ls")[0]["state"] == "up"
    keeper.down()
    # Nor does who comes later by another way find its claim gone.
    assert "another Motes cluster lives" in second.refusal(3, "up", *options)
    assert second.json("up", "--http", "127.0.0.1:0")["nats"].startswith("nats://127.0.0.1:")
    second.down()


@pytest.mark.parametrize(
    ("url", "code", "said"),
    [
        ("nats://nats.example", 3, "has no TLS: what is said, and code on its way, would be open to all"),
        ("nats://127.0.0.2.example:4222", 3, "has no TLS"),
        ("http://127.0.0.1", 3, "is no URL"),
        ("127.0.0.1", 3, "is no URL"),
        (f"{UNREACHED},nats://127.0.0.1:1", 3, "with TLS and without"),
        (UNREACHED, 8, "no connection to NATS at tls://127.0.0.1:1"),
    ],
)
def test_an_address_that_will_not_do_is_refused(
    nats: OwnNats, keeper: RunningCluster, url: str, code: int, said: str
) -> None:
    _, _, *rest = nats.options(account(nats, "MOTES"))
    assert said in keeper.refusal(code, "up", "--nats", url, *rest)


def test_a_server_for_which_no_known_authority_vouches_is_told_nothing(
    nats: OwnNats, keeper: RunningCluster, tmp_path: Path
) -> None:
    other = OwnNats(tmp_path / "other", account(nats, "MOTES"))
    words = nats.options(account(nats, "MOTES"))
    # The system's own authorities know nothing of it, and nor does another one; nor does it vouch for another name.
    for instead in ([], ["--nats-ca", str(other.authority)]):
        assert "no authority that is known here vouches for" in keeper.refusal(8, "up", *words[:4], *instead)
    elsewhere = nats.url.replace("127.0.0.1", "127.0.0.2")
    with _passing_on(elsewhere, nats.ports[0]):
        assert "no authority" in keeper.refusal(8, "up", "--nats", elsewhere, *words[2:])
    assert "holds 0 bytes" in keeper.refusal(3, "up", *words[:4], "--nats-ca", str(tmp_path / "other" / "nats.key"))


class _passing_on:
    """Passes one connection at another loopback address on to the server."""

    def __init__(self, url: str, port: int) -> None:
        host, _, own_port = url.rpartition("//")[2].partition(":")
        self._listener = socket.create_server((host, int(own_port)))
        self._port = port

    def __enter__(self) -> None:
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        near, _ = self._listener.accept()
        far = socket.create_connection(("127.0.0.1", self._port))
        threading.Thread(target=_pump, args=(far, near), daemon=True).start()
        _pump(near, far)

    def __exit__(self, *_: object) -> None:
        self._listener.close()


def _pump(source: socket.socket, target: socket.socket) -> None:
    with source, target:
        try:
            while data := source.recv(65536):
                target.sendall(data)
        except OSError:
            pass


def test_what_the_file_lacks_is_said_with_how_to_make_it(nats: OwnNats, keeper: RunningCluster, tmp_path: Path) -> None:
    motes = account(nats, "FREE")
    url = ["--nats", nats.url]
    assert "nsc generate nkey --account" in keeper.refusal(3, "up", *url)
    file = tmp_path / "creds"
    seed = motes.file().splitlines()[0]
    for text, said in (
        ("", "holds 0 seeds"),
        (motes.user(), "holds 0 seeds"),
        (motes.file() + account(nats, "FULL").file(), "holds 2 seeds"),
        (seed, "does not say for which one account"),
        (motes.file() + account(nats, "FULL").id, "does not say for which one account"),
        (motes.file().replace(seed[4:9], "AAAAA"), "a key that is none"),
    ):
        file.write_text(text)
        line = keeper.refusal(3, "up", *url, "--creds", str(file))
        assert said in line and "nsc generate nkey" in line, text
    assert "cannot be read" in keeper.refusal(3, "up", *url, "--creds", str(tmp_path / "none"))
    file.write_text(motes.user())
    assert "no user of the system account" in keeper.refusal(3, "up", *nats.options(motes), "--system-creds", str(file))


def test_a_user_of_the_system_account_with_too_few_rights_is_refused_with_those_it_lacks(
    nats: OwnNats, keeper: RunningCluster, tmp_path: Path
) -> None:
    motes, file = account(nats, "FREE"), tmp_path / "system.creds"
    needed = roles.Role(
        "watcher",
        publish=("$SYS.REQ.SERVER.PING.CONNZ", "$SYS.REQ.SERVER.*.KICK"),
        subscribe=("_INBOX.system.>", f"$SYS.ACCOUNT.{motes.id}.CONNECT", f"$SYS.ACCOUNT.{motes.id}.DISCONNECT"),
    )
    words = ("up", "--http", "127.0.0.1:0", *nats.options(motes), "--system-creds", str(file))
    for field, option in (("publish", "--allow-pub"), ("subscribe", "--allow-sub")):
        for lacking in getattr(needed, field):
            rest = tuple(each for each in getattr(needed, field) if each != lacking)
            file.write_text(jwt.creds_text(jwt.credentials(nats.system.key, needed._replace(**{field: rest}))))
            line = keeper.refusal(3, *words)
            assert "nsc edit user" in line and line.count("--allow") == 1 and f"{option} '{lacking}'" in line
    file.write_text(jwt.creds_text(jwt.credentials(nats.system.key, needed)))
    keeper.motes(*words)
    check = next(check for check in keeper.json("doctor")["checks"] if check["name"] == "NATS")
    assert check["works"] and "with a system user" in check["detail"]


def test_a_server_without_jetstream_or_with_small_messages_is_refused(keeper: RunningCluster, tmp_path: Path) -> None:
    for place, (more, said) in enumerate(
        (({"jetstream": None}, "has no JetStream"), ({"max_payload": 65536}, "carries messages of 65536 bytes"))
    ):
        made = OwnNats(tmp_path / f"nats{place}", Account("MOTES"), tls=False, **more)
        made.start()
        try:
            assert said in keeper.refusal(3, "up", *made.options(made.accounts[0]))
        finally:
            made.stop()


def test_a_server_of_an_old_version_is_refused(nats: OwnNats, keeper: RunningCluster) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=_be_old, args=(listener,), daemon=True).start()
        url = f"nats://127.0.0.1:{listener.getsockname()[1]}"
        words = ["--nats", url, *nats.options(account(nats, "MOTES"))[2:4]]
        assert "is of version 2.10.29; Motes needs 2.11 or later" in keeper.refusal(3, "up", *words)


def _be_old(listener: socket.socket) -> None:
    connection, _ = listener.accept()
    with connection, connection.makefile("rb") as lines:
        connection.sendall(b'INFO {"version":"2.10.29","max_payload":1048576,"nonce":"x","client_id":1}\r\n')
        for line in lines:
            if line == b"PING\r\n":
                connection.sendall(b"PONG\r\n")


def test_what_makes_no_sense_together_is_refused(nats: OwnNats, keeper: RunningCluster, tmp_path: Path) -> None:
    options = nats.options(account(nats, "MOTES"))
    for more in ("--listen", "--listen-ws"):
        assert "reach the NATS itself" in keeper.refusal(3, "up", *options, more, "127.0.0.1")
    assert "go with --nats" in keeper.run("up", "--creds", options[3]).stderr
    plain = ["--nats", f"nats://127.0.0.1:{free_port()}", *options[2:]]
    assert "--nats-ca is for servers with TLS" in keeper.refusal(3, "up", *plain)
    # A home that has a cluster, with a NATS of its own, keeps that.
    own = RunningCluster(tmp_path / "own")
    own.up()
    own.down()
    assert "has a cluster with a NATS of its own" in own.refusal(3, "up", *options)
    assert own.motes("up", "--http", "127.0.0.1:0", "--nats", "off")
    own.down()
