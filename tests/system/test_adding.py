"""`motes host add`: a machine that has Python and sshd, and nothing else, becomes a host, or a keeper."""

from __future__ import annotations

import contextlib
import json
import os
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from motes.cli import wheel
from motes.model.invite import PREFIX
from system.own_sshd import Sshd
from system.running import Away, Keeper, RunningCluster, wait_until

pytestmark = pytest.mark.timeout(900)
"""Packages are fetched and installed."""
APP = "from motes import function\n@function\ndef f() -> int: return 1\n"


class Overseer(threading.Thread):
    """Reads every command line on this machine, again and again, as any user of it may, and looks for a secret."""

    def __init__(self, secret: str) -> None:
        super().__init__(daemon=True)
        self._secret = secret.encode()
        self.seen: set[str] = set()
        self.looks, self.over = 0, False

    def run(self) -> None:
        while not self.over:
            for file in Path("/proc").glob("[0-9]*/cmdline"):
                with contextlib.suppress(OSError):
                    line = file.read_bytes()
                    if self._secret in line:
                        self.seen.add(line.decode(errors="replace"))
            self.looks += 1


@pytest.fixture(scope="module")
def far(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    """One machine for all tests: what takes long is done once."""
    machine = Sshd(tmp_path_factory.mktemp("far"))
    yield machine
    machine.cluster().run("down")
    machine.stop()


def add(*words: str, far: Sshd) -> tuple[str, ...]:
    return ("host", "add", "far", "--ssh-config", str(far.settings), *words)


def test_a_machine_becomes_a_host_and_done_again_nothing_more_happens(keeper: Keeper, far: Sshd) -> None:
    # An invite begins with the keeper's certificate, so all of this keeper's begin alike, and no others.
    overseer = Overseer(keeper.invite()[: len(PREFIX) + 40])
    overseer.start()
    told = keeper.run(*add("--name", "attic", "--lend", "cpus=1,memory=512MiB,spaces=5", far=far), timeout_s=800)
    overseer.over = True
    overseer.join()
    assert told.returncode == 0, told.stderr
    assert overseer.looks > 10 and overseer.seen == set()
    assert [line.partition(":")[0] for line in told.stdout.splitlines()] == [
        "Python",
        "motes",
        "motes",
        "join",
        "service",
        "host",
    ], told.stdout
    (lends,) = (each["lends"] for each in keeper.json("host", "ls") if each["name"] == "attic")
    assert (lends["cpus"], lends["spaces"]) == (1.0, 5)
    # It works there, by the code that runs here, started by the machine's systemd.
    assert (far.state / "enabled").exists()
    keeper.motes("host", "drain", "local")
    keeper.deploy("afar", APP)
    assert keeper.json("call", "afar.f") == 1
    keeper.motes("host", "drain", "local", "--off")
    installed = far.home / ".local" / "lib" / "motes"
    assert (installed / "installed").read_text().strip() == wheel.this_version().hash
    program = far.home / ".local" / "bin" / "motes"
    assert program.resolve() == installed / "bin" / "motes"
    pid = far.cluster().home.cluster()["pid"]
    again = keeper.run(*add(far=far))
    assert (again.returncode, again.stderr) == (0, "")
    assert "this version is there already" in again.stdout and "it is host 'attic' already" in again.stdout
    assert far.cluster().home.cluster()["pid"] == pid and set(keeper.hosts()) == {"local", "attic"}


def test_what_broke_on_the_way_is_mended_by_doing_it_again(keeper: Keeper, far: Sshd) -> None:
    """As when the connection was lost while it was installed, and the machine was switched off."""
    (far.home / ".local" / "lib" / "motes" / "installed").unlink()
    far.cluster().motes("down")
    wait_until(lambda: keeper.hosts().get("attic") != "up")
    told = keeper.run(*add("--json", far=far), timeout_s=800)
    assert json.loads(told.stdout) == {"name": "attic", "service": True}, told.stderr
    assert keeper.hosts()["attic"] == "up"


def test_without_a_systemd_it_serves_all_the_same_and_that_is_said(keeper: Keeper, far: Sshd) -> None:
    (far.state / "mute").touch()
    try:
        told = keeper.motes(*add(far=far))
        assert "service: not installed: systemd does not answer" in told
    finally:
        (far.state / "mute").unlink()
    assert keeper.hosts()["attic"] == "up"


def test_a_machine_of_another_cluster_is_left_alone(keeper: Keeper, far: Sshd, tmp_path: Path) -> None:
    with Keeper(tmp_path / "other") as other:
        other.listen()
        assert "has joined another cluster" in other.refusal(3, *add(far=far))
        assert "is host 'attic' already" in keeper.refusal(3, *add("--name", "cellar", far=far))
        assert "is a host of another cluster" in other.refusal(3, *add("--as", "keeper", far=far))
    assert keeper.hosts()["attic"] == "up"


def test_a_machine_becomes_a_keeper_with_a_context_here(keeper: Keeper, far: Sshd, tmp_path: Path) -> None:
    far.cluster().run("leave")
    for file in ("hosts.json", "keeper.json"):
        (far.cluster().folder / file).unlink(missing_ok=True)
    away = Away(tmp_path / "away")
    with contextlib.ExitStack() as undo:
        undo.callback(far.cluster().run, "down")
        port = Keeper(tmp_path / "unused").port
        words = ("--as", "keeper", "--name", "server", "--listen", f"127.0.0.1:{port}", "--http", "127.0.0.1:0")
        told = away.run(*add(*words, far=far), timeout_s=800)
        assert told.returncode == 0, told.stderr
        assert "context: 'server'" in told.stdout
        (tmp_path / "kept.py").write_text(APP)
        away.motes("--context", "server", "deploy", str(tmp_path / "kept.py"))
        assert away.json("--context", "server", "call", "kept.f") == 1
        again = away.json(*add(*words, far=far))
        assert again["where"] == f"tls://127.0.0.1:{port},tls://far:{port}" and again["service"] is True
        assert away.json("--context", "server", "call", "kept.f") == 1
        assert "is the keeper of a cluster of its own" in keeper.refusal(3, *add(far=far))


# ---------------------------------------------------------------------- attacks and mistakes


def test_a_machine_whose_key_is_not_the_known_one_is_told_nothing(keeper: Keeper, far: Sshd, tmp_path: Path) -> None:
    forged = tmp_path / "ssh_config"
    forged.write_text(far.settings.read_text().replace("known_hosts", "nothing_known"))
    before = (far.log).read_text().count("Accepted")
    told = keeper.refusal(8, "host", "add", "far", "--ssh-config", str(forged))
    assert "Host key verification failed" in told
    assert far.log.read_text().count("Accepted") == before


@pytest.mark.parametrize("machine", ["-oProxyCommand=touch MARK", "-oProxyCommand=x", "", "a b", "--"])
def test_what_ssh_would_take_as_an_option_is_no_machine(keeper: Keeper, tmp_path: Path, machine: str) -> None:
    mark = tmp_path / "mark"
    assert "is no machine" in keeper.refusal(3, "host", "add", "--", machine.replace("MARK", str(mark)))
    assert not mark.exists()


def test_words_for_the_other_machine_are_words_there_and_no_commands(keeper: Keeper, far: Sshd) -> None:
    mark = far.home / "mark"
    for words in (("--name", f"a;touch {mark}"), ("--name", f"$(touch {mark})"), ("--lend", f"cpus=1;touch {mark}")):
        keeper.refusal(3, *add(*words, far=far))
    assert not mark.exists()


def test_a_keeper_that_does_not_listen_says_so_before_anything_is_done(far: Sshd, tmp_path: Path) -> None:
    with RunningCluster(tmp_path / "home") as cluster:
        cluster.up()
        accepted = far.log.read_text().count("Accepted")
        assert "motes up --listen" in cluster.refusal(3, *add(far=far))
        assert far.log.read_text().count("Accepted") == accepted


def test_the_wheel_holds_the_package_as_it_runs_here(tmp_path: Path) -> None:
    made = wheel.this_version()
    assert made == wheel.this_version()
    file = tmp_path / made.name
    file.write_bytes(made.data)
    with zipfile.ZipFile(file) as archive:
        assert archive.testzip() is None
        names = archive.namelist()
        assert archive.read("motes/cli/wheel.py") == Path(wheel.__file__).read_bytes()
        (record,) = [each for each in names if each.endswith("RECORD")]
        assert len(archive.read(record).decode().splitlines()) == len(names)
    assert not [each for each in names if "__pycache__" in each or os.path.isabs(each) or ".." in each]
    assert {each.partition("==")[0] for each in made.pins} >= {"click", "msgspec", "nats-py", "uvloop"}
