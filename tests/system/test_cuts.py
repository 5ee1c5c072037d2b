"""The network between two machines is cut, one way or both, is slow, loses packets: what runs comes through it."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Iterator

import pytest

from lab.cable import Cable
from lab.harm import End
from system import single_runs
from system.machines import KINDS, Machine, Machines, machines, needs_namespaces
from system.running import DEADLINE_S, wait_until

APP = """
    import time
    from motes import function

    @function(idle="60 s")
    def once(name: str, seconds: float) -> str:
        print("began", name, flush=True)
        time.sleep(seconds)
        return name

    @function(idempotent=True, idle="60 s")
    def nap(seconds: float) -> float:
        time.sleep(seconds)
        return seconds

    @function(scale=(1, 1))
    def single() -> int:
        return 1
"""
LISTEN = """
import http.server
http.server.HTTPServer(("127.0.0.1", 8000), http.server.SimpleHTTPRequestHandler).serve_forever()
"""
LONG_CUT_S = 10.0
one_way_or_both = pytest.mark.parametrize("towards", [None, "keeper", "machine"])


@pytest.fixture(scope="module", params=KINDS)
def lab(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machines]:
    """A keeper with its own host `local`, and the machine `far`, with the app `work`."""
    with machines(request.param, tmp_path_factory.mktemp("lab")) as made:
        made.join("far")
        made.keeper.deploy("work", APP)
        yield made


@pytest.fixture
def far(lab: Machines) -> Iterator[Machine]:
    """The machine, which is mended at the end."""
    (found,) = lab.machines
    yield found
    lab.mend(found)
    start_local(lab)
    lab.wait_for("far", "up")


def stop_local(lab: Machines) -> None:
    """From now on all work is the machine's."""
    lab.keeper.motes("host", "stop", "--name", "local")


def start_local(lab: Machines) -> None:
    if lab.state("local") != "up":
        lab.keeper.motes("host", "start", "--name", "local")


def begin(lab: Machines, name: str, seconds: float) -> subprocess.Popen[str]:
    return lab.keeper.start("call", "work.once", f"name={name}", f"seconds={seconds}", "--timeout", "50")


def begin_call(lab: Machines, name: str, seconds: float) -> subprocess.Popen[str]:
    """A call of `once` that runs when this returns, as it has said itself: lines on their way do not survive a cut."""
    with lab.keeper.start("logs", "work", "--follow") as following:
        call = begin(lab, name, seconds)
        assert following.stdout is not None
        next(line for line in following.stdout if f"began {name}" in line)
        following.kill()
    assert call.poll() is None, call.communicate()
    return call


def is_busy(lab: Machines, workload: str) -> bool:
    return any(each["state"] == "busy" for each in lab.keeper.instances(workload))


def runs(lab: Machines) -> Counter[str]:
    return single_runs.runs("".join(line["text"] for line in lab.keeper.json("logs", "work", "--limit", "1000")))


@one_way_or_both
def test_a_call_that_may_run_only_once_comes_through_a_cut_of_ten_seconds(
    lab: Machines, far: Machine, towards: End | None
) -> None:
    stop_local(lab)
    name = f"through-{towards}"
    call = begin_call(lab, name, LONG_CUT_S * 0.9)
    lab.line(far).cut(towards)
    time.sleep(LONG_CUT_S)
    lab.mend(far)
    assert call.communicate(timeout=DEADLINE_S) == (f'"{name}"\n', "")
    wait_until(lambda: runs(lab)[name], "what it wrote has arrived")
    assert runs(lab)[name] == 1


def test_an_answer_that_left_before_anybody_noticed_the_cut_comes_when_it_is_over(lab: Machines, far: Machine) -> None:
    stop_local(lab)
    call = begin_call(lab, "early", 3.5)
    lab.cut(far)
    time.sleep(6.0)
    lab.mend(far)
    assert call.communicate(timeout=DEADLINE_S) == ('"early"\n', "")
    assert runs(lab)["early"] <= 1


def test_a_call_that_takes_longer_than_the_cut_goes_on_and_is_answered(lab: Machines, far: Machine) -> None:
    stop_local(lab)
    call = begin_call(lab, "longer", 6.0)
    lab.cut(far)
    time.sleep(2.0)
    lab.mend(far)
    assert call.communicate(timeout=DEADLINE_S) == ('"longer"\n', "")
    wait_until(lambda: runs(lab)["longer"], "what it wrote has arrived")
    assert runs(lab)["longer"] == 1


def test_a_call_whose_host_stays_away_ends_with_an_error_and_is_not_run_again(lab: Machines, far: Machine) -> None:
    stop_local(lab)
    call = begin_call(lab, "lost", 4.0)
    lab.cut(far)
    start_local(lab)
    out, err = call.communicate(timeout=DEADLINE_S)
    assert (out, call.returncode) == ("", 7) and "whether it ran is unknown" in err
    assert lab.keeper.motes("call", "work.once", "name=meanwhile", "seconds=0") == '"meanwhile"\n'
    lab.mend(far)
    lab.wait_for("far", "up")
    wait_until(lambda: runs(lab)["lost"], "what it wrote has arrived")
    assert (runs(lab)["lost"], runs(lab)["meanwhile"]) == (1, 1)


def test_a_call_that_may_run_only_once_is_not_run_again_when_the_keeper_starts_anew(
    lab: Machines, far: Machine
) -> None:
    stop_local(lab)
    call = begin_call(lab, "restarted", 6.0)
    supervisor = int(lab.keeper.home.cluster()["pid"])
    lab.keeper.kill("nats-server")
    os.kill(supervisor, signal.SIGKILL)
    lab.keeper.motes("up", "--http", "127.0.0.1:0")
    out, err = call.communicate(timeout=DEADLINE_S)
    is_lost = (out, call.returncode) == ("", 7) and "whether it ran is unknown" in err
    assert is_lost or (out, err) == ('"restarted"\n', ""), (out, err)
    lab.wait_for("far", "up")
    # What the machine wrote before this has arrived before it.
    assert lab.keeper.motes("call", "work.once", "name=afterwards", "seconds=0") == '"afterwards"\n'
    wait_until(lambda: runs(lab)["afterwards"], "what it wrote has arrived")
    assert (runs(lab)["restarted"], runs(lab)["afterwards"]) == (1, 1)


@one_way_or_both
def test_calls_go_on_elsewhere_and_work_moves_while_a_machine_is_cut_off(
    lab: Machines, far: Machine, towards: End | None
) -> None:
    stop_local(lab)
    wait_until(lambda: lab.keeper.living("single") == ["far"], "the one instance is on the machine")
    start_local(lab)
    lab.line(far).cut(towards)
    for _ in range(5):
        assert lab.keeper.motes("call", "work.nap", "0.01", "--timeout", "20") == "0.01\n"
    wait_until(lambda: lab.keeper.living("single") == ["local"], "its work has moved")
    lab.mend(far)
    lab.wait_for("far", "up")
    # It comes back with the lease it had, which is worth nothing any more.
    wait_until(lambda: len(lab.keeper.living("single")) == 1, "one of the two instances has ended")
    assert lab.keeper.json("call", "work.single") == 1


def test_a_slow_and_lossy_line_loses_no_call_and_no_host(lab: Machines, far: Machine) -> None:
    stop_local(lab)
    lab.line(far).slow(delay_s=0.1, loss=0.02)
    calls = [
        lab.keeper.start("call", "work.once", f"name=slow-{number}", "seconds=0.5", "--timeout", "50")
        for number in range(6)
    ]
    assert [call.communicate(timeout=DEADLINE_S) for call in calls] == [(f'"slow-{n}"\n', "") for n in range(6)]
    assert lab.state("far") == "up"
    wait_until(lambda: sum(runs(lab)[f"slow-{n}"] for n in range(6)) >= 6, "what they wrote has arrived")
    assert {runs(lab)[f"slow-{n}"] for n in range(6)} == {1}


def test_a_frozen_machine_is_passed_over_and_comes_back_with_leases_that_are_worth_nothing(
    lab: Machines, far: Machine
) -> None:
    stop_local(lab)
    wait_until(lambda: lab.keeper.living("single") == ["far"], "the one instance is on the machine")
    start_local(lab)
    far.freeze()
    try:
        assert lab.keeper.motes("call", "work.nap", "0.01", "--timeout", "20") == "0.01\n"
        wait_until(lambda: lab.keeper.living("single") == ["local"], "its work has moved")
    finally:
        far.thaw()
    lab.wait_for("far", "up")
    wait_until(lambda: len(lab.keeper.living("single")) == 1, "one of the two instances has ended")
    assert lab.keeper.json("call", "work.single") == 1


def test_a_machine_whose_plug_is_pulled_is_missed_by_nobody_and_serves_when_it_is_up_again(
    lab: Machines, far: Machine
) -> None:
    call = lab.keeper.start("call", "work.nap", "3", "--timeout", "50")
    wait_until(lambda: is_busy(lab, "nap"), "it runs")
    lab.cut(far)  # No machine says goodbye when its power fails.
    far.vanish()
    assert call.communicate(timeout=DEADLINE_S) == ("3.0\n", "")
    lab.wait_for("far", "silent")
    lab.mend(far)
    far.motes("up")
    lab.wait_for("far", "up")
    stop_local(lab)
    assert lab.keeper.motes("call", "work.nap", "0.01") == "0.01\n"


@needs_namespaces
def test_a_machine_behind_a_firewall_that_lets_nothing_in_lends_all_the_same(lab: Machines, far: Machine) -> None:
    line = lab.line(far)
    if not isinstance(line, Cable):
        pytest.skip("a proxy is no firewall")
    try:
        assert line.only_outgoing, "as all stories here are told behind one"
        stop_local(lab)
        assert lab.keeper.motes("call", "work.nap", "0.01") == "0.01\n"
        listening = subprocess.Popen(far.inside("python3", "-c", LISTEN.replace("127.0.0.1", "0.0.0.0")))
        try:
            probe = "import socket; socket.create_connection(('10.77.0.2', 8000), 2)"
            done = subprocess.run(lab.keeper.inside("python3", "-c", probe), capture_output=True, text=True, timeout=30)
            assert "timed out" in done.stderr
            line.only_outgoing = False
            wait_until(lambda: subprocess.run(lab.keeper.inside("python3", "-c", probe), timeout=30).returncode == 0)
        finally:
            listening.kill()
            listening.wait()
    finally:
        line.only_outgoing = True
