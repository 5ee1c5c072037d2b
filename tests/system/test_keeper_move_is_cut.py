"""Whatever is killed while the keeper moves: there are never two, one afterwards, and nothing accepted is lost."""

from __future__ import annotations

from pathlib import Path

import pytest

from motes.home import Home
from system.moving import APP, Machine, has_secrets, killed_at, machines
from system.running import wait_until

LEAVES = (
    "motes.moving.giving:Giving.pass_keys",
    "motes.moving.copying:Copying.send_code",
    "motes.moving.copying:Copying.send_growing",
    "motes.moving.giving:Giving.freeze",
    "motes.moving.copying:Copying.send_rest",
    "motes.moving.giving:Giving.prepare",
    "motes.moving.giving:Giving.facts",
    "motes.moving.giving:wait",
)
"""In `motes keeper move`."""
COMES = (
    "motes.moving.storing:take_code",
    "motes.moving.storing:restore",
    "motes.moving.storing:take_more",
    "motes.moving.taking:Taking._commit",
    "motes.cli.keeper:_become",
)
"""In `motes keeper accept`."""
SUPERVISOR_LEAVES = (
    "motes.supervisor.succession:hand_over",
    "motes.supervisor.forward:commit",
    "motes.supervisor.succession:forget",
)
"""In what runs on the machine that the keeper leaves."""
SUPERVISOR_COMES = ("motes.supervisor.yielding:Yielding._rise",)


def move_after_all(laptop: Machine, server: Machine) -> None:
    """What a user does who sees that it did not work: everything once more."""
    if laptop.is_keeper:
        # What is accepted after a move that came to nothing moves with the next.
        laptop.deploy("late", APP)
    assert not (laptop.is_keeper and server.is_keeper)
    line = ""
    if not server.is_keeper:
        if server.waiting is not None:
            server.stop_waiting()
        if is_committed(server):
            server.motes("keeper", "accept", "--http", "127.0.0.1:0")
        else:
            line = server.accept()
    done = laptop.run("keeper", "move", "server", *filter(None, (line,)))
    assert done.returncode == 0, done
    if server.waiting is not None:
        server.become()
    wait_until(lambda: server.is_keeper, "the server is the keeper")
    assert not laptop.is_keeper
    wait_until(lambda: not has_secrets(laptop), "the laptop has forgotten the keys")


def is_committed(server: Machine) -> bool:
    from motes.supervisor import succession

    return succession.arrival(server.home).get("stage") == succession.COMMITTED


def check_nothing_is_lost(laptop: Machine, server: Machine, apps: list[str]) -> None:
    assert [each["app"] for each in server.json("apps")] == apps
    wait_until(lambda: server.is_up("local") and server.is_up("server"), "the hosts are there")
    for app in apps:
        assert server.json("call", f"{app}.double", "21") == 42
    assert laptop.home.key("owner").exists() and not server.home.key("owner").exists()


@pytest.mark.parametrize("point", LEAVES)
def test_the_command_on_the_machine_that_it_leaves_is_killed(tmp_path: Path, point: str) -> None:
    with machines(tmp_path, "laptop", "server") as (laptop, server):
        laptop.deploy("work", APP)
        assert laptop.move("server", server.accept(), **killed_at(tmp_path, point)).returncode == -9
        if point != LEAVES[-1]:
            wait_until(lambda: laptop.is_keeper, "it is the keeper as before")
        apps = ["work"] if point == LEAVES[-1] else ["late", "work"]
        move_after_all(laptop, server)
        check_nothing_is_lost(laptop, server, apps)


@pytest.mark.parametrize("point", COMES)
def test_the_command_on_the_machine_that_it_comes_to_is_killed(tmp_path: Path, point: str) -> None:
    with machines(tmp_path, "laptop", "server") as (laptop, server):
        laptop.deploy("work", APP)
        line = server.accept(**killed_at(tmp_path, point))
        is_late = point in COMES[-2:]
        if not is_late:
            done = laptop.move("server", line)
            assert done.returncode == 8, done
            wait_until(lambda: laptop.is_keeper, "it is the keeper as before")
        else:
            # The keeper's machine has decided, and waits for the other.
            moving = laptop.begin_move("server", line)
            wait_until(lambda: (tmp_path / "killed").exists())
            assert not laptop.is_keeper and not server.is_keeper
            moving.kill()
            moving.communicate()
        move_after_all(laptop, server)
        check_nothing_is_lost(laptop, server, ["work"] if is_late else ["late", "work"])


def test_keys_that_came_for_nothing_are_gone_with_the_next_start(tmp_path: Path) -> None:
    with machines(tmp_path, "laptop", "server") as (laptop, server):
        line = server.accept(**killed_at(tmp_path, "motes.moving.storing:restore"))
        assert "waits to become the keeper already" in server.refusal(3, "keeper", "accept")
        assert laptop.move("server", line).returncode == 8
        server.stop_waiting()
        came = Home(server.home.arriving)
        assert came.key("controller").exists()
        server.down()
        # Not while they may be of use.
        server.accept()
        came.create()
        server.motes("up")
        assert came.path.exists()
        assert server.waiting is not None
        server.waiting.kill()
        server.waiting.communicate()
        server.down()
        server.motes("up")
        assert not came.path.exists()


@pytest.mark.parametrize("point", SUPERVISOR_LEAVES)
def test_the_machine_that_it_leaves_goes_down(tmp_path: Path, point: str) -> None:
    with machines(tmp_path, "laptop", "server") as (laptop, server):
        laptop.deploy("work", APP)
        laptop.down()
        laptop.environment |= killed_at(tmp_path, point)
        laptop.motes("up", "--http", "127.0.0.1:0")
        wait_until(lambda: laptop.is_up("server"), "the server is there")
        laptop.move("server", server.accept())
        assert (tmp_path / "killed").exists()
        laptop.up()
        was_decided = "hand_over" not in point
        if not was_decided:
            wait_until(lambda: laptop.is_keeper, "it is the keeper as before")
        move_after_all(laptop, server)
        check_nothing_is_lost(laptop, server, ["work"] if was_decided else ["late", "work"])


@pytest.mark.parametrize("point", SUPERVISOR_COMES)
def test_the_machine_that_it_comes_to_goes_down(tmp_path: Path, point: str) -> None:
    with machines(tmp_path, "laptop", "server") as (laptop, server):
        laptop.deploy("work", APP)
        server.down()
        server.environment |= killed_at(tmp_path, point)
        server.up()
        wait_until(lambda: laptop.is_up("server"), "the server is there")
        moving = laptop.begin_move("server", server.accept())
        wait_until(lambda: (tmp_path / "killed").exists())
        assert not laptop.is_keeper and not server.is_keeper
        server.motes("up", "--http", "127.0.0.1:0")
        assert moving.wait(60) == 0, moving.communicate()
        moving.communicate()
        assert server.is_keeper and not laptop.is_keeper
        check_nothing_is_lost(laptop, server, ["work"])


def test_what_the_other_machine_has_lost_it_never_becomes(tmp_path: Path) -> None:
    """The keeper's machine has decided, but the other was wiped: the keeper is where it was, with all it had."""
    with machines(tmp_path, "laptop", "server") as (laptop, server):
        laptop.deploy("work", APP)
        line = server.accept(**killed_at(tmp_path, "motes.moving.taking:Taking._commit"))
        moving = laptop.begin_move("server", line)
        wait_until(lambda: (tmp_path / "killed").exists())
        server.stop_waiting()
        for file in server.home.arriving.rglob("state.json"):
            file.unlink()
        server.accept()
        out, err = moving.communicate(timeout=60)
        assert moving.returncode == 8 and "the keeper is here again" in err, (out, err)
        wait_until(lambda: laptop.is_keeper, "it is the keeper again")
        server.stop_waiting()
        assert not has_secrets(server) and has_secrets(laptop)
        laptop.deploy("late", APP)
        wait_until(lambda: laptop.is_up("server") and laptop.is_up("local"), "the hosts are there")
        assert laptop.json("call", "late.double", "21") == 42
        move_after_all(laptop, server)
        check_nothing_is_lost(laptop, server, ["late", "work"])
