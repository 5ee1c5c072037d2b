"""A cgroup of a host's own: found, entered, and left to nobody else. On a folder with the kernel's rules, and on the
machine's own cgroups as far as it has some to give."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from motes.model.host import Offer
from motes.space.cgroup import CONTROLLERS, Kernel, NoScope, enter
from space.kernel_of_cgroups import KernelOfCgroups

OFFER = Offer(cpus=0.5, memory_bytes=2**30, spaces=10)
SELF = os.getpid()
SERVICE = "/user.slice/motes.service"


def a_kernel(
    folder: Path, cgroup: str = SERVICE, handed_over: str = SERVICE, others: tuple[int, ...] = (7, 8), **more: object
) -> KernelOfCgroups:
    return KernelOfCgroups(folder / "cgroup", cgroup, [handed_over], [SELF, *others], **more)  # type: ignore[arg-type]


def test_the_agent_moves_into_a_cgroup_that_is_limited_and_all_others_into_one_beside_it(tmp_path: Path) -> None:
    kernel = a_kernel(tmp_path)
    scope = enter(OFFER, "attic", kernel=kernel)
    service = tmp_path / "cgroup" / SERVICE.strip("/")
    assert scope.folder == service / f"lent.attic.{SELF}" and scope.controllers == set(CONTROLLERS)
    assert kernel.pids[scope.folder] == {SELF}
    assert kernel.pids[service / "lent.others"] == {7, 8} and not kernel.pids[service]
    assert (scope.folder / "cpu.max").read_text() == "10000 20000"
    assert (scope.folder / "memory.max").read_text() == "1073741824"
    assert (scope.folder / "pids.max").read_text() == "1216"


def test_a_second_agent_started_by_the_moved_supervisor_gets_one_beside_the_first(tmp_path: Path) -> None:
    kernel = a_kernel(tmp_path, f"{SERVICE}/lent.others", others=())
    scope = enter(OFFER, "b", kernel=kernel)
    assert scope.folder.parent == tmp_path / "cgroup" / SERVICE.strip("/")


def test_where_systemd_runs_a_service_in_a_subgroup_the_group_above_is_the_one_handed_over(tmp_path: Path) -> None:
    scope = enter(OFFER, "b", kernel=a_kernel(tmp_path, f"{SERVICE}/main"))
    assert scope.folder.parent == tmp_path / "cgroup" / SERVICE.strip("/")


def test_who_is_forked_or_ends_while_all_are_moved_does_not_disturb(tmp_path: Path) -> None:
    kernel = a_kernel(tmp_path)
    kernel.newcomers, kernel.ended = [9, 10], {8}
    service = tmp_path / "cgroup" / SERVICE.strip("/")
    read = kernel.read

    def read_late(path: Path) -> str:
        text = read(path)
        if path == service / "cgroup.procs":
            kernel.pids[service].discard(8)
        return text

    kernel.read = read_late  # type: ignore[method-assign]
    enter(OFFER, "b", kernel=kernel)
    assert kernel.pids[service / "lent.others"] == {7, 9, 10}


def test_processes_that_come_without_end_are_not_fought(tmp_path: Path) -> None:
    kernel = a_kernel(tmp_path)
    kernel.newcomers = list(range(100, 300))
    with pytest.raises(NoScope, match="processes come into it without end"):
        enter(OFFER, "b", kernel=kernel)


def test_nothing_is_made_where_nothing_was_handed_over(tmp_path: Path) -> None:
    kernel = a_kernel(tmp_path, handed_over="/elsewhere")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(NoScope, match="was not handed over"):
        enter(OFFER, "b", kernel=kernel)
    assert sorted(tmp_path.rglob("*")) == before and kernel.pids[tmp_path / "cgroup" / SERVICE.strip("/")] >= {7, 8}


def test_with_some_of_the_controllers_those_are_used(tmp_path: Path) -> None:
    kernel = a_kernel(tmp_path)
    (tmp_path / "cgroup" / SERVICE.strip("/") / "cgroup.controllers").write_text("memory pids")
    scope = enter(OFFER, "b", kernel=kernel)
    assert scope.controllers == {"memory", "pids"} and not (scope.folder / "cpu.max").exists()


def test_without_any_controller_nobody_is_moved(tmp_path: Path) -> None:
    kernel = a_kernel(tmp_path)
    service = tmp_path / "cgroup" / SERVICE.strip("/")
    (service / "cgroup.controllers").write_text("hugetlb")
    with pytest.raises(NoScope, match="none of the controllers cpu, memory, pids"):
        enter(OFFER, "b", kernel=kernel)
    assert kernel.pids[service] == {SELF, 7, 8}


def test_what_ended_agents_left_is_removed_and_what_runs_stays(tmp_path: Path) -> None:
    kernel = a_kernel(tmp_path, f"{SERVICE}/lent.others", others=())
    service = tmp_path / "cgroup" / SERVICE.strip("/")
    for name in ("lent.old.5", "lent.alive.6", "theirs"):
        kernel.make(service / name)
    kernel.pids[service / "lent.alive.6"] = {6}
    enter(OFFER, "b", kernel=kernel)
    assert {path.name for path in kernel.below(service)} == {"lent.alive.6", "theirs", "lent.others", f"lent.b.{SELF}"}


def test_of_two_agents_that_start_together_each_gets_one_and_stays_in_it(tmp_path: Path) -> None:
    kernel = a_kernel(tmp_path)
    write, is_in = kernel.write, threading.Event()
    began = threading.Event()

    def write_late(path: Path, text: str) -> None:
        if path.parent.name.startswith("lent.a."):
            began.set()
            # Time for the other to do what it could do meanwhile.
            is_in.wait(1.0)
        write(path, text)

    def enter_as_b() -> None:
        began.wait(10.0)
        enter(OFFER, "b", kernel=kernel)
        is_in.set()

    kernel.write = write_late  # type: ignore[method-assign]
    other = threading.Thread(target=enter_as_b)
    other.start()
    scope = enter(OFFER, "a", kernel=kernel)
    other.join()
    assert (scope.folder / "memory.max").read_text() == "1073741824"


def test_a_kernel_without_an_idle_class_for_groups_takes_the_least_weight(tmp_path: Path) -> None:
    idle = Offer(idle_class=True)
    new = enter(idle, "b", kernel=a_kernel(tmp_path))
    assert (new.folder / "cpu.idle").read_text() == "1" and not (new.folder / "cpu.weight").read_text()
    (tmp_path / "old").mkdir()
    old = enter(idle, "b", kernel=a_kernel(tmp_path / "old", without=("cpu.idle", "memory.swap.max")))
    assert (old.folder / "cpu.weight").read_text() == "1"


def test_what_is_lent_may_change_while_it_runs(tmp_path: Path) -> None:
    scope = enter(OFFER, "b", kernel=a_kernel(tmp_path))
    scope.keep_to(Offer(cpus=2.0, memory_bytes=2**20))
    assert (scope.folder / "cpu.max").read_text() == "40000 20000"
    assert (scope.folder / "memory.max").read_text() == "1048576"


# The machine's own.

ENTER = """
import os, subprocess, sys
from motes.model.host import Offer
from motes.space.cgroup import NoScope, enter
uid, wanted, first = int(sys.argv[1]), tuple(sys.argv[2].split(",")), sys.argv[3] == "first"
def descend():
    os.setresgid(uid, uid, uid), os.setresuid(uid, uid, uid)
first and descend()
offer = Offer(cpus=0.25, memory_bytes=2**28, spaces=10)
try:
    scope = enter(offer, "real", None if first else uid, wanted=wanted)
except NoScope as error:
    sys.exit(f"no scope: {error}")
first or descend()
# Still its own, to be changed when the offer does.
scope.keep_to(offer)
assert all(os.access(file, os.W_OK) for file in scope.folder.glob("*.max")), list(scope.folder.glob("*"))
child = subprocess.run(["cat", "/proc/self/cgroup"], capture_output=True, text=True, check=True).stdout
print([scope.folder.name in child, sorted(scope.controllers)])
if "cpu" in scope.controllers:
    import time
    burning = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(4)]
    time.sleep(2)
    for each in burning:
        each.kill(), each.wait()
    used_us = int(next(line for line in open(scope.folder / "cpu.stat") if line.startswith("usage_usec")).split()[1])
    print(used_us <= 1_500_000, used_us)
    hungry = subprocess.run([sys.executable, "-c", "x = bytearray(2**29)"])
    print(hungry.returncode)
"""
ORDINARY = 61_100


@pytest.fixture
def handed_over() -> Iterator[Path]:
    """A folder of the machine's own cgroups that root has given to an ordinary user, with a process of his in it."""
    if os.geteuid() != 0:
        pytest.skip("only root can hand a cgroup over")
    mounts = (line.split() for line in Path("/proc/mounts").read_text().splitlines())
    top = next((Path(fields[1]) for fields in mounts if fields[2] == "cgroup2"), None)
    if top is None or not os.access(top, os.W_OK):
        pytest.skip("cgroups of version 2 are not mounted here, or read-only")
    folder, enabled = top / f"motes-test-{SELF}", (top / "cgroup.subtree_control").read_text().split()
    folder.mkdir()
    try:
        for path in (folder, folder / "cgroup.procs", folder / "cgroup.subtree_control"):
            os.chown(path, ORDINARY, ORDINARY)
        yield folder
    finally:
        for inner in [*(each for each in folder.iterdir() if each.is_dir()), *top.glob("lent.real.*")]:
            inner.rmdir()
        folder.rmdir()
        for name in set((top / "cgroup.subtree_control").read_text().split()) - set(enabled):
            Kernel().write(top / "cgroup.subtree_control", f"-{name}")


def entering(folder: Path, wanted: list[str], descends: str = "first") -> subprocess.CompletedProcess[str]:
    """A shell in the cgroup, as the supervisor is, starts a program that is the ordinary user's, `first` or later."""
    program = f'{sys.executable} -c "$PROGRAM" {ORDINARY} {",".join(wanted)} {descends}'
    start = f"echo $$ > {folder}/cgroup.procs && {program}; exit $?"
    environment = {**os.environ, "PROGRAM": textwrap.dedent(ENTER), "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.run(["sh", "-c", start], env=environment, capture_output=True, text=True, timeout=60)


def test_a_cgroup_that_root_gave_to_an_ordinary_user_is_entered_by_what_he_runs(handed_over: Path) -> None:
    available = Kernel().read(handed_over.parent / "cgroup.controllers").split()
    real = [name for name in CONTROLLERS if name in available]
    # Where version 1 has taken those three, any other shows that the rules are kept.
    wanted = real or available[:1]
    if not wanted:
        pytest.skip("this machine's cgroups of version 2 have no controller at all")
    enabled = Kernel().read(handed_over.parent / "cgroup.subtree_control").split()
    missing = [name for name in wanted if name not in enabled]
    Kernel().write(handed_over.parent / "cgroup.subtree_control", " ".join(f"+{name}" for name in missing))
    done = entering(handed_over, wanted)
    assert done.returncode == 0, done.stderr
    first, *rest = done.stdout.splitlines()
    assert first == str([True, sorted(wanted)])
    assert {each.name.partition(".")[0] for each in handed_over.iterdir() if each.is_dir()} == {"lent"}
    if "cpu" in real:
        assert rest[0].startswith("True"), rest
    if "memory" in real:
        assert rest[1] == "-9", rest


def test_root_takes_the_topmost_and_leaves_what_it_made_to_the_ordinary_user_that_it_becomes(handed_over: Path) -> None:
    top = handed_over.parent
    if not Kernel().is_roots(top):
        pytest.skip("here the topmost cgroup is systemd's, or a container's")
    wanted = Kernel().read(top / "cgroup.controllers").split()[:1]
    if not wanted:
        pytest.skip("this machine's cgroups of version 2 have no controller at all")
    done = entering(top, wanted, "later")
    assert done.returncode == 0 and done.stdout.splitlines()[0] == str([True, wanted]), done
    # Below it somebody else has decided what root's programs may use.
    done = entering(handed_over, wanted, "later")
    assert "was not handed over to this user" in done.stderr, done


def test_a_cgroup_of_root_is_not_entered_by_an_ordinary_user(handed_over: Path) -> None:
    for path in (handed_over, handed_over / "cgroup.procs", handed_over / "cgroup.subtree_control"):
        os.chown(path, 0, 0)
    done = entering(handed_over, ["cpu"])
    assert "was not handed over to this user" in done.stderr
    assert not [each for each in handed_over.iterdir() if each.is_dir()]
