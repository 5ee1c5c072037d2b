"""Another machine joins by an invite, over TLS; here it is another home, which shares nothing with the keeper's."""

from __future__ import annotations

import asyncio
import json
import shutil
import signal
import socket
import subprocess
import threading
import time
from pathlib import Path

import msgspec
import pytest

from motes.bus.connection import Connection
from motes.bus.store import Store
from motes.controller.members import Promise
from motes.errors import Unavailable
from motes.grants import jwt, keys, roles
from motes.home import Home
from motes.model import invite as invites
from motes.supervisor import founding
from system.moving import killed_at
from system.running import DEADLINE_S, MOTES, Keeper, RunningCluster, wait_until

APP = """
import os
from motes import function

@function
def where() -> str:
    return os.environ["HOME"]
"""


def test_a_machine_joins_with_one_line_and_comes_back_after_both_were_stopped(tmp_path: Path) -> None:
    with Keeper(tmp_path / "keeper") as keeper, RunningCluster(tmp_path / "machine") as machine:
        keeper.listen()
        joined = machine.json("join", keeper.invite(), "--name", "b", "--lend", "cpus=1,memory=1GiB,spaces=7")
        assert joined["name"] == "b" and joined["address"] == f"127.0.0.1:{keeper.port}"
        (lends,) = (host["lends"] for host in keeper.json("host", "ls") if host["name"] == "b")
        assert (lends["cpus"], lends["spaces"]) == (1.0, 7)
        keeper.motes("host", "stop", "--name", "local")
        keeper.deploy("places", APP)
        assert keeper.motes("call", "places.where").startswith('"/tmp')
        assert {each["host"] for each in keeper.instances()} == {"b"}
        # Its secret key has never been anywhere else.
        secret = machine.home.key("host").read_text()
        everywhere = [path for path in keeper.folder.rglob("*") if path.is_file()]
        assert not [path for path in everywhere if secret.encode() in path.read_bytes()]
        machine.down()
        keeper.down()
        keeper.up()
        assert keeper.hosts() == {"b": "off"}
        machine.up()
        wait_until(lambda: keeper.hosts() == {"b": "up"}, "b is back")
        assert keeper.motes("call", "places.where").startswith('"/tmp')


def test_a_machine_that_has_joined_needs_no_port_of_its_own(keeper: Keeper, machine: RunningCluster) -> None:
    machine.motes("join", keeper.invite(), "--name", "laptop")
    machine.down()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert "lends to the cluster at" in machine.motes("up", "--http", f"127.0.0.1:{taken.getsockname()[1]}")


def test_an_invite_is_for_one_machine_unless_it_says_more(
    keeper: Keeper, machine: RunningCluster, tmp_path: Path
) -> None:
    line = keeper.invite()
    machine.motes("join", line, "--name", "first")
    other = RunningCluster(tmp_path / "other")
    assert "used up" in other.refusal(3, "join", line, "--name", "second")
    assert "already" in machine.refusal(3, "join", line, "--name", "first")
    two = keeper.invite("--uses", "2")
    for name in ("second", "third"):
        made = RunningCluster(tmp_path / name)
        made.motes("join", two, "--name", name)
        made.down()


def test_a_name_that_is_taken_is_refused_also_while_its_host_is_away(
    keeper: Keeper, machine: RunningCluster, tmp_path: Path
) -> None:
    machine.motes("join", keeper.invite(), "--name", "taken")
    machine.down()
    other = RunningCluster(tmp_path / "other")
    for name in ("taken", "local"):
        assert "another name" in other.refusal(3, "join", keeper.invite(), "--name", name)
    assert "cannot be a name" in other.refusal(3, "join", keeper.invite(), "--name", "no name")


def test_an_invite_that_is_over_or_altered_is_refused_with_the_reason(keeper: Keeper, machine: RunningCluster) -> None:
    line = keeper.invite("--expires", "1s")
    time.sleep(2.5)
    assert "expired" in machine.refusal(3, "join", line, "--name", "late")
    line = keeper.invite()
    for altered in (line[:-7], line[:40] + ("A" if line[40] != "A" else "B") + line[41:], "motes1-", "hello"):
        assert "invite" in machine.refusal(3, "join", altered, "--name", "x")
    assert not machine.home.keeper_file.exists()


def test_the_invite_of_another_cluster_and_one_that_was_never_made_are_refused(
    keeper: Keeper, machine: RunningCluster, tmp_path: Path
) -> None:
    ours = invites.parse(keeper.invite())
    with Keeper(tmp_path / "strange") as strange:
        strange.listen()
        theirs = invites.parse(strange.invite())
    elsewhere = theirs._replace(addresses=ours.addresses)
    assert "another cluster answers there" in machine.refusal(8, "join", elsewhere.line(), "--name", "x")
    # Whoever knows the certificate still needs a signature of the account.
    for forged in (
        elsewhere._replace(certificate=ours.certificate),
        ours._replace(expires_at=ours.expires_at + 3600),
        ours._replace(secret=theirs.secret),
    ):
        assert "does not take this invite" in machine.refusal(3, "join", forged.line(), "--name", "x")


def test_a_host_that_is_removed_is_cut_off_at_once_and_its_key_opens_nothing_any_more(tmp_path: Path) -> None:
    with (
        Keeper(tmp_path / "keeper") as keeper,
        RunningCluster(tmp_path / "b") as machine,
        RunningCluster(tmp_path / "c") as other,
    ):
        keeper.listen()
        machine.motes("join", keeper.invite(), "--name", "b")
        keeper.motes("host", "stop", "--name", "local")
        keeper.deploy("places", APP)
        assert keeper.motes("call", "places.where")
        keeper.motes("host", "start", "--name", "local")
        keeper.motes("host", "rm", "b")
        assert keeper.hosts() == {"local": "up"}
        # What ran there is called here now.
        assert keeper.motes("call", "places.where")
        assert {each["host"] for each in keeper.instances()} == {"local"}
        assert not opens(machine, keeper)
        # The keeper remembers, whatever it has been through.
        keeper.down()
        keeper.motes("up", "--http", "127.0.0.1:0")
        assert not opens(machine, keeper)
        assert keeper.hosts() == {"local": "up"}
        for unknown in ("b", "local", "never"):
            assert f"no host {unknown!r} has joined" in keeper.refusal(4, "host", "rm", unknown)
        # Its name may be another's, whom the removed one does not become.
        other.motes("join", keeper.invite(), "--name", "b")
        wait_until(lambda: keeper.hosts().get("b") == "up")
        assert not opens(machine, keeper) and opens(other, keeper)
        # It may come back under another name, as somebody new.
        assert "belongs to a cluster already" in machine.refusal(3, "join", keeper.invite(), "--name", "again")
        machine.motes("leave")
        machine.motes("join", keeper.invite(), "--name", "again")
        wait_until(lambda: keeper.hosts() == dict.fromkeys(("again", "b", "local"), "up"))


def opens(machine: RunningCluster, keeper: Keeper) -> bool:
    """Whether the key that the machine was given opens a connection."""

    async def attempt() -> bool:
        certificate = machine.home.keeper().certificate
        user = machine.home.credentials("host-b")
        try:
            connection = await Connection.open(f"tls://127.0.0.1:{keeper.port}", user, certificate=certificate)
        except Unavailable:
            return False
        await connection.close()
        return True

    return asyncio.run(attempt())


def test_a_machine_that_leaves_is_gone_and_has_forgotten_the_cluster(keeper: Keeper, machine: RunningCluster) -> None:
    machine.motes("join", keeper.invite(), "--name", "guest")
    keeper.motes("host", "stop", "--name", "local")
    keeper.deploy("places", APP)
    assert keeper.motes("call", "places.where")
    assert any(machine.home.host("guest").rglob("*.py"))
    keeper.motes("host", "start", "--name", "local")
    assert machine.json("leave") == {"name": "guest", "told": True}
    assert "guest" not in keeper.hosts()
    assert not machine.home.keeper_file.exists() and not machine.home.key("host").exists()
    # Nor is anything left of what it was given: code, packages, logs, whom it believed.
    assert [path.name for path in machine.folder.rglob("*") if path.is_file() and path.suffix != ".log"] == ["lock"]
    assert not any(machine.home.hosts.iterdir()) and not machine.home.log("agent-guest").exists()
    assert "has joined no cluster" in machine.refusal(3, "leave")
    machine.motes("join", keeper.invite(), "--name", "guest")
    wait_until(lambda: keeper.hosts().get("guest") == "up")


def test_an_invite_does_not_bring_back_a_host_that_was_removed(keeper: Keeper, machine: RunningCluster) -> None:
    line = keeper.invite()
    machine.motes("join", line, "--name", "banned")
    keeper.motes("host", "rm", "banned")
    kept = machine.home.key("host").read_text()
    assert machine.motes("leave") == "this machine has left\n"
    # With the same key, as one who kept a copy of everything.
    machine.home.key("host").write_text(kept)
    assert "needs another invite" in machine.refusal(3, "join", line, "--name", "banned")


def test_a_removed_host_stays_out_when_its_name_is_anothers_and_more_are_removed(tmp_path: Path) -> None:
    with (
        Keeper(tmp_path / "keeper") as keeper,
        RunningCluster(tmp_path / "b") as removed,
        RunningCluster(tmp_path / "c") as second,
        RunningCluster(tmp_path / "d") as third,
    ):
        keeper.listen()
        line = keeper.invite()
        removed.motes("join", line, "--name", "b")
        keeper.motes("host", "rm", "b")
        second.motes("join", keeper.invite(), "--name", "b")
        third.motes("join", keeper.invite(), "--name", "d")
        assert opens(second, keeper) and not opens(removed, keeper)
        keeper.motes("host", "rm", "d")
        assert not opens(removed, keeper), "the list of removed hosts has forgotten it"
        # Nor does its old invite, with its old key, make it the host that has its name now.
        kept = removed.home.key("host").read_text()
        removed.motes("leave")
        removed.home.key("host").write_text(kept)
        assert "needs another invite" in removed.refusal(3, "join", line, "--name", "b")
        wait_until(lambda: keeper.hosts().get("b") == "up")


def test_a_keeper_whose_nats_server_has_lost_its_memory_lets_no_removed_host_in(tmp_path: Path) -> None:
    with Keeper(tmp_path / "keeper") as keeper, RunningCluster(tmp_path / "b") as machine:
        keeper.listen()
        machine.motes("join", keeper.invite(), "--name", "b")
        keeper.motes("host", "rm", "b")
        keeper.down()
        shutil.rmtree(keeper.home.nats_accounts)
        keeper.up()
        assert not opens(machine, keeper)


def test_nobody_joins_in_the_name_of_a_host_of_the_keeper_that_is_stopped(
    keeper: Keeper, machine: RunningCluster
) -> None:
    keeper.motes("host", "start", "--name", "own")
    keeper.motes("host", "stop", "--name", "own")
    wait_until(lambda: "own" not in keeper.hosts())
    assert "another name" in machine.refusal(3, "join", keeper.invite(), "--name", "own")


def test_no_host_is_started_on_the_keeper_in_the_name_of_a_machine_that_has_joined(
    keeper: Keeper, machine: RunningCluster
) -> None:
    """Two hosts of one name would each hear the calls of both."""
    machine.motes("join", keeper.invite(), "--name", "far")
    for _ in range(2):
        assert "motes host rm far" in keeper.refusal(3, "host", "start", "--name", "far")
        machine.down()  # Also while it is away.
    assert not keeper.home.user("host-far").exists() and "far" not in keeper.home.offers()
    keeper.motes("host", "rm", "far")
    keeper.motes("host", "start", "--name", "far")
    wait_until(lambda: keeper.hosts().get("far") == "up")
    keeper.motes("host", "stop", "--name", "far")


def test_doctor_names_the_keeper_on_a_machine_that_has_joined_and_no_address_that_nobody_serves(
    keeper: Keeper, machine: RunningCluster
) -> None:
    machine.motes("join", keeper.invite(), "--name", "patient")
    told = json.loads(machine.run("doctor", "--json").stdout)
    assert told["keeper"] == f"tls://127.0.0.1:{keeper.port}" and "http" not in told["cluster"]
    shown = machine.run("doctor").stdout
    assert f"this machine lends to the one at tls://127.0.0.1:{keeper.port}" in shown and "http://" not in shown
    machine.motes("leave")
    assert json.loads(machine.run("doctor", "--json").stdout)["keeper"] is None


def test_a_home_of_an_earlier_version_takes_other_machines_too(tmp_path: Path) -> None:
    """Its nats-server had its accounts in memory and knew of no TLS; its system user could not tell it anything."""
    with Keeper(tmp_path / "keeper") as keeper, RunningCluster(tmp_path / "b") as machine:
        keeper.up()
        keeper.down()
        home = keeper.home
        config = json.loads(home.nats_config.read_text())
        del config["allow_non_tls"]
        home.nats_config.write_text(json.dumps({**config, "resolver": "MEMORY"}))
        shutil.rmtree(home.nats_accounts)
        earlier = roles.SYSTEM._replace(publish=())
        home.save_credentials(jwt.credentials(keys.load_or_create(home.key("system")), earlier))
        keeper.listen()
        machine.motes("join", keeper.invite(), "--name", "b")
        keeper.motes("host", "rm", "b")
        assert not opens(machine, keeper)


def test_what_only_the_keeper_can_do_is_refused_on_a_machine_that_has_joined(
    keeper: Keeper, machine: RunningCluster
) -> None:
    machine.motes("join", keeper.invite(), "--name", "lent")
    for words in (("apps",), ("host", "ls"), ("call", "x.y"), ("host", "start"), ("host", "stop", "--name", "lent")):
        assert f"joined the cluster of the keeper at 127.0.0.1:{keeper.port}" in machine.refusal(3, *words), words
    machine.down()
    assert "motes up --listen" in machine.refusal(3, "up", "--listen", "127.0.0.1:7423")
    assert not machine.home.key("account").exists()
    machine.motes("leave")


def test_an_address_that_is_not_there_is_said_with_the_way_back(tmp_path: Path) -> None:
    with Keeper(tmp_path / "home") as cluster:
        told = cluster.refusal(8, "up", "--http", "127.0.0.1:0", "--listen", "192.0.2.77:7423")
        assert "192.0.2.77:7423" in told and "motes up --listen off" in told
        assert "is no address" in cluster.refusal(3, "up", "--listen", "::1")
        cluster.motes("up", "--http", "127.0.0.1:0", "--listen", f"[::1]:{cluster.port}")
        assert "is no address" in cluster.refusal(3, "invite", "--address", "nonsense")
        assert cluster.json("invite")["addresses"] == [f"[::1]:{cluster.port}"]


def test_a_machine_whose_answer_was_lost_asks_once_more_and_the_invite_is_used_up(
    keeper: Keeper, machine: RunningCluster, tmp_path: Path
) -> None:
    line = keeper.invite()
    machine.motes("join", line, "--name", "twice")
    machine.down()
    for file in (machine.home.keeper_file, machine.home.hosts_file):
        file.unlink()
    invite = invites.parse(line)

    async def end_in_the_middle() -> None:
        """As a keeper that ended between the two things that it notes."""
        connection = await Connection.open(keeper.home.nats_url(), keeper.home.credentials("keeper"))
        store = await Store.open(connection)
        guest = roles.guest(keys.Key(invite.secret).public).user
        await store.put_invite(guest, msgspec.msgpack.encode(Promise(invite.expires_at, 1)))
        await store.close()
        await connection.close()

    asyncio.run(end_in_the_middle())
    machine.motes("join", line, "--name", "twice")
    wait_until(lambda: keeper.hosts().get("twice") == "up")
    assert "used up" in RunningCluster(tmp_path / "other").refusal(3, "join", line, "--name", "third")


def test_a_join_that_is_killed_can_be_done_again_or_be_left_at_that(
    keeper: Keeper, machine: RunningCluster, tmp_path: Path
) -> None:
    def join_half(line: str) -> None:
        """Until it has been admitted, and has noted all but where the keeper is."""
        (tmp_path / "killed").unlink(missing_ok=True)
        killed = killed_at(tmp_path, "asyncio.runners:Runner.close")
        join = [MOTES, "join", line, "--name", "half"]
        done = subprocess.run(join, env={**machine.environment, **killed}, capture_output=True, timeout=DEADLINE_S)
        assert done.returncode == -signal.SIGKILL and "half" in keeper.hosts()

    line = keeper.invite()
    join_half(line)
    machine.motes("join", line, "--name", "half")
    wait_until(lambda: keeper.hosts()["half"] == "up")
    machine.motes("leave")
    join_half(keeper.invite())
    machine.home.write_json(machine.home.hosts_file, {"half": founding.default_offer()})
    machine.up()
    machine.deploy("own", APP)
    assert machine.json("call", "own.where")


class Tap:
    """A machine on the way that sees all bytes, and may be told to speak for the server."""

    def __init__(self, port: int) -> None:
        self.seen = bytearray()
        self._port = port
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = self._server.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._server.accept()
            except OSError:
                return
            server = socket.create_connection(("127.0.0.1", self._port))
            for source, target in ((client, server), (server, client)):
                threading.Thread(target=self._pump, args=(source, target), daemon=True).start()

    def _pump(self, source: socket.socket, target: socket.socket) -> None:
        try:
            while data := source.recv(65536):
                self.seen += data
                target.sendall(data)
        except OSError:
            pass
        finally:
            source.close()
            target.close()

    def close(self) -> None:
        self._server.close()


def test_who_listens_on_the_way_reads_no_word_of_it(keeper: Keeper, machine: RunningCluster) -> None:
    tap = Tap(keeper.port)
    try:
        invite = invites.parse(keeper.invite())._replace(addresses=(f"127.0.0.1:{tap.port}",))
        machine.motes("join", invite.line(), "--name", "tapped")
        wait_until(lambda: keeper.hosts().get("tapped") == "up")
        assert len(tap.seen) > 4000
        # The server's greeting comes before the handshake; after it there is nothing that can be read.
        after = bytes(tap.seen).partition(b"\r\n")[2]
        assert b"CONNECT" not in after and b"eyJ" not in after and b"tapped" not in after
    finally:
        machine.down()
        tap.close()


def test_a_keeper_that_speaks_no_tls_is_told_nothing(keeper: Keeper) -> None:
    """As when somebody in between takes the offer of TLS out of the greeting."""
    line = invites.parse(keeper.invite())
    guest = jwt.guest_credentials(line, roles.guest(keys.Key(line.secret).public))
    said = bytearray()

    async def plain(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b'INFO {"max_payload":1048576,"nonce":"abc","tls_required":false}\r\n')
        said.extend(await reader.read(65536))
        writer.close()

    async def attack() -> None:
        server = await asyncio.start_server(plain, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(Unavailable):
            await Connection.open(f"tls://127.0.0.1:{port}", guest, certificate=line.certificate)
        server.close()
        await asyncio.sleep(0.1)

    asyncio.run(asyncio.wait_for(attack(), DEADLINE_S))
    assert said[:1] == b"\x16", "that is no beginning of TLS"
    assert b"eyJ" not in said


def test_a_cluster_that_does_not_listen_makes_no_invites(tmp_path: Path) -> None:
    with RunningCluster(tmp_path / "home") as cluster:
        cluster.up()
        assert "motes up --listen" in cluster.refusal(3, "invite")
        assert "motes down" in cluster.refusal(3, "up", "--listen", "127.0.0.1:7423")
    assert "is no address" in cluster.refusal(3, "up", "--listen", "here:there")
    assert Home(cluster.folder).listen() is None
