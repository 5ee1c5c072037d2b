"""What a guest may try where no namespace hides the host from it: paths, processes and users are the host's own there.

Each attack also runs on a machine that has everything.
"""

from __future__ import annotations

import asyncio
import os
import socket
from pathlib import Path

import pytest
from tests.space import masks
from tests.space.trials import Lab, trial

from motes.errors import SpaceFailed
from motes.model.instance import EndReason

LACKING = (masks.NO_NAMESPACES, masks.NO_LANDLOCK)

REFUSED = {"EPERM", "EACCES", "ENOENT", "EXDEV", "ESRCH", "ENOSYS", "EINVAL", "EROFS", "EISCONN", "ENOTDIR"}

ATTACKS = """
    import ctypes, errno, fcntl, os, signal, socket, time
    from motes import function

    libc = ctypes.CDLL(None, use_errno=True)

    def attempt(work, *arguments, **named):
        try:
            work(*arguments, **named)
        except OSError as error:
            return errno.errorcode[error.errno]
        return "done"

    def call(name, *arguments):
        return "done" if getattr(libc, name)(*arguments) >= 0 else errno.errorcode[ctypes.get_errno()]

    def change(path, held):
        "All that can be done to a file without opening it to write; `held` is one that may be read."
        own = open("own", "w")
        readable = os.open(held, os.O_RDONLY)
        return {
            "chmod": attempt(os.chmod, path, 0o777),
            "fchmod": attempt(os.fchmod, readable, 0o777),
            "chown": attempt(os.chown, path, os.getuid(), os.getgid()),
            "utime": attempt(os.utime, path, (0, 0)),
            "futime": attempt(os.utime, readable, (0, 0)),
            "truncate": attempt(os.truncate, path, 0),
            "cut while opening": attempt(os.open, held, os.O_RDONLY | os.O_TRUNC),
            "attribute": attempt(os.setxattr, path, "user.mark", b"x"),
            "attributes": attempt(os.listxattr, path),
            "rename": attempt(os.rename, path, "mine"),
            "link": attempt(os.link, path, "linked"),
            "unlink": attempt(os.unlink, path),
            "beside": attempt(os.mkdir, path + "-beside"),
            "pipe beside": attempt(os.mkfifo, path + "-pipe"),
            "watch": call("inotify_add_watch", libc.inotify_init(), os.path.dirname(path).encode(), 0xFFF),
            "flags": attempt(fcntl.ioctl, readable, 0x40086602, b"\\0" * 8),
            "lease": attempt(fcntl.fcntl, readable, 1024, fcntl.F_WRLCK),
            "list": attempt(os.listdir, os.path.dirname(path)),
        }

    def send(path):
        pair = attempt(socket.socketpair, socket.AF_UNIX, socket.SOCK_DGRAM)
        if pair != "done":
            return pair
        one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        return attempt(one.sendto, b"from inside", path)

    def own_signal(pid, number):
        "What comes in on a pipe sends a signal to the owner that was named."
        read_end, write_end = os.pipe()
        found = [attempt(fcntl.fcntl, read_end, 10, number), attempt(fcntl.fcntl, read_end, fcntl.F_SETOWN, pid)]
        found.append(attempt(fcntl.fcntl, read_end, fcntl.F_SETFL, os.O_ASYNC))
        os.write(write_end, b"x")
        return found

    def disturb(pid):
        word = (ctypes.c_uint64 * 2)(0, 0)
        return {
            "kill": attempt(os.kill, pid, signal.SIGKILL),
            "group": attempt(os.killpg, os.getpgid(pid), signal.SIGKILL) if pid else "EPERM",
            "pidfd": attempt(signal.pidfd_send_signal, os.pidfd_open(pid), signal.SIGKILL) if pid else "EPERM",
            "limits": call("prlimit", pid, 7, word, None),
            "priority": attempt(os.setpriority, os.PRIO_PROCESS, pid, 19),
            "user": attempt(os.setpriority, os.PRIO_USER, os.getuid(), 19),
            "affinity": attempt(os.sched_setaffinity, pid, {0}),
            "environment": attempt(lambda: open(f"/proc/{pid}/environ", "rb").read()),
            "names": attempt(lambda: open(f"/proc/{pid}/status").read()),
            "processes": attempt(os.listdir, "/proc"),
        }

    @function
    def from_an_instance(path: str, held: str) -> dict: return change(path, held)
    @function
    def send_out(path: str) -> str: return send(path)
    @function
    def signal_owner(pid: int, number: int) -> list: return own_signal(pid, number)
    @function
    def silent() -> None:
        while True: time.sleep(1)
    @function
    def itself() -> str: return __file__
"""


@trial
async def test_no_file_can_be_changed_watched_or_cut_without_being_opened(lab: Lab) -> None:
    lab.folder.chmod(0o755)
    victim = lab.folder / "victim"
    victim.write_text("whole")
    before = os.stat(victim)
    app = await lab.functions(ATTACKS)
    held = await app.call("itself")
    source = app.space.view.code / "app.py"
    known = os.stat(source)
    found = await app.call("from_an_instance", {"path": str(victim), "held": held})
    assert set(found.values()) <= REFUSED, found
    after = os.stat(victim)
    assert (victim.read_text(), after.st_mode, after.st_mtime) == ("whole", before.st_mode, before.st_mtime)
    assert os.stat(source).st_mode == known.st_mode and os.stat(source).st_mtime == known.st_mtime
    assert source.read_text().startswith("\nimport"), "its own code was cut short"


@trial
async def test_module_code_changes_no_file_either(lab: Lab) -> None:
    victim = lab.folder / "victim"
    victim.write_text("whole")
    tried = f"os.chdir(os.environ['HOME'])\n    seen = change({str(victim)!r}, __file__)\n    os.unlink('own')"
    told = "@function\n    def told() -> dict: return seen"
    app = await lab.functions(f"{ATTACKS}\n    {tried}\n    seen['out'] = send({str(victim)!r})\n    {told}")
    found = await app.call("told")
    assert set(found.values()) <= REFUSED, found
    assert victim.read_text() == "whole"


@trial
async def test_no_datagram_reaches_a_socket_of_the_host(lab: Lab) -> None:
    lab.folder.chmod(0o777)
    path = lab.folder / "log"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as log:
        log.bind(str(path))
        log.setblocking(False)
        outside, _other = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        outside.sendto(b"from outside", str(path))
        assert log.recv(100) == b"from outside"
        app = await lab.functions(ATTACKS)
        assert await app.call("send_out", str(path)) in REFUSED
        with pytest.raises(BlockingIOError):
            log.recv(100)
        outside.close()
        _other.close()


@trial
async def test_no_descriptor_sends_a_signal_to_a_neighbour(lab: Lab) -> None:
    app = await lab.functions(ATTACKS)
    neighbour = app.spawn("silent")
    app.deliver(neighbour, b"")
    await app.until(lambda: neighbour in app.pids)
    # As it is called inside: namespaces count anew.
    status = Path(f"/proc/{app.pids[neighbour]}/status").read_text()
    inside = int(next(line for line in status.splitlines() if line.startswith("NSpid")).split()[-1])
    await app.call("signal_owner", {"pid": inside, "number": 9})
    await asyncio.sleep(0.1)
    assert neighbour not in app.ends, app.ends


@trial
async def test_module_code_cannot_touch_a_process_of_the_host(lab: Lab) -> None:
    victim = await asyncio.create_subprocess_exec("sleep", "60")
    if lab.lacks == masks.NO_NAMESPACES:
        told = "@function\n    def told() -> dict: return seen"
        tried = f"seen = disturb({victim.pid})\n    own_signal({victim.pid}, 9)"
        found = await (await lab.functions(f"{ATTACKS}\n    {tried}\n    {told}")).call("told")
        assert set(found.values()) <= REFUSED, found
        assert os.getpriority(os.PRIO_PROCESS, victim.pid) == os.getpriority(os.PRIO_PROCESS, 0)
    else:
        # Elsewhere there is no such number.
        app = await lab.functions(ATTACKS)
        await app.call("signal_owner", {"pid": victim.pid, "number": 9})
    assert victim.returncode is None
    victim.kill()
    await victim.wait()


@trial
async def test_a_zygote_that_names_a_process_of_the_host_as_its_own_ends_itself_only(lab: Lab) -> None:
    victim = await asyncio.create_subprocess_exec("sleep", "60")
    app = await lab.functions(
        f"""
        import os
        from motes import function
        from motes.space.guest.packets import Packets
        honest = Packets.send
        def lie(self, kind, text, descriptors=()):
            if kind == 22:
                try:
                    descriptors = [os.pidfd_open({victim.pid})]
                except OSError:
                    pass
            honest(self, kind, text, descriptors)
        Packets.send = lie
        @function
        def fine() -> int: return 1
        """
    )
    number = app.spawn("fine")
    app.space.end(number, EndReason.TIME_LIMIT)
    await app.end_of(number)
    if lab.lacks == masks.NO_NAMESPACES:
        await app.until(lambda: app.is_closed)
    assert victim.returncode is None, "the agent ended it"
    victim.kill()
    await victim.wait()


@trial
async def test_whoever_leaves_its_parents_ends_with_the_space_all_the_same(lab: Lab) -> None:
    app = await lab.functions(
        """
        import ctypes, os, time
        from motes import function
        for _ in range(5):
            if os.fork() == 0:
                os.setsid()
                ctypes.CDLL(None).prctl(1, 0, 0, 0, 0)
                if os.fork() == 0:
                    # It goes on under another id every now and then.
                    while os.fork() == 0: time.sleep(0.01)
                os._exit(0)
            os.wait()
        @function
        def fine() -> int: return 1
        """
    )
    assert await app.call("fine") == 1
    inside = app.space._enclosure.processes()
    assert len(inside) >= 6, inside
    folder = getattr(app.space._enclosure, "_folder", None)
    await app.space.close()
    assert not [pid for pid in inside if Path(f"/proc/{pid}").exists()]
    assert folder is None or not folder.exists()


@trial
async def test_what_needs_a_network_of_its_own_is_refused_with_what_to_do(lab: Lab) -> None:
    from tests.system.test_attacks import _Daemon

    from motes.space.daemon_space import DaemonSpace
    from motes.space.view import View

    view = View(code=lab.app("print('serves')"), system=True, processes=4)
    if lab.lacks != masks.NO_NAMESPACES:
        await (await DaemonSpace.open(view, ["python3", "app.py"], None, _Daemon())).close(0)
        return
    with pytest.raises(SpaceFailed, match=r"no namespaces.*no daemons.*motes doctor"):
        await DaemonSpace.open(view, ["python3", "app.py"], None, _Daemon())


@trial
async def test_a_zygote_that_names_its_monitor_as_an_instance_ends_with_all_that_it_started(lab: Lab) -> None:
    app = await lab.functions(
        """
        import ctypes, os, time
        from motes import function
        from motes.space.guest.packets import Packets
        honest = Packets.send
        def lie(self, kind, text, descriptors=()):
            if kind == 22:
                try:
                    descriptors = [os.pidfd_open(os.getppid())]
                except OSError:
                    pass
            honest(self, kind, text, descriptors)
        Packets.send = lie
        if os.fork() == 0:
            # This one does not end with its parent.
            os.setsid()
            ctypes.CDLL(None).prctl(1, 0, 0, 0, 0)
            if os.fork():
                os._exit(0)
            while True: time.sleep(1)
        os.wait()
        @function
        def fine() -> int: return 1
        """
    )
    inside = app.space._enclosure.processes()
    assert len(inside) >= 2, inside
    number = app.spawn("fine")
    app.space.end(number, EndReason.TIME_LIMIT)
    await app.end_of(number)
    await app.space.close()
    assert not [pid for pid in inside if Path(f"/proc/{pid}").exists()]


@trial
async def test_module_code_learns_nothing_of_the_network_and_the_mounts_of_the_host(lab: Lab) -> None:
    app = await lab.functions(
        """
        import os
        from motes import function
        seen = {}
        for name in ("net/tcp", "net/unix", "net/route", f"task/{os.getpid()}/net/tcp", "mountinfo", "cgroup"):
            try:
                seen[name] = len(open(f"/proc/self/{name}").readlines())
            except OSError as error:
                seen[name] = 0
        @function
        def told() -> dict: return seen
        """
    )
    found = await app.call("told")
    # A network of its own has nothing but the headings of these tables.
    assert max(lines for name, lines in found.items() if "net/" in name) <= 1, found
    if lab.lacks == masks.NO_NAMESPACES:
        assert not any(found.values()), found


@trial
async def test_whoever_forks_faster_than_it_is_buried_ends_with_the_space_too(lab: Lab) -> None:
    app = await lab.functions(
        """
        import ctypes, os
        from motes import function
        fork = ctypes.PyDLL(None).fork
        for _ in range(20):
            if os.fork() == 0:
                os.setsid()
                while True:
                    # Each parent ends at once; its child goes on.
                    if fork() > 0: os._exit(0)
            os.wait()
        @function
        def fine() -> int: return 1
        """
    )
    assert await app.call("fine") == 1
    await asyncio.wait_for(app.space.close(), 20)
    assert app.is_closed


@trial
async def test_what_module_code_takes_of_the_host_s_disk_and_timers_has_a_limit(lab: Lab) -> None:
    app = await lab.functions(
        """
        import ctypes, os
        from motes import function
        libc = ctypes.CDLL(None, use_errno=True)
        hidden = os.open(os.environ["HOME"] + "/hidden", os.O_RDWR | os.O_CREAT)
        os.unlink(os.environ["HOME"] + "/hidden")
        try:
            os.posix_fallocate(hidden, 0, 64 * 2**20)
            grown = "done"
        except OSError as error:
            grown = os.strerror(error.errno)
        os.close(hidden)
        timers, timer = 0, ctypes.c_void_p()
        while timers < 1000 and libc.timer_create(1, None, ctypes.byref(timer)) == 0: timers += 1
        @function
        def told() -> list: return [grown, timers]
        """
    )
    grown, timers = await app.call("told")
    assert grown != "done"
    assert lab.lacks != masks.NO_NAMESPACES or timers < 1000
