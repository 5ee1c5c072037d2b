"""systemd starts a keeper and a host that has joined: the units it is given, what it is asked, and a boot."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from motes.supervisor import unit
from system import fake_systemctl, own_systemd
from system.running import DEADLINE_S, MOTES, Keeper, RunningCluster, family, is_alive, wait_until

APP = "from motes import function\n@function\ndef f() -> int: return 1\n"


class Serviced:
    """A cluster's machine, or one that has joined, with a systemd of its own."""

    def __init__(self, cluster: RunningCluster, folder: Path) -> None:
        self.cluster = cluster
        self.state = folder / "systemd"
        self.settings = folder / "settings"
        programs = folder / "programs"
        for each in (self.state, self.settings, programs):
            each.mkdir(parents=True)
        for name in ("systemctl", "loginctl"):
            program = programs / name
            program.write_text(f"#!{sys.executable}\n" + Path(fake_systemctl.__file__).read_text())
            program.chmod(0o755)
        cluster.environment |= {
            "FAKE_SYSTEMD": str(self.state),
            "XDG_CONFIG_HOME": str(self.settings),
            "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
        }
        self.unit = self.settings / "systemd" / "user" / unit.NAME

    def asked(self) -> list[str]:
        """What systemd was asked since the last time; not what it was only asked to say."""
        file = self.state / "asked"
        told = file.read_text().splitlines() if file.exists() else []
        file.unlink(missing_ok=True)
        return [each for each in told if not any(word in each for word in ("is-", "show"))]

    def main_pid(self) -> int:
        return int((self.state / "pid").read_text())

    def supervisor(self) -> int:
        return int(self.cluster.home.cluster()["pid"])

    def crash(self) -> None:
        """As when the machine loses power: everything is gone at once, and nothing was told."""
        for pid in family(self.main_pid()) + family(self.supervisor()):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        wait_until(lambda: not is_alive(self.main_pid()))

    def boot(self) -> None:
        """What systemd does then, with nothing to go by but its unit."""
        subprocess.run(["systemctl", "--user", "start", unit.NAME], env=self.cluster.environment, check=True)

    def end(self) -> None:
        self.cluster.run("service", "remove", "--user")
        self.cluster.down()


@pytest.fixture
def keeper(tmp_path: Path) -> Iterator[Serviced]:
    made = Serviced(Keeper(tmp_path / "home"), tmp_path / "keeper's machine")
    yield made
    made.end()


def install(machine: Serviced, *words: str) -> dict[str, object]:
    found = machine.cluster.json("service", "install", "--user", *words)
    assert isinstance(found, dict)
    return found


def test_a_machine_starts_with_systemd_from_now_on_and_that_is_done_once(keeper: Serviced) -> None:
    told = install(keeper, "--http", "127.0.0.1:0")
    assert told == {
        "unit": str(keeper.unit),
        "installed": True,
        "enabled": True,
        "active": "active",
        "linger": True,
        "home": str(keeper.cluster.folder),
    }
    assert keeper.asked() == [
        "systemctl --user daemon-reload",
        "loginctl enable-linger",
        f"systemctl --user enable --now {unit.NAME}",
    ]
    # It runs, below what systemd has started.
    assert keeper.supervisor() in family(keeper.main_pid())
    assert [each["name"] for each in keeper.cluster.json("host", "ls")] == ["local"]
    text, pid = keeper.unit.read_text(), keeper.main_pid()
    assert install(keeper) == told
    assert (keeper.unit.read_text(), keeper.main_pid()) == (text, pid)
    assert keeper.asked() == [f"systemctl --user enable --now {unit.NAME}"]
    assert "active, starts with the machine" in keeper.cluster.motes("service", "status", "--user")
    # `motes down` counts until the next boot, also when it is installed again with nothing running.
    keeper.cluster.motes("down")
    wait_until(lambda: not is_alive(pid))
    assert keeper.cluster.json("service", "status", "--user")["active"] == "inactive"
    install(keeper)
    assert keeper.unit.read_text() == text
    keeper.cluster.motes("service", "remove", "--user")
    assert not keeper.unit.exists() and not (keeper.state / "enabled").exists()
    assert "no cluster runs" in keeper.cluster.refusal(8, "host", "ls")
    assert "there is no" in keeper.cluster.motes("service", "remove", "--user")
    assert "there is no" in keeper.cluster.motes("service", "status", "--user")


def test_what_was_started_by_hand_goes_over_to_it_where_it_was(keeper: Serviced) -> None:
    http = keeper.cluster.up()["http"]
    keeper.cluster.deploy("kept", APP)
    by_hand = keeper.supervisor()
    install(keeper)
    assert not is_alive(by_hand) and keeper.supervisor() in family(keeper.main_pid())
    assert keeper.cluster.home.cluster()["http"] == http
    assert keeper.cluster.json("call", "kept.f") == 1
    # Another address is another unit, which counts at once.
    keeper.asked()
    before = keeper.main_pid()
    install(keeper, "--http", "127.0.0.1:0")
    assert keeper.asked()[-1] == f"systemctl --user restart {unit.NAME}" and keeper.main_pid() != before
    assert keeper.cluster.json("call", "kept.f") == 1


def test_keeper_and_host_are_there_again_after_both_machines_lost_power(tmp_path: Path) -> None:
    keeper = Serviced(Keeper(tmp_path / "keeper-home"), tmp_path / "keeper")
    host = Serviced(RunningCluster(tmp_path / "host-home"), tmp_path / "host")
    assert isinstance(keeper.cluster, Keeper)
    try:
        keeper.cluster.listen()
        install(keeper)
        host.cluster.motes("join", keeper.cluster.invite(), "--name", "lent")
        # A port that another took must not keep a host from starting, which serves no HTTP.
        install(host)
        keeper.cluster.deploy("kept", APP)
        hosts = {"local": "up", "lent": "up"}
        wait_until(lambda: keeper.cluster.hosts() == hosts)  # type: ignore[attr-defined]
        processes = [pid for each in (keeper, host) for pid in family(each.main_pid())]
        keeper.crash()
        host.crash()
        wait_until(lambda: not [pid for pid in processes if is_alive(pid)])
        # The host's machine is quicker: it tries until the keeper is there.
        host.boot()
        keeper.boot()
        wait_until(lambda: keeper.cluster.run("host", "ls").returncode == 0)
        wait_until(lambda: keeper.cluster.hosts() == hosts, "both are in host ls")  # type: ignore[attr-defined]
        assert keeper.cluster.json("call", "kept.f") == 1
    finally:
        host.end()
        keeper.end()


def test_where_lingering_is_refused_that_is_said_with_what_to_do(keeper: Serviced) -> None:
    (keeper.state / "refuses").touch()
    told = keeper.cluster.motes("service", "install", "--user", "--http", "127.0.0.1:0")
    assert "Access denied" in told and "loginctl enable-linger" in told
    assert keeper.cluster.json("service", "status", "--user")["linger"] is False
    assert "starts when you log in" in keeper.cluster.motes("service", "status", "--user")


def test_without_a_systemd_nothing_is_written_and_what_to_do_is_said(keeper: Serviced, tmp_path: Path) -> None:
    (keeper.state / "mute").touch()
    assert "No medium found" in (told := keeper.cluster.refusal(8, "service", "install", "--user"))
    assert "enable-linger" in told
    keeper.cluster.environment["PATH"] = str(tmp_path)
    assert "motes up --foreground" in keeper.cluster.refusal(3, "service", "install", "--user")
    assert not keeper.unit.exists()


def test_another_homes_unit_and_a_strangers_are_left_alone(keeper: Serviced) -> None:
    keeper.unit.parent.mkdir(parents=True)
    other = unit.text(["/bin/true"], {"MOTES_HOME": "/some/other"}, system=False)
    for text, whose in ((other, "/some/other"), ("[Service]\nExecStart=/bin/true\n", "something else")):
        keeper.unit.write_text(text)
        assert f"is for {whose}" in keeper.cluster.refusal(3, "service", "install", "--user")
        assert keeper.unit.read_text() == text
    assert "delete it yourself" in keeper.cluster.refusal(3, "service", "remove", "--user")
    assert keeper.unit.exists()


# ---------------------------------------------------------------------- the real one


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not on this machine")
@pytest.mark.parametrize("system", [False, True])
@pytest.mark.parametrize("home", ["plain", "with space", 'per%cent "and" \\quote', "dollar$HOME"])
def test_systemd_finds_nothing_wrong_with_the_unit(tmp_path: Path, system: bool, home: str) -> None:
    file = tmp_path / unit.NAME
    command = [sys.executable, "-P", "-m", "motes.cli.main", "up", "--foreground", "--http", "127.0.0.1:8080"]
    file.write_text(unit.text(command, {"MOTES_HOME": str(tmp_path / home)}, system=system))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--system" if system else "--user", "--man=no", str(file)],
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        env={**os.environ, "XDG_RUNTIME_DIR": str(tmp_path)},
    )
    assert [line for line in done.stderr.splitlines() if unit.NAME in line] == [], done.stderr
    assert unit.home_in(file.read_text()) == str(tmp_path / home)


NEEDS_A_NAMESPACE = pytest.mark.skipif(os.geteuid() != 0, reason="only root may have folders of the machine to itself")


@NEEDS_A_NAMESPACE
def test_roots_unit_is_the_machines(keeper: Serviced) -> None:
    """In a mount namespace, so that the machine's own units stay as they are."""
    script = f"""
        set -e
        mkdir -p {fake_systemctl.SYSTEM}
        mount -t tmpfs none {fake_systemctl.SYSTEM}
        "{MOTES}" service install --http 127.0.0.1:0 --json
        cat {fake_systemctl.SYSTEM}/{unit.NAME}
        "{MOTES}" service remove --json
    """
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", script],
        env=keeper.cluster.environment,
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
    )
    assert done.returncode == 0, done.stderr
    assert "WantedBy=multi-user.target" in done.stdout and "After=network-online.target" in done.stdout
    assert keeper.asked() == [
        "systemctl daemon-reload",
        f"systemctl enable --now {unit.NAME}",
        f"systemctl disable --now {unit.NAME}",
        "systemctl daemon-reload",
    ]


@pytest.mark.skipif(bool(own_systemd.why_not()), reason=own_systemd.why_not())
def test_a_real_systemd_starts_it_with_the_machine_and_again_when_it_fails(tmp_path: Path) -> None:
    (tmp_path / "machine").mkdir()
    with own_systemd.own_systemd(tmp_path / "machine") as systemd:
        cluster = RunningCluster(tmp_path / "home")
        cluster.environment |= systemd.environment
        cluster.motes("service", "install", "--user", "--http", "127.0.0.1:0")
        shown = systemd.systemctl("show", "--property=Delegate,OOMPolicy,KillMode,Restart", unit.NAME).splitlines()
        assert set(shown) >= {"Delegate=yes", "OOMPolicy=continue", "KillMode=mixed", "Restart=on-failure"}
        cluster.deploy("kept", APP)
        before = cluster.home.cluster()["pid"]
        os.kill(before, signal.SIGKILL)
        wait_until(lambda: cluster.run("call", "kept.f").returncode == 0, "systemd has started it again")
        assert cluster.home.cluster()["pid"] != before
        systemd.lose_power()
        systemd.boot()
        wait_until(lambda: cluster.run("call", "kept.f").returncode == 0, "it has come with the machine")
        # Who ends it means it.
        cluster.motes("down")
        wait_until(lambda: systemd.systemctl("is-active", unit.NAME) == "inactive")
        cluster.motes("service", "remove", "--user")
        assert systemd.systemctl("is-enabled", unit.NAME) in ("", "not-found")
