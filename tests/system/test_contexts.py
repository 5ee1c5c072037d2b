"""A machine without a home commands clusters elsewhere: over TLS, as far as its key goes, each by its name."""

from __future__ import annotations

import base64
import json
import os
import shutil
import socket
import ssl
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from motes.grants import creds
from motes.model.credentials import Credentials
from system.moving import killed_at
from system.running import DEADLINE_S, MOTES, Away, Keeper, RunningCluster, wait_until
from system.terminal import in_a_terminal
from system.test_other_systems import ELSEWHERE

APP = """
from motes import function

@function(idle="5 min")
def double(n: int) -> int:
    print(n)
    return 2 * n
"""


@pytest.fixture(scope="module")
def keeper(keeper: Keeper) -> Keeper:
    """With a caller's key and the owner's."""
    keeper.motes("creds", "shop", "--output", key(keeper, "shop"))
    keeper.motes("creds", "--owner", "--output", key(keeper, "owner"))
    return keeper


def key(keeper: Keeper, whose: str) -> str:
    return str(keeper.folder.parent / f"{whose}.creds")


# ---------------------------------------------------------------------- with the owner's key


def test_the_owner_commands_the_cluster_from_a_machine_without_a_home(
    keeper: Keeper, away: Away, tmp_path: Path
) -> None:
    added = away.json("context", "add", "mine", "--creds", key(keeper, "owner"))
    assert added == {"name": "mine", "where": f"tls://127.0.0.1:{keeper.port}", "user": "local (owner)"}
    assert "no cluster runs" in away.refusal(8, "apps")
    file = tmp_path / "far.py"
    file.write_text(APP)
    away.motes("--context", "mine", "deploy", str(file))
    away.motes("context", "use", "mine")
    assert away.json("call", "far.double", "21") == 42
    assert [each["app"] for each in away.json("apps")] == ["far"]
    seen = away.run("doctor").stdout
    assert f"'mine', leads to the one at tls://127.0.0.1:{keeper.port}, which answers" in seen and "joined" not in seen
    assert json.loads(away.run("doctor", "--json").stdout)["keeper"] is None
    assert {each["app"] for each in away.json("ps")} == {"far"}
    wait_until(lambda: "21" in away.motes("logs", "far"))
    assert any(each["what"] == "app.deployed" and each["app"] == "far" for each in away.json("events"))
    assert keeper.hosts() == {each["name"]: each["state"] for each in away.json("host", "ls")}
    assert away.json("host", "drain", "local")["state"] in ("drained", "draining")
    away.motes("host", "drain", "local", "--off")
    # Also an invite: the keeper is where the context says.
    with RunningCluster(tmp_path / "machine") as machine:
        machine.motes("join", away.invite(), "--name", "guest")
        wait_until(lambda: keeper.hosts().get("guest") == "up")
        away.motes("host", "rm", "guest")
        assert "guest" not in keeper.hosts()
    wait_until(lambda: "far" in {each["app"] for each in away.json("usage")}, "it is accounted for")
    # And a caller's key, which opens the cluster from elsewhere, until it is withdrawn.
    away.motes("creds", "kim", "--output", str(tmp_path / "kim.creds"))
    away.motes("context", "add", "kims", "--creds", str(tmp_path / "kim.creds"))
    assert away.json("--context", "kims", "call", "far.double", "2") == 4
    away.motes("creds", "rm", "kim")
    assert "Revoked" in (told := away.refusal(8, "--context", "kims", "call", "far.double", "2")) or "Auth" in told
    away.motes("rm", "far")
    assert keeper.json("apps") == []


def test_what_follows_follows_from_afar(keeper: Keeper, away: Away) -> None:
    away.motes("context", "add", "mine", "--creds", key(keeper, "owner"))
    keeper.deploy("spoken", APP)
    command = [MOTES, "--context", "mine", "logs", "spoken", "-f"]
    with subprocess.Popen(command, env=away.environment, stdout=subprocess.PIPE, text=True) as following:
        try:
            assert following.stdout is not None
            assert away.json("--context", "mine", "call", "spoken.double", "7") == 14
            assert "7" in following.stdout.readline()
        finally:
            following.terminate()
    keeper.motes("rm", "spoken")


def test_programs_act_on_the_context_as_well(keeper: Keeper, away: Away) -> None:
    away.motes("context", "add", "work", "--creds", key(keeper, "shop"))
    keeper.deploy("prog", APP)
    code = """import asyncio
from motes import connect, remote
async def main():
    async with connect() as cluster:
        print(await cluster.call("prog.double", 4))
asyncio.run(main())
print(remote("prog.double").remote(5))
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**away.environment, "MOTES_CONTEXT": "work"},
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
    )
    assert (done.stdout, done.returncode) == ("8\n10\n", 0), done.stderr
    keeper.motes("rm", "prog")


@pytest.mark.parametrize("platform", ["darwin", "win32"])
def test_a_client_on_another_system_calls_by_a_context(
    keeper: Keeper, away: Away, tmp_path: Path, platform: str
) -> None:
    (tmp_path / "sitecustomize.py").write_text(ELSEWHERE.format(platform=platform))
    away.environment["PYTHONPATH"] = os.pathsep.join([str(tmp_path), away.environment.get("PYTHONPATH", "")])
    keeper.deploy("other", APP)
    away.motes("context", "add", "work", "--creds", key(keeper, "shop"))
    away.motes("context", "use", "work")
    assert away.json("call", "other.double", "3") == 6
    assert [each["name"] for each in away.json("context", "ls") if each["chosen"]] == ["work"]
    keeper.motes("rm", "other")


# ---------------------------------------------------------------------- with a caller's key


def test_a_client_of_another_make_calls_over_tls_with_what_it_was_told(keeper: Keeper, tmp_path: Path) -> None:
    keeper.deploy("sealed", APP)
    told = keeper.json("creds", "secure", "--output", str(tmp_path / "secure.creds"))
    assert told["tls"]["servers"] == [f"tls://127.0.0.1:{keeper.port}"]
    found = creds.parse(Path(told["file"]).read_text()).credentials
    trust = ssl.create_default_context(cafile=told["tls"]["certificate"])
    assert call_over_tls(keeper, found, trust, told["tls"]["server_name"], "fn.sealed.double", b"21") == b"42"
    # And nothing is said to who shows another certificate, or one that is for another name.
    for context, name in ((trust, "another"), (ssl.create_default_context(), told["tls"]["server_name"])):
        with pytest.raises(ssl.SSLCertVerificationError):
            call_over_tls(keeper, found, context, name, "fn.sealed.double", b"21")
    said = keeper.motes("creds", "secure", "--output", str(tmp_path / "again.creds"))
    assert f"{told['tls']['servers'][0]}, never nats://" in said
    keeper.motes("rm", "sealed")


def call_over_tls(
    keeper: Keeper, found: Credentials, trust: ssl.SSLContext, server_name: str, subject: str, body: bytes
) -> bytes:
    """As NATS clients do it that insist on TLS: by the protocol itself, with a standard check of the certificate."""
    with socket.create_connection(("127.0.0.1", keeper.port), DEADLINE_S) as plain:
        info = json.loads(plain.recv(2**16).removeprefix(b"INFO "))
        assert info["tls_available"] and not info.get("tls_required"), "a client has to insist"
        with trust.wrap_socket(plain, server_hostname=server_name) as connection, connection.makefile("rb") as lines:
            signature = Ed25519PrivateKey.from_private_bytes(found.secret).sign(info["nonce"].encode())
            proof = {"jwt": found.jwt, "sig": base64.urlsafe_b64encode(signature).decode().rstrip("=")}
            connect = json.dumps({"verbose": False, "pedantic": False, **proof}).encode()
            inbox = b"_INBOX.%b.x.1" % found.user.encode()
            asked = b"PUB %b %b %d\r\n%b\r\n" % (subject.encode(), inbox, len(body), body)
            connection.sendall(b"CONNECT %b\r\nSUB %b 1\r\n%b" % (connect, inbox, asked))
            for line in lines:
                assert not line.startswith(b"-ERR"), line
                if line.startswith(b"MSG "):
                    return lines.read(int(line.split()[-1]))
    raise AssertionError("no answer came")


def test_a_caller_calls_and_every_other_word_of_his_is_refused_and_said_so(
    keeper: Keeper, away: Away, tmp_path: Path
) -> None:
    keeper.deploy("shop", APP)
    away.motes("context", "add", "work", "--creds", key(keeper, "shop"))
    away.motes("context", "use", "work")
    assert away.json("call", "shop.double", "2") == 4
    for words in (
        ("apps",),
        ("ps",),
        ("events",),
        ("host", "ls"),
        ("host", "rm", "local"),
        ("host", "drain", "local"),
        ("logs", "shop"),
        ("invite",),
        ("creds", "thief", "--output", str(tmp_path / "thief.creds")),
        ("creds", "ls"),
        ("creds", "rm", "shop"),
        ("usage",),
    ):
        assert "it is for the owner" in away.refusal(3, *words), words
    with in_a_terminal(away, "top") as terminal:
        assert terminal.exit_code() == 3
        assert terminal.shown.startswith(b"motes: motes top takes the owner's key"), "and no screen"
    file = tmp_path / "evil.py"
    file.write_text(APP)
    for words in (("deploy", str(file)), ("rm", "shop")):
        assert "holds a caller's key, which may only call" in away.refusal(3, *words), words
    assert not list(away.settings.rglob("*.seed")), "a key was made that signs for nobody"
    assert [each["app"] for each in keeper.json("apps")] == ["shop"]
    keeper.motes("rm", "shop")


def test_commands_of_this_machine_do_nothing_to_a_cluster_elsewhere(keeper: Keeper, away: Away) -> None:
    away.motes("context", "add", "mine", "--creds", key(keeper, "owner"))
    before = sorted(away.settings.rglob("*"))
    for words in (
        ("up",),
        ("up", "--listen", "127.0.0.1:7423"),
        ("down",),
        ("creds", "--owner"),
        ("keeper", "move", "local"),
        ("lend",),
        ("host", "start"),
        ("host", "stop", "--name", "local"),
        ("pause",),
        ("resume",),
        ("join", "motes1-x"),
        ("leave",),
    ):
        told = away.refusal(3, "--context", "mine", *words)
        assert f"keeper at 127.0.0.1:{keeper.port}" in told and "motes --context local" in told, words
    assert sorted(away.settings.rglob("*")) == before
    assert keeper.hosts() == {"local": "up"}


# ---------------------------------------------------------------------- which one


def test_which_cluster_is_meant_is_settled_in_one_order(keeper: Keeper, away: Away, tmp_path: Path) -> None:
    away.motes("context", "add", "work", "--creds", key(keeper, "shop"))
    away.motes("context", "add", "home", "--home", str(keeper.folder))

    def chosen() -> tuple[str, str]:
        (found,) = [each for each in away.json("context", "ls") if each["chosen"]]
        return found["name"], found["by"]

    assert chosen() == ("local", "")
    away.motes("context", "use", "work")
    assert chosen() == ("work", "")
    away.environment["MOTES_HOME"] = str(tmp_path / "own")
    assert chosen() == ("local", "MOTES_HOME")
    assert "here $MOTES_HOME goes first" in away.motes("context", "use", "work")
    away.environment["MOTES_CONTEXT"] = "home"
    assert chosen() == ("home", "MOTES_CONTEXT")
    assert away.json("apps") == []
    assert "is for the owner" in away.refusal(3, "--context", "work", "apps")
    del away.environment["MOTES_HOME"], away.environment["MOTES_CONTEXT"]
    away.motes("context", "rm", "work")
    assert chosen() == ("local", "") and not away.context("work").exists()
    away.motes("context", "rm", "home")
    assert keeper.folder.exists() and keeper.hosts() == {"local": "up"}
    for words in (("--context", "work", "apps"), ("context", "use", "work"), ("context", "rm", "work")):
        assert "there is no context 'work'; there are: local" in away.refusal(4, *words)


@pytest.mark.parametrize("name", ["../evil", "..", "a/b", "/tmp/x", ".hidden", "", "local", "a\nb"])
def test_a_name_that_leads_out_of_the_folder_is_none(keeper: Keeper, away: Away, name: str) -> None:
    for words in (
        ("context", "add", name, "--creds", key(keeper, "shop")),
        ("context", "add", name, "--home", str(keeper.folder)),
        ("context", "rm", name),
    ):
        told = away.refusal(3, *words)
        assert "cannot be a context's name" in told or "this machine's own home" in told
    if name != "local":
        assert "cannot be a context's name" in away.refusal(3, "--context", name, "apps")
        assert "cannot be a context's name" in away.refusal(3, "context", "use", name)
    assert not away.settings.exists() and not (away.folder / "evil").exists()


# ---------------------------------------------------------------------- attacks


def test_keys_are_for_their_owner_whatever_the_umask(keeper: Keeper, away: Away) -> None:
    for name, whose in (("mine", "owner"), ("work", "shop")):
        command = f'umask 0; exec "{MOTES}" context add {name} --creds "{key(keeper, whose)}"'
        subprocess.run(["sh", "-c", command], env=away.environment, check=True, capture_output=True, timeout=DEADLINE_S)
    away.motes("context", "use", "mine")
    found = [away.settings, *away.settings.rglob("*")]
    assert {stat.S_IMODE(each.stat().st_mode) for each in found if each.is_file()} == {0o600}
    assert {stat.S_IMODE(each.stat().st_mode) for each in found if each.is_dir()} == {0o700}
    for whose in ("owner", "shop"):
        assert stat.S_IMODE(Path(key(keeper, whose)).stat().st_mode) == 0o600
    owner = keeper.home.key("owner").read_text()
    assert owner in Path(key(keeper, "owner")).read_text() and owner not in Path(key(keeper, "shop")).read_text()


def test_a_command_that_is_killed_leaves_no_key_behind(keeper: Keeper, away: Away, tmp_path: Path) -> None:
    away.motes("context", "add", "other", "--home", str(keeper.folder))
    stopped = killed_at(tmp_path / "stopped", "motes.client.cluster:Cluster.open") | {"MOTES_TEST_SIGNAL": "SIGSTOP"}
    (tmp_path / "stopped").mkdir()
    command = [MOTES, "context", "add", "mine", "--creds", key(keeper, "owner")]
    with subprocess.Popen(command, env={**away.environment, **stopped}) as adding:
        try:
            wait_until(lambda: (tmp_path / "stopped" / "killed").exists())
            (left,) = away.settings.rglob("*.seed")
            away.motes("context", "ls")
            assert left.exists(), "it is at work still"
        finally:
            adding.kill()
    assert left.exists()
    away.motes("context", "ls")
    assert [each.name for each in (away.settings / "contexts").iterdir()] == ["other"]
    # Nor does one that is killed while it forgets a context.
    away.motes("context", "add", "mine", "--creds", key(keeper, "owner"))
    killed = killed_at(tmp_path, "shutil:rmtree")
    subprocess.run([MOTES, "context", "rm", "mine"], env={**away.environment, **killed}, timeout=DEADLINE_S)
    assert list(away.settings.rglob("*.seed"))
    assert [each["name"] for each in away.json("context", "ls")] == ["local", "other"]
    assert not list(away.settings.rglob("*.seed"))


def test_the_owners_key_is_only_given_by_its_name_and_with_a_warning(keeper: Keeper, tmp_path: Path) -> None:
    assert "choose another name" in keeper.refusal(3, "creds", "local", "--output", str(tmp_path / "x"))
    assert keeper.run("creds", "kim", "--owner").returncode == 2 and keeper.run("creds").returncode == 2
    done = keeper.run("creds", "--owner", "--output", str(tmp_path / "o.creds"), "--json")
    assert "may deploy, remove and run anything" in done.stderr and json.loads(done.stdout)["user"] == "local"


def test_a_server_with_another_certificate_is_told_nothing(keeper: Keeper, away: Away, tmp_path: Path) -> None:
    away.motes("context", "add", "work", "--creds", key(keeper, "shop"))
    file = away.context("work") / "keeper.json"
    told = json.loads(file.read_text())
    file.write_text(json.dumps({**told, "certificate": "00" * 32}))
    assert "its certificate is not the one" in away.refusal(8, "--context", "work", "call", "x.y")
    wrong = ("context", "add", "wrong", "--creds", key(keeper, "shop"), "--certificate", "ab" * 32)
    assert "its certificate is not the one" in away.refusal(8, *wrong)
    assert "64 digits" in away.refusal(3, *wrong[:-1], "ab")
    assert [each.name for each in away.context("x").parent.iterdir()] == ["work"], "what cannot work was kept"


def test_a_key_of_another_cluster_opens_nothing(keeper: Keeper, away: Away, tmp_path: Path) -> None:
    with Keeper(tmp_path / "other") as other:
        other.listen()
        other.motes("creds", "shop", "--output", str(tmp_path / "theirs.creds"))
        theirs, ours = (tmp_path / "theirs.creds").read_text(), Path(key(keeper, "shop")).read_text()
        # This cluster's keeper, with the other cluster's key: same user's name, same everything else.
        mixed = theirs.partition("-----BEGIN MOTES")[0] + "-----BEGIN MOTES" + ours.partition("-----BEGIN MOTES")[2]
        (tmp_path / "mixed.creds").write_text(mixed)
        assert "Authorization" in away.refusal(8, "context", "add", "mixed", "--creds", str(tmp_path / "mixed.creds"))
        away.motes("context", "add", "work", "--creds", key(keeper, "shop"))
        away.motes("context", "add", "theirs", "--creds", str(tmp_path / "theirs.creds"))
        shutil.copy(away.context("theirs") / "users" / "shop.json", away.context("work") / "users" / "shop.json")
        assert "Authorization" in away.refusal(8, "--context", "work", "call", "x.y")
        # An owner of one is nobody in the other: a release that he signed is not run.
        away.motes("context", "add", "mine", "--creds", key(keeper, "owner"))
        other.motes("creds", "--owner", "--output", str(tmp_path / "their-owner.creds"))
        away.motes("context", "add", "their-owner", "--creds", str(tmp_path / "their-owner.creds"))
        shutil.copy(away.context("their-owner") / "keys" / "owner.seed", away.context("mine") / "keys" / "owner.seed")
        (tmp_path / "evil.py").write_text(APP)
        assert "not trusted" in away.refusal(8, "--context", "mine", "deploy", str(tmp_path / "evil.py"))
        assert keeper.json("apps") == []


@pytest.mark.parametrize(
    "text",
    [
        "",
        "hello",
        "-----BEGIN NATS USER JWT-----\na.b.c\n------END NATS USER JWT------\n",
        "-----BEGIN NATS USER JWT-----\na.eyJuYW1lIjoiLi4vLi4vZXZpbCJ9.c\n------END NATS USER JWT------\n"
        "-----BEGIN USER NKEY SEED-----\nSUAHDJBVNNXJ3OVJN5TR4IRGRNO6GO6UXQXWZU4ML4EOUT6ECVAXDCU25M\n"
        "------END USER NKEY SEED------\n",
    ],
)
def test_what_is_no_file_of_credentials_is_refused(away: Away, tmp_path: Path, text: str) -> None:
    (tmp_path / "x.creds").write_text(text)
    assert "no file of credentials" in away.refusal(3, "context", "add", "x", "--creds", str(tmp_path / "x.creds"))
    assert not away.settings.exists()


def test_a_key_of_a_cluster_that_does_not_listen_says_what_to_do(away: Away, tmp_path: Path) -> None:
    with RunningCluster(tmp_path / "home") as cluster:
        cluster.up()
        cluster.motes("creds", "shop", "--output", str(tmp_path / "shop.creds"))
    assert "motes up --listen" in away.refusal(3, "context", "add", "x", "--creds", str(tmp_path / "shop.creds"))
    unread = ("context", "add", "x", "--creds", str(tmp_path / "shop.creds"), "--keeper", "not an address")
    assert "is no address" in away.refusal(3, *unread)
