"""The process tree, with the real nats-server and stand-ins for the other programs."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import signal
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from motes.errors import MotesError, NotFound, TimedOut, Unavailable
from motes.home import Home
from motes.supervisor import control, founding
from motes.supervisor.launch import END_WITH_PARENT, launch, running
from system.running import DEADLINE_S, family, is_alive, wait_until

ANY_PORT = "127.0.0.1:0"

STAND_IN = """
    import json, os, signal, sys, time
    from pathlib import Path

    name = sys.argv[sys.argv.index("--name") + 1] if "--name" in sys.argv else ""
    folder = Path(sys.argv[0]).parent
    (folder / "started").open("a").write(f"{sys.argv[1]} {name} {time.monotonic()}\\n")
    signal.signal(signal.SIGTERM, lambda *_: ((folder / "ended").open("a").write(f"{sys.argv[1]}\\n"), sys.exit(0)))
    behaviour = (folder / "behaviour").read_text() if (folder / "behaviour").exists() else ""
    if behaviour == f"{sys.argv[1]} fails":
        print("this is why")
        sys.exit(3)
    if behaviour == f"{sys.argv[1]} is stubborn":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if behaviour == f"{sys.argv[1]} is chatty":
        os.write(1, b"x" * (9 * 2**20))
    with os.fdopen(int(os.environ["MOTES_READY_FD"]), "w") as pipe:
        pipe.write("{}\\n")
    if behaviour == f"{sys.argv[1]} mumbles":
        import socket
        orders = socket.socket(fileno=int(os.environ["MOTES_ORDERS_FD"]))
        while heard := orders.recv(65536):
            for words in (b"\\xff", b"[]", b"x" * 60000, b"[" * 60000):
                orders.send(words)
            orders.send(json.dumps({"heard": json.loads(heard)}).encode())
    while True:
        time.sleep(1)
"""


class Tree:
    """A home whose supervisor runs stand-ins."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.home = Home(folder / "home")
        program = folder / "stand_in.py"
        program.write_text(textwrap.dedent(STAND_IN))
        names = ("controller", "gateway", "agent")
        table = folder / "programs.json"
        table.write_text(json.dumps({name: [sys.executable, "-S", str(program), name] for name in names}))
        self.arguments = ("--programs", str(table))
        self.supervisors: list[subprocess.Popen[bytes]] = []

    def up(self, *more: str, http: str = ANY_PORT) -> dict[str, Any]:
        launched = launch(self.home, http, (*self.arguments, *more))
        if launched.supervisor is not None:
            self.supervisors.append(launched.supervisor)
        return launched.facts

    def processes(self) -> dict[str, dict[str, Any]]:
        return {each["name"]: each for each in control.ask(self.home, "status", DEADLINE_S)["processes"]}

    def starts(self, program: str) -> list[float]:
        """When it was started, by the kernel's clock and in its own words."""
        lines = (self.folder / "started").read_text().splitlines()
        return [float(line.split()[-1]) for line in lines if line.startswith(f"{program} ")]

    def pid(self, name: str) -> int:
        return int(self.processes()[name]["pid"])

    def pids(self) -> list[int]:
        return [each["pid"] for each in self.processes().values()] + [self.supervisors[-1].pid]

    def wait_until_whole(self) -> None:
        """Until all that belongs to a keeper runs."""
        whole = {"nats-server", "controller", "gateway", "agent-local"}
        wait_until(lambda: {name for name, each in self.processes().items() if each["state"] == "running"} == whole)

    def wait_ended(self) -> int:
        return self.supervisors[-1].wait(DEADLINE_S)


@pytest.fixture
def tree(tmp_path: Path) -> Iterator[Tree]:
    tree = Tree(tmp_path)
    yield tree
    for supervisor in tree.supervisors:
        with contextlib.suppress(ProcessLookupError):
            supervisor.kill()
        supervisor.wait(DEADLINE_S)


def test_up_starts_everything_and_down_leaves_nothing(tree: Tree) -> None:
    facts = tree.up()
    assert facts == tree.home.cluster()
    assert facts["pid"] == tree.supervisors[-1].pid and facts["home"] == str(tree.home.path)
    assert facts["nats"] == tree.home.nats_url() and facts["http"].startswith("http://127.0.0.1:")
    assert {name: each["state"] for name, each in tree.processes().items()} == dict.fromkeys(
        ("nats-server", "controller", "gateway", "agent-local"), "running"
    )
    pids = tree.pids()
    control.ask_to_end(tree.home, DEADLINE_S)
    assert tree.wait_ended() == 0
    assert not any(map(is_alive, pids))
    assert sorted(path.name for path in tree.home.run.iterdir()) == ["hosts", "lock"]
    with pytest.raises(Unavailable, match="motes up"):
        tree.home.cluster()


def test_agents_end_first_and_the_controller_last(tree: Tree) -> None:
    tree.up()
    control.ask_to_end(tree.home, DEADLINE_S)
    assert (tree.folder / "ended").read_text().split() == ["agent", "gateway", "controller"]


def test_up_twice_finds_the_running_cluster(tree: Tree) -> None:
    assert tree.up() == tree.up()
    assert len(tree.supervisors) == 1


def test_several_at_once_make_one_cluster(tree: Tree) -> None:
    """Also of a home that has nothing in it yet."""
    code = "import sys; from motes.supervisor.launch import launch; from motes.home import Home; "
    code += "import motes.grants.issuing, motes.grants.jwt; print('begun', flush=True); sys.stdin.read(); "
    code += f"print(launch(Home({str(tree.home.path)!r}), {ANY_PORT!r}, {tree.arguments!r}).facts['pid'])"
    said, says = os.pipe()
    with os.fdopen(said) as waits:
        command = [sys.executable, "-c", code]
        several = [subprocess.Popen(command, stdin=waits, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    for each in several:
        assert each.stdout is not None and each.stdout.readline() == "begun\n"
    os.close(says)  # For this all wait.
    pids = {each.communicate(timeout=DEADLINE_S)[0] for each in several}
    assert len(pids) == 1 and pids.pop().strip() == str(tree.home.cluster()["pid"])
    control.ask_to_end(tree.home, DEADLINE_S)


@pytest.mark.parametrize("name", ["nats-server", "controller", "gateway", "agent-local"])
def test_a_killed_child_is_back(tree: Tree, name: str) -> None:
    tree.up()
    before = tree.processes()
    os.kill(before[name]["pid"], signal.SIGKILL)
    wait_until(lambda: tree.processes()[name]["state"] == "running" and tree.processes()[name]["restarts"] == 1)
    after = tree.processes()
    assert after[name]["last_end"] == "SIGKILL"
    assert all(after[other]["pid"] == before[other]["pid"] for other in before if other != name)
    assert tree.home.cluster()["nats"] == tree.home.nats_url()


def test_a_child_that_keeps_ending_is_started_more_and_more_rarely(tree: Tree) -> None:
    tree.up()
    (tree.folder / "behaviour").write_text("gateway fails")
    os.kill(tree.pid("gateway"), signal.SIGKILL)
    wait_until(lambda: tree.processes()["gateway"]["restarts"] >= 4)
    assert tree.processes()["gateway"]["last_end"] == "exit code 3"
    wait_until(lambda: len(tree.starts("gateway")) > 5)
    fourth, fifth = tree.starts("gateway")[4:6]
    assert fifth - fourth > 0.7
    (tree.folder / "behaviour").unlink()
    wait_until(lambda: tree.processes()["gateway"]["state"] == "running")


def test_when_the_supervisor_is_killed_everything_ends_and_can_start_again(tree: Tree) -> None:
    tree.up()
    pids = tree.pids()
    tree.supervisors[-1].kill()
    wait_until(lambda: not any(map(is_alive, pids)))
    tree.wait_ended()
    with pytest.raises(Unavailable):
        tree.home.cluster()
    assert running(tree.home) is None
    assert set(tree.up()) == {"http", "nats", "home", "pid"}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("after_s", [0.0, 0.03, 0.06, 0.09, 0.12, 0.2])
def test_a_signal_at_any_moment_ends_all_in_order(tree: Tree, number: signal.Signals, after_s: float) -> None:
    founding.found(tree.home)
    command = [sys.executable, "-m", "motes.supervisor", "--home", str(tree.home.path), "--http", ANY_PORT]
    supervisor = subprocess.Popen([*command, *tree.arguments])
    tree.supervisors.append(supervisor)
    time.sleep(after_s)
    seen = family(supervisor.pid)[1:]
    supervisor.send_signal(number)
    supervisor.wait(DEADLINE_S)
    wait_until(lambda: not any(map(is_alive, seen)))
    assert not tree.home.cluster_file.exists() and not tree.home.supervisor_socket.exists()


def test_a_second_signal_waits_for_nobody(tree: Tree) -> None:
    (tree.folder / "behaviour").write_text("agent is stubborn")
    tree.up("--grace", str(100 * DEADLINE_S))
    pids = tree.pids()
    supervisor = tree.supervisors[-1]
    supervisor.terminate()
    wait_until(lambda: not tree.home.cluster_file.exists())
    supervisor.terminate()
    supervisor.wait(DEADLINE_S)
    assert not any(map(is_alive, pids))


def test_who_does_not_end_when_told_is_killed(tree: Tree) -> None:
    (tree.folder / "behaviour").write_text("controller is stubborn")
    tree.up()
    pids = tree.pids()
    control.ask_to_end(tree.home, DEADLINE_S)
    tree.wait_ended()
    assert not any(map(is_alive, pids))


@pytest.mark.parametrize("name", ["controller", "gateway", "agent"])
def test_a_program_that_does_not_get_ready_fails_up_with_its_log(tree: Tree, name: str) -> None:
    (tree.folder / "behaviour").write_text(f"{name} fails")
    with pytest.raises(Unavailable, match=rf"{name}.* exit code 3 .*{name}.*\.log") as caught:
        tree.up()
    assert caught.value.detail["log"].splitlines()[-1] == "this is why"
    assert running(tree.home) is None and not tree.home.supervisor_socket.exists()


def test_a_port_in_use_is_named_with_the_next_step(tree: Tree) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(Unavailable, match=rf"port {port} on 127\.0\.0\.1 is in use; .*motes up --http"):
            tree.up(http=f"127.0.0.1:{port}")


@pytest.mark.parametrize("http", ["", "8080", "127.0.0.1:", "127.0.0.1:x", "127.0.0.1:99999", ":8080"])
def test_an_address_that_is_none_is_one_clear_error(tree: Tree, http: str) -> None:
    with pytest.raises(MotesError, match="is no address"):
        tree.up(http=http)


def test_nats_keeps_its_port_unless_somebody_took_it(tree: Tree) -> None:
    first = tree.up()["nats"]
    control.ask_to_end(tree.home, DEADLINE_S)
    tree.wait_ended()
    assert tree.up()["nats"] == first
    control.ask_to_end(tree.home, DEADLINE_S)
    tree.wait_ended()
    with socket.create_server(("127.0.0.1", int(first.rpartition(":")[2]))):
        assert tree.up()["nats"] != first


def test_hosts_start_and_stop_while_the_others_go_on(tree: Tree) -> None:
    tree.up()
    founding.admit_host(tree.home, "b")
    before = tree.processes()
    answer = control.ask(tree.home, "start-host", DEADLINE_S, name="b")
    assert tree.processes()["agent-b"]["pid"] == answer["pid"]
    assert control.ask(tree.home, "start-host", DEADLINE_S, name="b")["pid"] == answer["pid"]
    control.ask(tree.home, "stop-host", DEADLINE_S, name="b")
    assert not is_alive(answer["pid"]) and tree.processes() == before
    with pytest.raises(Unavailable, match="no host 'b'"):
        control.ask(tree.home, "stop-host", DEADLINE_S, name="b")


def test_a_host_that_is_wanted_again_while_it_ends_is_there_at_the_end(tree: Tree) -> None:
    tree.up()
    before = tree.pid("agent-local")
    with control._connected(tree.home, DEADLINE_S) as stops, control._connected(tree.home, DEADLINE_S) as starts:
        os.kill(before, signal.SIGSTOP)  # It ends as slowly as a host that lets calls finish.
        stops.sendall(b'{"do": "stop-host", "name": "local"}\n')
        for _ in range(2):
            assert tree.pid("agent-local") == before, "and what was asked before this has been heard"
            starts.sendall(b'{"do": "start-host", "name": "local"}\n')
        assert tree.pid("agent-local") == before
        os.kill(before, signal.SIGCONT)
        assert json.loads(stops.recv(4096)) == {"name": "agent-local"}
        answers = starts.makefile()
        told = [json.loads(answers.readline()) for _ in range(2)]
    after = tree.pid("agent-local")
    assert told == [{"name": "agent-local", "pid": after}] * 2 and after != before


def test_a_host_that_cannot_be_started_again_when_it_has_ended_takes_nobody_along(tree: Tree) -> None:
    tree.up()
    before = tree.pid("agent-local")
    with control._connected(tree.home, DEADLINE_S) as stops, control._connected(tree.home, DEADLINE_S) as starts:
        os.kill(before, signal.SIGSTOP)
        stops.sendall(b'{"do": "stop-host", "name": "local"}\n')
        assert tree.pid("agent-local") == before, "and what was asked before this has been heard"
        starts.sendall(b'{"do": "start-host", "name": "local"}\n')
        assert tree.pid("agent-local") == before
        tree.home.hosts_file.write_text("[")
        os.kill(before, signal.SIGCONT)
        assert json.loads(stops.recv(4096)) == {"name": "agent-local"}
        assert "mend or delete it" in json.loads(starts.recv(4096))["error"]
    assert tree.processes().keys() == {"nats-server", "controller", "gateway"}


def test_a_host_that_does_not_start_is_given_up_with_a_reason(tree: Tree) -> None:
    tree.up()
    (tree.folder / "behaviour").write_text("agent fails")
    with pytest.raises(Unavailable, match="agent-b ended with exit code 3"):
        control.ask(tree.home, "start-host", DEADLINE_S, name="b")
    assert "agent-b" not in tree.processes()


@pytest.mark.parametrize(
    "line",
    [
        b"\n",
        b"[]\n",
        b"{",
        b"[" * 60_000,
        b"\xff\xfe\n",
        b'{"do": "dance"}\n',
        b'{"do": "start-host", "name": "../x"}\n',
    ],
)
def test_nonsense_on_the_control_socket_harms_nothing(tree: Tree, line: bytes) -> None:
    tree.up()
    with control._connected(tree.home, DEADLINE_S) as connection:
        connection.sendall(line)
        answer = connection.recv(4096)
    assert answer == b"" or "error" in json.loads(answer)
    assert len(tree.processes()) == 4


@pytest.mark.parametrize("request_", [{"do": "rise"}, {"do": "start-host", "name": "b"}])
def test_a_request_that_cannot_be_done_ends_nothing(tree: Tree, request_: dict[str, str]) -> None:
    tree.up()
    tree.home.keeper_file.unlink(missing_ok=True)
    tree.home.hosts_file.write_text("[")
    with pytest.raises(Unavailable):
        control.ask(tree.home, request_.pop("do"), DEADLINE_S, **request_)
    assert len(tree.processes()) == 4


def test_a_keeper_whose_going_cannot_be_written_stays_the_keeper(tree: Tree) -> None:
    tree.up()
    tree.home.moved_file.mkdir()
    before = tree.pid("agent-local")
    with control.talk(tree.home, DEADLINE_S) as asked:
        asked("freeze")
        with pytest.raises(Unavailable, match="it stays here"):
            asked("hand-over", facts={"moved": {"address": "b:1"}, "keeper": {"addresses": ["b:1"]}})
    tree.wait_until_whole()
    assert tree.pid("agent-local") == before and not tree.home.keeper_file.exists()


def test_a_keeper_that_stays_waits_for_a_disk_on_which_that_can_be_written(tree: Tree) -> None:
    """What cannot be written then ends nothing: the hosts here serve on."""
    tree.up()
    tree.home.moved_file.mkdir()
    before = tree.pid("agent-local")
    with control.talk(tree.home, DEADLINE_S) as asked:
        asked("freeze")
        config = tree.home.nats_config.rename(tree.folder / "nats.conf")
        tree.home.nats_config.mkdir()
        with pytest.raises(Unavailable, match="it stays here"):
            asked("hand-over", facts={"moved": {"address": "b:1"}, "keeper": {"addresses": ["b:1"]}})
    assert tree.processes().keys() == {"agent-local"} and tree.pid("agent-local") == before
    tree.home.nats_config.rmdir()
    config.rename(tree.home.nats_config)
    tree.wait_until_whole()
    assert tree.pid("agent-local") == before


def test_a_home_deeper_than_a_sockets_path_may_be_works(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 100) / ("e" * 100)
    deep.mkdir(parents=True)
    tree = Tree(deep)
    try:
        tree.up()
        assert len(tree.processes()) == 4
        control.ask_to_end(tree.home, DEADLINE_S)
    finally:
        for supervisor in tree.supervisors:
            supervisor.kill()
            supervisor.wait(DEADLINE_S)


def test_a_chatty_childs_log_stays_short(tree: Tree) -> None:
    (tree.folder / "behaviour").write_text("gateway is chatty")
    tree.up()
    wait_until(lambda: tree.home.log("gateway").stat().st_size < 2**20)
    assert tree.home.log("gateway").with_suffix(".log.1").stat().st_size > 8 * 2**20


def test_children_hold_none_of_the_callers_streams(tree: Tree) -> None:
    tree.up()
    for pid in tree.pids():
        streams = [os.readlink(f"/proc/{pid}/fd/{number}") for number in range(3)]
        assert streams[0] == "/dev/null"
        assert all(stream.startswith(str(tree.home.logs)) for stream in streams[1:])


def test_what_lies_in_the_home_is_for_its_owner_only(tree: Tree) -> None:
    old = os.umask(0)
    try:
        tree.up()
    finally:
        os.umask(old)
    assert tree.home.path.stat().st_mode & 0o077 == 0
    for folder in (tree.home.keys, tree.home.users):
        assert list(folder.iterdir())
        assert all(path.stat().st_mode & 0o777 == 0o600 for path in folder.iterdir())


def test_a_tree_in_the_foreground_ends_with_whoever_started_it(tree: Tree) -> None:
    code = "import time; from motes.supervisor.launch import launch; from motes.home import Home; "
    code += f"launch(Home({str(tree.home.path)!r}), {ANY_PORT!r}, {(*tree.arguments, *END_WITH_PARENT)!r}); "
    code += "print('up', flush=True); time.sleep(1000)"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as starter:
        assert starter.stdout is not None and starter.stdout.readline() == b"up\n"
        pids = [each["pid"] for each in tree.processes().values()] + [tree.home.cluster()["pid"]]
        starter.kill()
    wait_until(lambda: not any(map(is_alive, pids)))


def test_a_home_that_cannot_be_written_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(Unavailable, match="MOTES_HOME"):
        launch(Home(tmp_path / "file" / "home"), ANY_PORT)
    with pytest.raises(Unavailable, match="MOTES_HOME"):
        launch(Home("/proc/motes"), ANY_PORT)


@pytest.mark.parametrize(
    ("number", "words"),
    [(errno.ENOSPC, "full disk"), (errno.EROFS, "cannot be written"), (errno.EIO, "cannot be used")],
)
def test_a_full_or_broken_disk_is_told_apart(tmp_path: Path, number: int, words: str) -> None:
    home = Home(tmp_path)
    with pytest.raises(Unavailable, match=f"{words}.*MOTES_HOME"), home.writing():
        raise OSError(number, os.strerror(number))


def test_an_unknown_nats_server_never_runs(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NATS_SERVER", str(tree.folder / "none"))
    with pytest.raises(Unavailable, match="is no program"):
        tree.up()


def test_credentials_of_nobody_are_not_found(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="nobody"):
        Home(tmp_path).credentials("nobody")


def test_what_a_machines_owner_says_reaches_the_host_and_the_answer_comes_back(tree: Tree) -> None:
    (tree.folder / "behaviour").write_text("agent mumbles")
    tree.up()
    assert control.ask(tree.home, "lend", DEADLINE_S, name="local") == {"heard": tree.home.offers()["local"]}
    tree.home.write_json(tree.home.hosts_file, {"local": {"spaces": 1}})
    assert control.ask(tree.home, "lend", DEADLINE_S, name="local") == {"heard": {"spaces": 1}}
    with pytest.raises(Unavailable, match="no host 'other' runs here"):
        control.ask(tree.home, "lend", DEADLINE_S, name="other")
    before = tree.pid("agent-local")
    os.kill(before, signal.SIGKILL)
    wait_until(lambda: tree.processes()["agent-local"]["restarts"] == 1)
    wait_until(lambda: tree.processes()["agent-local"]["state"] == "running")
    assert control.ask(tree.home, "lend", DEADLINE_S, name="local") == {"heard": {"spaces": 1}}, "by a new socket"


def test_a_host_that_does_not_listen_holds_up_nobody_else(tree: Tree) -> None:
    tree.up()
    tree.home.write_json(tree.home.hosts_file, {"local": {"note": "x" * 30_000}})
    with pytest.raises(Unavailable, match="does not hear now"):
        for _ in range(100):
            with contextlib.suppress(TimedOut):
                control.ask(tree.home, "lend", 0.05, name="local")
    tree.home.hosts_file.write_text("{")
    with pytest.raises(Unavailable, match="cannot be read"):
        control.ask(tree.home, "lend", DEADLINE_S, name="local")
    assert tree.processes()["agent-local"]["state"] == "running"
