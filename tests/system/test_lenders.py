"""What whoever lends a machine is told of it is so: what it lends, whether it does, and why not."""

from __future__ import annotations

from pathlib import Path

from motes.model import invite as invites
from ports import free_port
from system.running import Keeper, RunningCluster, wait_until

HUGE = "spaces=3000000000"
HELLO = """
    from motes import function

    @function
    def greet() -> str:
        return "hello"
"""


def test_what_no_host_can_lend_costs_no_invite_and_what_was_kept_of_it_is_mended_by_the_words_that_are_said(
    keeper: Keeper, machine: RunningCluster
) -> None:
    line = keeper.invite()
    assert "no host can lend" in machine.refusal(3, "join", line, "--name", "big", "--lend", HUGE)
    machine.motes("join", line, "--name", "big", "--lend", "spaces=5")
    assert "no host can lend" in machine.refusal(3, "lend", HUGE)
    assert machine.json("lend")["lends"]["spaces"] == 5
    machine.down()
    # As an earlier version kept it.
    offers = machine.home.offers()
    machine.home.write_json(machine.home.hosts_file, {"big": {**offers["big"], "spaces": 3_000_000_000}})
    told = machine.run("up")
    assert told.returncode == 8 and "motes lend --host big" in told.stderr and "motes leave" in told.stderr, told
    assert "host stop" not in told.stderr.splitlines()[-1], "which is refused on a machine that has joined"
    assert "motes lend spaces=default" in machine.refusal(3, "lend", "cpus=1")
    machine.motes("lend", "spaces=default")
    assert "lends to the cluster at" in machine.motes("up")
    assert "now: it lends" in machine.motes("lend").splitlines()
    machine.motes("leave")


def test_who_was_removed_is_told_so_everywhere_and_asks_the_keeper_less_and_less(
    keeper: Keeper, machine: RunningCluster
) -> None:
    machine.motes("join", keeper.invite(), "--name", "ex")
    assert "lends to the one at" in machine.motes("doctor")
    keeper.motes("host", "rm", "ex")
    wait_until(lambda: "its keeper has removed it" in machine.motes("lend"), "it knows")
    told = machine.json("lend")
    assert told["running"] and "motes leave" in told["away"] and told["keeper"]["connected"] is False
    ill = machine.run("doctor")
    assert ill.returncode == 1 and "NO  host ex: lends nothing now: its keeper has removed it" in ill.stdout
    assert "this machine lends to" not in ill.stdout
    assert "does not lend to the cluster" in machine.motes("up")
    # Also when it starts as one that nobody wants.
    machine.down()
    assert "its keeper has removed it" in machine.motes("up")
    log = machine.home.log("agent-ex").read_text()
    assert 1 <= log.count("Authorization Violation") <= 3, log
    # What to do next is what works.
    assert "first: motes leave" in machine.refusal(3, "join", keeper.invite(), "--name", "ex")
    left = machine.run("leave")
    assert (left.returncode, left.stderr) == (0, "")
    assert left.stdout == "this machine has left\n"
    machine.motes("join", keeper.invite(), "--name", "ex")
    machine.motes("leave")


def test_while_the_keeper_is_away_and_while_it_is_paused_a_machine_does_not_say_that_it_lends(tmp_path: Path) -> None:
    with Keeper(tmp_path / "keeper") as keeper, RunningCluster(tmp_path / "machine") as machine:
        keeper.listen()
        machine.motes("join", keeper.invite(), "--name", "b")
        keeper.down()
        wait_until(lambda: "its keeper is not there, for" in machine.motes("lend"), "it knows")
        assert "its keeper is not there" in machine.motes("up") and machine.run("doctor").returncode == 1
        machine.down()
        assert "does not lend to the cluster" in machine.motes("up")
        assert machine.json("lend")["keeper"]["away_s"] > 0
        keeper.up()
        wait_until(lambda: "now: it lends" in machine.motes("lend").splitlines(), "it lends again")
        machine.motes("pause")
        well = machine.run("doctor")
        assert "this machine is paused; lend again: motes resume" in well.stdout and "lends to" not in well.stdout
        machine.motes("resume")
        assert "this machine lends to the one at" in machine.motes("doctor")


def test_of_every_address_it_is_said_why_it_will_not_do_and_in_the_end_what_matters(
    keeper: Keeper, machine: RunningCluster, tmp_path: Path
) -> None:
    dead = f"127.0.0.1:{free_port()}"
    with Keeper(tmp_path / "strange") as strange:
        strange.listen()
        ours = invites.parse(keeper.invite())
        elsewhere = ours._replace(addresses=(f"127.0.0.1:{strange.port}", dead)).line()
        done = machine.run("join", elsewhere, "--name", "x")
    lines = done.stderr.splitlines()
    assert done.returncode == 8 and lines[0] == f"trying 127.0.0.1:{strange.port} ...", done
    assert "another cluster answers there" in lines[1] and lines[2] == f"trying {dead} ..."
    assert "no connection to NATS" in lines[3] and "another cluster answers there" in lines[-1]
    # A keeper that refuses has more to say than one that is not there.
    altered = ours._replace(addresses=(*ours.addresses, dead), expires_at=ours.expires_at + 60).line()
    assert "does not take this invite" in machine.refusal(3, "join", altered, "--name", "x")
    # Where nobody answers, it is not the loopback's reason that counts, which comes last.
    gone = machine.refusal(8, "join", ours._replace(addresses=(dead, "127.0.0.1:1")).line(), "--name", "x")
    assert dead in gone and not machine.home.keeper_file.exists()


def test_who_has_a_cluster_here_already_is_told_how_to_lend_all_the_same(keeper: Keeper, tmp_path: Path) -> None:
    line = keeper.invite()
    with RunningCluster(tmp_path / "used") as used, RunningCluster(tmp_path / "second") as second:
        used.up()
        told = used.refusal(3, "join", line, "--name", "both")
        assert "motes up was given here" in told and "MOTES_HOME=FOLDER" in told and "motes down" in told
        second.motes("join", line, "--name", "both")
        assert "motes leave" in second.refusal(3, "join", line, "--name", "both")


def test_an_address_that_a_running_cluster_does_not_serve_is_refused(keeper: Keeper) -> None:
    here = keeper.json("up", "--http", "127.0.0.1:0")["http"].removeprefix("http://")
    assert "up already" in keeper.motes("up", "--http", here) and "up already" in keeper.motes("up")
    for other in (f"0.0.0.0:{here.rpartition(':')[2]}", f"127.0.0.1:{free_port()}"):
        told = keeper.refusal(3, "up", "--http", other)
        assert here in told and "motes down" in told
    assert "is no address" in keeper.refusal(3, "up", "--http", "nonsense")
    assert "motes down" in keeper.refusal(3, "up", "--listen", "127.0.0.1:1")


def test_a_machine_that_has_joined_is_listed_also_while_it_is_off_or_paused_until_it_goes_for_good(
    tmp_path: Path,
) -> None:
    with Keeper(tmp_path / "keeper") as keeper, RunningCluster(tmp_path / "machine") as machine:
        keeper.listen()
        machine.motes("join", keeper.invite(), "--name", "zed")
        keeper.motes("host", "name", "lab", "zed")
        machine.down()
        assert keeper.hosts() == {"local": "up", "zed": "off"}
        (row,) = [line for line in keeper.motes("host", "ls").splitlines() if line.startswith("zed ")]
        assert row.split() == ["zed", "-", "off", "-", "-", "-", "-"]
        assert "host zed is off; last seen 20" in keeper.motes("host", "ls")
        shown = keeper.motes("host", "show", "zed")
        assert "zed, off; last seen 20" in shown and "lab" in shown
        seen_at = keeper.json("host", "show", "zed")["seen_at"]
        assert "it is off (see `motes host ls`)" in keeper.motes("host", "drain", "zed")
        keeper.motes("host", "drain", "zed", "--off")
        machine.up()
        wait_until(lambda: keeper.hosts()["zed"] == "up", "it is back")
        machine.motes("pause")
        assert keeper.hosts()["zed"] == "paused"
        # The keeper remembers, whatever it has been through.
        keeper.down()
        keeper.up()
        assert keeper.hosts()["zed"] == "paused"
        assert "zed is paused by its owner; last seen 20" in keeper.motes("host", "ls")
        assert keeper.json("host", "show", "zed")["seen_at"] > seen_at
        machine.motes("resume")
        wait_until(lambda: keeper.hosts()["zed"] == "up", "it lends again")
        # One that is cut off is missed, and known all the same.
        keeper.deploy("hello", HELLO)
        machine.kill("agent-zed")
        machine.down()
        keeper.motes("call", "hello.greet")
        keeper.motes("host", "rm", "zed")
        assert keeper.hosts() == {"local": "up"}
