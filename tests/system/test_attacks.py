"""What a guest may try against its host, its neighbours and the agent: each attack run in a real space.

Where an attack could also fail for a dull reason, the same is done outside first, where it must succeed.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import sys
import threading
import time
from pathlib import Path

import pytest
from tests.space import masks
from tests.space.trials import Functions, Lab, on, trial

from motes.errors import LimitExceeded, SpaceFailed
from motes.model.instance import EndReason
from motes.space.guest.wire import ANSWER_HEAD

LACKING = (masks.NO_LANDLOCK, masks.NO_NAMESPACES)

ATTACKS = """
    import ctypes, errno, mmap, os, signal, socket, stat, struct, subprocess, sys, threading, time
    from motes import function

    libc = ctypes.CDLL(None, use_errno=True)
    libc.syscall.restype = ctypes.c_long

    def attempt(work, *arguments):
        "The name of the error that the kernel gives, or what came of it."
        try:
            return ["done", repr(work(*arguments))]
        except OSError as error:
            return ["refused", errno.errorcode.get(error.errno, str(error.errno))]

    def call(number, *words):
        ctypes.set_errno(0)
        result = libc.syscall(number, *(ctypes.c_long(word) for word in words))
        return "done" if result >= 0 else errno.errorcode[ctypes.get_errno()]

    @function
    def read(paths: list[str]) -> list[list[str]]:
        return [attempt(lambda: open(path, "rb").read(100)) for path in paths]

    @function
    def listing(paths: list[str]) -> list[list[str]]:
        return [attempt(os.listdir, path) for path in paths]

    @function
    def write(paths: list[str]) -> list[list[str]]:
        return [attempt(lambda: open(path, "w").write("x")) for path in paths]

    def kind(descriptor):
        try:
            mode = os.fstat(descriptor).st_mode
        except OSError:
            return None
        names = {stat.S_IFCHR: "device", stat.S_IFIFO: "pipe", stat.S_IFSOCK: "socket", stat.S_IFDIR: "folder"}
        return names.get(stat.S_IFMT(mode), "file")

    @function
    def whoami() -> dict:
        header, rights = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
        return {
            "pid": os.getpid(), "uid": os.getuid(), "host": socket.gethostname(), "env": dict(os.environ),
            "capabilities": [libc.capget(header, rights), *rights], "privileges": libc.prctl(39, 0, 0, 0, 0),
            "descriptors": {n: kind(n) for n in range(1024) if kind(n)},
        }

    @function
    def touch_neighbour(pid: int, folder: str) -> dict:
        word = struct.pack("<QQ", 0, 0)
        address = ctypes.addressof(ctypes.create_string_buffer(word))
        return {
            "kill": attempt(os.kill, pid, signal.SIGKILL)[1],
            "probe": attempt(os.kill, pid, 0)[1],
            "zygote": attempt(os.kill, os.getppid(), signal.SIGKILL)[1],
            "everybody": attempt(os.kill, -1, signal.SIGKILL)[1],
            "group": attempt(os.killpg, os.getpgid(0), signal.SIGKILL)[1],
            "queue": call(129, pid, 9, address),
            "tkill": call(200, pid, 9),
            "pidfd": call(434, pid, 0),
            "ptrace": call(101, 16, pid, 0, 0),
            "process_vm_readv": call(310, pid, address, 1, address, 1, 0),
            "memory": attempt(lambda: open(f"/proc/{pid}/mem", "rb"))[1],
            "environment": attempt(lambda: open(f"/proc/{pid}/environ", "rb").read())[1],
            "files": attempt(os.listdir, f"/proc/{pid}/fd")[1],
            "status": attempt(lambda: open(f"/proc/{pid}/status").read())[1],
            "limits": call(302, pid, 7, address, 0),
            "affinity": attempt(os.sched_setaffinity, pid, {0})[1],
            "priority": attempt(os.setpriority, os.PRIO_PROCESS, pid, 19)[1],
            "folder": attempt(os.listdir, folder)[1],
            "its file": attempt(lambda: open(folder + "/secret").read())[1],
            "plant": attempt(lambda: open(folder + "/planted", "w"))[1],
            "tmp": attempt(os.listdir, "/tmp")[1],
            "beside": attempt(os.mkdir, f"/tmp/beside-{os.getpid()}-{pid}")[1],
        }

    @function
    def keep_secret() -> list:
        open("secret", "w").write("secret")
        return [os.getpid(), os.getcwd()]

    @function
    def sockets() -> dict:
        families = {"inet": 2, "inet6": 10, "unix": 1, "netlink": 16, "packet": 17, "vsock": 40, "alg": 38}
        made = {name: attempt(socket.socket, family, socket.SOCK_STREAM if family != 17 else socket.SOCK_RAW)[1]
                for name, family in families.items()}
        return made | {"pair": attempt(lambda: [end.close() for end in socket.socketpair()])[0]}

    @function
    def calls(numbers: dict[str, int]) -> dict[str, str]:
        return {name: call(number, 0, 0, 0, 0, 0, 0) for name, number in numbers.items()}

    @function
    def namespaces() -> dict:
        flags = {"user": 0x10000000, "mount": 0x20000, "net": 0x40000000}
        made = {name: call(56, flag | 17, 0, 0, 0, 0) for name, flag in flags.items()}
        made |= {"another": call(272, 0x10020000), "bind": call(165, 0, 0, 0, 0x1000, 0)}
        return made | {"fork": call(56, 17, 0, 0, 0, 0)}

    @function
    def spawn() -> dict:
        return {
            "fork": attempt(os.fork)[1],
            "spawn": attempt(os.posix_spawn, "/python/bin/python3", ["python3"], {})[1],
            "exec": attempt(os.execv, "/python/bin/python3", ["python3"])[1],
            "clone3": call(435, 0, 88),
            "vfork": call(58),
            "subprocess": attempt(subprocess.run, ["/python/bin/python3", "-V"])[1],
        }

    @function
    def terminal() -> dict:
        requests = {"TIOCSTI": 0x5412, "high bits": 0x5412 | 1 << 40, "other": 0x5401}
        return {name: call(16, 0, request, 0) for name, request in requests.items()}

    @function
    def lift_limits() -> dict:
        import resource
        unlimited = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
        def lift(which):
            try:
                resource.setrlimit(which, unlimited)
                return "done"
            except (ValueError, OSError):
                return "refused"
        names = ("RLIMIT_DATA", "RLIMIT_FSIZE", "RLIMIT_NOFILE", "RLIMIT_CORE")
        return {name: lift(getattr(resource, name)) for name in names}

    @function
    def bytearrays(): return len([bytearray(2**20) for _ in range(10**4)])
    @function
    def allocate(megabytes: int) -> int: return len(bytearray(megabytes * 2**20))
    @function
    def private_maps():
        maps = [mmap.mmap(-1, 2**20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) for _ in range(10**4)]
        return len(maps)
    @function
    def shared_maps(): return attempt(mmap.mmap, -1, 2**20)
    @function
    def zero_device(): return attempt(os.open, "/dev/zero", os.O_RDWR)
    @function
    def heap(): return libc.malloc and [libc.sbrk(2**20) for _ in range(10**4)].count(-1) > 0

    @function
    def thread_bomb():
        import _thread
        _thread.stack_size(32 * 2**10)
        # Not by Thread.start(), which waits for ever for one that has no memory left to begin.
        while True: _thread.start_new_thread(time.sleep, (99,))

    @function
    def fill_tmp() -> int:
        n = 0
        while True:
            n += 1
            with open(f"file{n}", "wb") as file: file.write(bytes(2**20))

    @function
    def links() -> dict:
        os.symlink("/proc/1/root/etc/shadow", "link")
        return {
            "symlink": attempt(lambda: open("link").read())[1],
            "root": attempt(os.listdir, "/proc/1/root")[1],
            "parent": attempt(os.listdir, f"/proc/{os.getppid()}/cwd")[1],
            "hard": attempt(os.link, "/app/app.py", "hard")[1],
        }

    @function
    def raw_frames(data: bytes) -> None:
        os.write(3, data)
        time.sleep(30)

    @function
    def block_the_channel() -> str:
        import fcntl
        for descriptor in (1, 2, 3):
            flags = fcntl.fcntl(descriptor, fcntl.F_GETFL)
            fcntl.fcntl(descriptor, fcntl.F_SETFL, flags & ~os.O_NONBLOCK)
        return "done"

    @function
    def silent() -> None:
        while True: time.sleep(1)

    @function
    def close_all() -> None:
        os.closerange(0, 100)
        time.sleep(30)

    @function
    def fine() -> int: return 1
"""


async def _attacker(lab: Lab) -> Functions:
    return await lab.functions(ATTACKS)


@trial
async def test_no_file_of_the_host_can_be_read(lab: Lab) -> None:
    secret = lab.folder / "secret"
    secret.write_text("secret")
    assert secret.read_text() == "secret"
    app = await _attacker(lab)
    paths = [
        str(secret),
        "/etc/shadow",
        "/etc/hostname",
        str(Path.home() / ".profile"),
        __file__,
        "/proc/kcore",
        "/proc/1/root/etc/shadow",
    ]
    results = await app.call("read", paths)
    assert {verb for verb, _ in results} == {"refused"}, results
    folders = await app.call("listing", ["/home", "/root", "/usr", "/var", "/sys", "/run", str(lab.folder)])
    # Without namespaces it may see that they are there.
    assert folders == [["refused", "EACCES" if lab.lacks == masks.NO_NAMESPACES else "ENOENT"]] * 7
    users = (await app.call("read", ["/etc/passwd"]))[0][1]
    assert "daemon" not in users and ("mote" in users or lab.lacks == masks.NO_NAMESPACES)


@trial
async def test_nothing_can_be_written_but_its_own_folder(lab: Lab) -> None:
    app = await _attacker(lab)
    # Where there is no Landlock its own folder is all of /tmp.
    beside = ["/tmp/x"] if lab.lacks != masks.NO_LANDLOCK else []
    paths = [
        *beside,
        "/own-proc/x",
        "/own-proc/self/mem",
        "/x",
        "/app/x",
        "/app/app.py",
        "/etc/passwd",
        "/dev/x",
        "/dev/shm/x",
        "/motes/motes/x",
        "/python/x",
    ]
    results = await app.call(
        "write", [*paths, "/proc/sys/kernel/core_pattern", "/proc/sysrq-trigger", "/proc/self/oom_score_adj"]
    )
    assert {verb for verb, _ in results[:-1]} == {"refused"}, results
    assert (await app.call("write", ["mine"]))[0][0] == "done"


@trial
async def test_the_environment_of_the_host_is_out_of_reach(lab: Lab) -> None:
    os.environ["SECRET_OF_THE_AGENT"] = "s3cret"
    app = await _attacker(lab)
    seen = await app.call("whoami")
    assert "s3cret" not in str(seen) and "SECRET_OF_THE_AGENT" not in seen["env"]
    # Bubblewrap's own, as a debugger of the host sees it: it was given none.
    init = app.space._enclosure.init_pid()
    if lab.lacks != masks.NO_NAMESPACES:
        assert Path(f"/proc/{init}/environ").read_bytes() == b""
    assert b"--ro-bind" not in Path(f"/proc/{init}/cmdline").read_bytes()
    results = await app.call(
        "read", ["/proc/1/environ", "/proc/1/cmdline", "/proc/2/environ", f"/proc/{os.getpid()}/environ"]
    )
    assert {verb for verb, _ in results} == {"refused"}, results


@trial
async def test_module_code_sees_no_environment_either(lab: Lab) -> None:
    os.environ["SECRET_OF_THE_AGENT"] = "s3cret"
    app = await lab.functions(
        """
        import os
        from motes import function
        seen = []
        for path in ("/proc/1/environ", "/proc/self/environ", "/proc/1/cmdline"):
            try:
                seen.append(open(path).read())
            except OSError as error:
                seen.append(str(error))
        @function
        def told() -> list: return seen
        """
    )
    assert "s3cret" not in str(await app.call("told"))


@trial
async def test_a_guest_has_no_rights_and_an_ordinary_user_on_the_host(lab: Lab) -> None:
    app = await _attacker(lab)
    number = app.spawn("whoami")
    seen = app.value(await app.ask(number))
    assert seen["capabilities"] == [0] * 7 and seen["privileges"] == 1
    if lab.lacks != masks.NO_NAMESPACES:
        assert seen["uid"] == 1000 and seen["host"] == "space" != socket.gethostname()
    for pid in (app.pids[number], app.space.pid):
        status = dict(
            line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines() if ":\t" in line
        )
        assert "0" not in status["Uid"].split() and "0" not in status["Gid"].split()
        assert status["CapEff"] == status["CapPrm"] == "0" * 16
        assert lab.lacks == masks.NO_NAMESPACES or status["CapBnd"] == "0" * 16
        assert status["Seccomp"] == "2" and status["NoNewPrivs"] == "1"
        assert int(status["Seccomp_filters"]) >= 2
        # Not dumpable: the kernel gives its files in /proc to somebody else.
        assert Path(f"/proc/{pid}/environ").stat().st_uid != os.getuid()


@trial
async def test_an_instance_holds_its_own_descriptors_only(lab: Lab) -> None:
    leaked = os.open("/etc/hostname", os.O_RDONLY)
    os.set_inheritable(leaked, True)
    app = await _attacker(lab)
    neighbours = [app.spawn("fine") for _ in range(5)]
    for number in neighbours:
        await app.ask(number)
    seen = (await app.call("whoami"))["descriptors"]
    # Its own entry in /proc, on which one of its rules stands.
    assert lab.lacks != masks.NONE or seen.pop("5") == "folder"
    assert seen == {"0": "device", "1": "pipe", "2": "pipe", "3": "socket"}
    os.close(leaked)


def _folder_of(number: int, own_name: str) -> str:
    """How neighbours would call the folder that an instance calls `own_name`: it may be mounted there."""
    return f"/tmp/{number}" if own_name == "/tmp" else own_name


@trial
async def test_a_neighbour_of_the_same_release_is_out_of_reach(lab: Lab) -> None:
    app = await _attacker(lab)
    victim = app.spawn("keep_secret")
    pid, folder = app.value(await app.ask(victim))
    results = await app.call("touch_neighbour", {"pid": pid, "folder": _folder_of(victim, folder)})
    allowed = {"EPERM", "EACCES", "ENOSYS", "ESRCH", "EINVAL"}
    if lab.lacks == masks.NO_LANDLOCK:
        # It does not see the others at all, and /tmp is its own.
        allowed.add("ENOENT")
        assert (results.pop("tmp"), results.pop("beside")) == ("[]", "None")
    assert set(results.values()) <= allowed, results
    # It lives, and so do the zygote and all others.
    assert app.value(await app.ask(victim))[0] == pid
    assert await app.call("fine") == 1


@trial
async def test_another_space_is_out_of_reach(lab: Lab) -> None:
    other, app = await _attacker(lab), await _attacker(lab)
    other.spawn("fine")
    victim = other.spawn("keep_secret")
    _, folder = other.value(await other.ask(victim))
    folder = _folder_of(victim, folder)
    results = await app.call("touch_neighbour", {"pid": other.pids[victim], "folder": folder})
    if lab.lacks == masks.NO_LANDLOCK:
        assert (results.pop("tmp"), results.pop("beside")) == ("[]", "None")
    assert set(results.values()) <= {"EPERM", "EACCES", "ENOSYS", "ESRCH", "ENOENT", "EINVAL"}, results
    assert other.value(await other.ask(victim))


@trial
async def test_a_function_makes_no_socket_but_a_pair(lab: Lab) -> None:
    app = await _attacker(lab)
    made = await app.call("sockets")
    assert made.pop("pair") == "done"
    assert set(made.values()) <= {"EPERM", "EAFNOSUPPORT"}, made


REFUSED_CALLS = {
    "unshare": 272, "setns": 308, "mount": 165, "umount2": 166, "pivot_root": 155, "chroot": 161, "ptrace": 101,
    "keyctl": 250, "add_key": 248, "request_key": 249, "bpf": 321, "perf_event_open": 298, "userfaultfd": 323,
    "io_uring_setup": 425, "memfd_create": 319, "shmget": 29, "semget": 64, "msgget": 68, "mq_open": 240,
    "process_vm_readv": 310, "process_vm_writev": 311, "init_module": 175, "kexec_load": 246, "reboot": 169,
    "open_by_handle_at": 304, "syslog": 103, "acct": 163, "swapon": 167, "quotactl": 179, "fanotify_init": 300,
    "sethostname": 170, "settimeofday": 164, "iopl": 172, "modify_ldt": 154, "personality": 135, "kcmp": 312,
    "pidfd_getfd": 438, "fsopen": 430, "move_mount": 429, "open_tree": 428, "lookup_dcookie": 212,
}  # fmt: skip
FALLS_BACK = {"clone3": 435, "landlock beyond": 470, "x32 getpid": 0x40000027, "nonsense": 9999}


@trial
async def test_dangerous_calls_are_refused_and_kill_nobody(lab: Lab) -> None:
    app = await _attacker(lab)
    number = app.spawn("calls")
    results = app.value(await app.ask(number, REFUSED_CALLS))
    assert results == dict.fromkeys(REFUSED_CALLS, "EPERM")
    unknown = app.value(await app.ask(number, FALLS_BACK))
    assert unknown == dict.fromkeys(FALLS_BACK, "ENOSYS")


@trial
async def test_no_process_and_no_namespace_comes_from_a_function(lab: Lab) -> None:
    app = await _attacker(lab)
    assert set((await app.call("namespaces")).values()) == {"EPERM"}
    results = await app.call("spawn")
    assert results.pop("clone3") == "ENOSYS"
    assert set(results.values()) == {"EPERM"}, results


@trial
async def test_characters_cannot_be_pushed_into_a_terminal(lab: Lab) -> None:
    app = await _attacker(lab)
    assert await app.call("terminal") == {"TIOCSTI": "EPERM", "high bits": "EPERM", "other": "ENOTTY"}


@trial
async def test_limits_cannot_be_lifted(lab: Lab) -> None:
    app = await _attacker(lab)
    assert set((await app.call("lift_limits")).values()) == {"refused"}


@trial
async def test_memory_bombs_end_at_the_limit(lab: Lab) -> None:
    app = await _attacker(lab)
    neighbour = app.spawn("fine")
    for name in ("bytearrays", "private_maps"):
        number = app.spawn(name, memory_bytes=32 * 2**20)
        error = (await app.ask(number)).error()
        assert isinstance(error, LimitExceeded) and error.detail["reason"] == "memory_limit", (name, error)
        assert (await app.end_of(number))[0] == EndReason.MEMORY_LIMIT
    assert await app.call("allocate", 24, memory_bytes=32 * 2**20) == 24 * 2**20
    error = await app.fail("allocate", 40, memory_bytes=32 * 2**20)
    assert isinstance(error, LimitExceeded) and error.detail["reason"] == "memory_limit"
    assert await app.call("shared_maps") == ["refused", "ENOMEM"]
    assert (await app.call("zero_device"))[0] == "refused"
    assert await app.call("heap") is True
    assert app.value(await app.ask(neighbour)) == 1


@trial
async def test_a_thread_bomb_ends_with_a_reason(lab: Lab) -> None:
    app = await _attacker(lab)
    neighbour = app.spawn("fine")
    number = app.spawn("thread_bomb", memory_bytes=32 * 2**20)
    error = (await app.ask(number)).error()
    assert isinstance(error, LimitExceeded) and error.detail["reason"] in ("process_limit", "memory_limit")
    await app.end_of(number)
    assert app.value(await app.ask(neighbour)) == 1


@trial
async def test_a_bomb_in_tmp_ends_with_a_reason_and_leaves_room_again(lab: Lab) -> None:
    app = await _attacker(lab)
    if lab.lacks == masks.NO_NAMESPACES:
        # There it is not sized but looked at, as an agent does all the time; and it is that of all instances.
        number = app.spawn("fill_tmp")
        app.deliver(number, b"")
        while not app.is_closed:
            app.space.space_usage()
            await asyncio.sleep(0.05)
        reason, detail = app.ends[number]
        assert reason == EndReason.FILE_LIMIT and "16 MiB" in detail
        return
    for _ in range(2):
        number = app.spawn("fill_tmp")
        error = (await app.ask(number)).error()
        assert isinstance(error, LimitExceeded) and error.detail["reason"] == "file_limit"
        await app.end_of(number)
        while app.space.space_usage().memory_bytes > 40 * 2**20:  # noqa: ASYNC110
            await asyncio.sleep(0.01)


@trial
async def test_a_planted_link_leads_nowhere(lab: Lab) -> None:
    app = await _attacker(lab)
    results = await app.call("links")
    assert set(results.values()) <= {"EACCES", "ENOENT", "EXDEV", "EPERM"}, results


TAG = b"_TAG"
"""Stands for the tag of the call that the instance was given."""


def frame(kind: int, body: bytes, length: int | None = None, tag: bytes = TAG) -> bytes:
    """An answer as an instance sends it, or one whose length is a lie."""
    size = len(body) + ANSWER_HEAD.size - 4 if length is None else length
    return ANSWER_HEAD.pack(size, kind, int.from_bytes(tag), 0) + body


GARBAGE = {
    "unknown kind": frame(0x63, b""),
    "no length": frame(2, b"", length=0),
    "too short for an answer": frame(2, b"", length=4),
    "huge": frame(2, b"", length=2**32 - 1),
    "an answer with a forged error": frame(3, b'{"code":"untrusted","message":""'),
    "broken error": frame(3, b"{{"),
    "a limit it cannot know": frame(3, b'{"code":"limit_exceeded","message":"","detail":{"reason":"time_limit"}}'),
    "two answers": frame(2, b"1") * 2,
    "an answer to a call that it was not given": frame(2, b"1", tag=b"\xff" * 4),
}


@trial
async def test_garbage_on_the_channel_ends_the_instance_only(lab: Lab) -> None:
    import base64
    import json

    app = await _attacker(lab)
    neighbour = app.spawn("fine")
    for name, data in GARBAGE.items():
        number = app.spawn("raw_frames")
        data = data.replace(TAG, app.next_tag.to_bytes(4))
        app.deliver(number, json.dumps(base64.b64encode(data).decode()).encode())
        assert (await app.end_of(number))[0] == EndReason.PROTOCOL, name
    assert app.value(await app.ask(neighbour)) == 1


@trial
async def test_a_guest_cannot_make_the_agent_block(lab: Lab) -> None:
    app = await _attacker(lab)
    number = app.spawn("block_the_channel")
    assert app.value(await app.ask(number)) == "done"
    stuck = app.spawn("silent")
    app.deliver(stuck, b"")
    # More than any socket buffers, to one that does not read: the loop goes on.
    for _ in range(4):
        app.deliver(stuck, b'"' + b"x" * 2**20 + b'"')
    assert app.value(await app.ask(number)) == "done"
    app.space.end(stuck, EndReason.TIME_LIMIT)
    assert (await app.end_of(stuck))[0] == EndReason.TIME_LIMIT


@trial
async def test_one_that_closes_everything_can_still_be_ended(lab: Lab) -> None:
    app = await _attacker(lab)
    number = app.spawn("close_all")
    app.deliver(number, b"")
    await app.until(lambda: number in app.pids)
    await asyncio.sleep(0.1)
    app.space.end(number, EndReason.TIME_LIMIT)
    assert (await app.end_of(number))[0] == EndReason.TIME_LIMIT


@trial
async def test_module_code_that_forges_the_zygotes_messages_breaks_its_own_space_only(lab: Lab) -> None:
    forging = """
        import gc, os, socket
        from motes import function
        from motes.space.guest.packets import Packets
        packets = next(each for each in gc.get_objects() if isinstance(each, Packets))
        def forge(kind, text, descriptors=()):
            packets.send(kind, text, descriptors)
        @function
        def fine() -> int: return 1
        {attack}
    """
    attacks = [
        "forge(99, b'{}')",
        "forge(22, b'{\"number\":1}', [os.open(__file__, os.O_RDONLY)])",
        'forge(23, b\'{"number":"x","status":[]}\')',
        "forge(19, b'[1]')",
        "[forge(18, b'x' * 30000) for _ in range(2000)]",
        'forge(23, b\'{"number":1,"status":1e300}\')',
        'forge(27, b\'{"number":[],"error":1}\')',
    ]
    good = await _attacker(lab)
    for attack in attacks:
        try:
            app = await lab.functions(forging.format(attack=attack))
        except Exception as error:
            assert type(error).__name__ in ("SpaceFailed", "LoadFailed"), (attack, error)
        else:
            await app.until(lambda app=app: app.is_closed or app.spawn("fine") > 3)  # type: ignore[misc]
    assert await good.call("fine") == 1


@trial
async def test_an_instance_whose_zygote_lies_about_its_end_has_ended_all_the_same(lab: Lab) -> None:
    app = await lab.functions(
        """
        import os
        from motes import function
        from motes.space.guest.packets import Packets
        honest = Packets.send
        def lie(self, kind, text, descriptors=()):
            text = text.replace(b'"status":', b'"status":1' + b"0" * 30) if kind == 23 else text
            honest(self, kind, text, descriptors)
        Packets.send = lie
        @function
        def leave() -> int: os._exit(3)
        """
    )
    for number in [app.spawn("leave") for _ in range(3)]:
        app.deliver(number, b"")
        assert (await app.end_of(number))[0] in (EndReason.EXITED, EndReason.CRASHED, EndReason.RETURNED)


@trial
async def test_module_code_has_no_memory_that_no_limit_counts(lab: Lab) -> None:
    app = await lab.functions(
        """
        import mmap
        from motes import function
        try:
            mmap.mmap(-1, 2**30)
            got = "shared memory"
        except OSError as error:
            got = error.strerror
        @function
        def fine() -> str: return got
        """
    )
    assert await app.call("fine") == "Cannot allocate memory"


@trial
async def test_module_code_makes_no_namespaces_but_those_that_its_instances_need_and_no_file_system(lab: Lab) -> None:
    app = await lab.functions(
        """
        import ctypes, errno, os
        from motes import function
        libc = ctypes.CDLL(None, use_errno=True)
        def call(name, *arguments):
            ctypes.set_errno(0)
            return "done" if getattr(libc, name)(*arguments) == 0 else errno.errorcode[ctypes.get_errno()]
        kinds = {"user": 0x10000000, "mount": 0x20000, "net": 0x40000000, "pid": 0x20000000, "all": 0x7E020000}
        seen = {name: call("unshare", flags) for name, flags in kinds.items()}
        read_end, write_end = os.pipe()
        if os.fork() == 0:
            told = [call("unshare", 0x10020000), call("mount", b"x", b"/tmp", b"tmpfs", 0, None),
                    call("mount", b"x", b"/tmp", b"proc", 0, None), call("umount2", b"/proc", 2),
                    call("mount", None, b"/app", None, 0x1000 | 0x20, None)]
            os.write(write_end, repr(told).encode())
            os._exit(0)
        os.wait()
        seen["pair"], *seen["then"] = eval(os.read(read_end, 1000))
        os.close(read_end)
        os.close(write_end)
        @function
        def told() -> dict: return seen
        """
    )
    seen = await app.call("told")
    assert seen.pop("pair") == ("done" if lab.lacks == masks.NO_LANDLOCK else "EPERM")
    assert seen.pop("then") == ["EPERM"] * 4
    assert set(seen.values()) == {"EPERM"}, seen


@trial
@on(masks.NO_LANDLOCK, masks.NO_WALL)
async def test_without_any_wall_between_instances_there_is_no_space(lab: Lab) -> None:
    if lab.lacks == masks.NO_WALL:
        with pytest.raises(SpaceFailed, match="no Landlock, and no namespaces for its instances either"):
            await _attacker(lab)
    else:
        assert (await (await _attacker(lab)).call("fine")) == 1


@trial
async def test_killing_the_monitor_leaves_no_process(lab: Lab) -> None:
    app = await _attacker(lab)
    numbers = [app.spawn("silent") for _ in range(10)]
    await app.until(lambda: len(app.pids) == 10)
    pids = [*app.pids.values(), app.space.pid]
    os.kill(app.space._enclosure._process.pid, 9)
    await app.until(lambda: app.is_closed)
    assert {app.ends[number][0] for number in numbers} == {EndReason.SPACE_FAILED}
    # Bubblewrap's own end waits for the others; without namespaces they end because it did.
    while lab.lacks == masks.NO_NAMESPACES and any(Path(f"/proc/{pid}").exists() for pid in pids):  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    assert not [pid for pid in pids if Path(f"/proc/{pid}").exists()]


MAKER = """
import asyncio, sys, pathlib
from motes.space.function_space import FunctionSpace
from motes.space.view import View

class Nobody:
    def __getattr__(self, name):
        return lambda *event: None

async def main():
    space = await FunctionSpace.open(View(code=pathlib.Path(sys.argv[1])), Nobody(), timeout_s=20)
    print(space.pid, flush=True)
    await asyncio.sleep(60)

asyncio.run(main())
"""


@trial
async def test_a_space_ends_with_the_process_that_made_it(lab: Lab) -> None:
    maker = await asyncio.create_subprocess_exec(
        sys.executable, "-c", MAKER, lab.app(ATTACKS), stdout=asyncio.subprocess.PIPE
    )
    assert maker.stdout is not None
    pid = int(await maker.stdout.readline())
    assert Path(f"/proc/{pid}").exists()
    maker.kill()
    await maker.wait()
    while Path(f"/proc/{pid}").exists():  # noqa: ASYNC110  nobody tells of it
        await asyncio.sleep(0.01)


class _Daemon:
    """Remembers what a daemon prints and how it ended."""

    def __init__(self) -> None:
        self.printed = b""
        self.end: tuple[EndReason, str] | None = None

    def output(self, number: int, data: bytes) -> None:
        self.printed += data

    def closed(self, reason: EndReason, detail: str) -> None:
        self.end = (reason, detail)


async def _script(lab: Lab, source: str, **view: object) -> str:
    """What a daemon prints that runs this Python and ends."""
    from motes.space.daemon_space import DaemonSpace
    from motes.space.view import View

    events = _Daemon()
    settings = {"system": True, "processes": 32, **view}
    daemon = await DaemonSpace.open(
        View(code=lab.app({"attack.py": source}), **settings),  # type: ignore[arg-type]
        ["python3", "attack.py"],
        9999,
        events,
    )
    try:
        await asyncio.wait_for(asyncio.shield(daemon._closed), 20)
    finally:
        await daemon.close(0)
    return events.printed.decode()


@trial
@on(masks.NO_LANDLOCK)
async def test_a_daemon_reaches_its_own_loopback_and_nothing_else(lab: Lab) -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    accepted = threading.Event()
    threading.Thread(target=lambda: (listener.accept(), accepted.set()), daemon=True).start()
    abstract = socket.socket(socket.AF_UNIX)
    abstract.bind(f"\0motes-{os.getpid()}")
    abstract.listen()
    printed = await _script(
        lab,
        f"""
        import socket
        def attempt(name, work):
            try:
                work()
                print(name, "done")
            except OSError as error:
                print(name, error.errno)
        def connect(address):
            socket.create_connection(address, 2)
        own = socket.create_server(("127.0.0.1", 8080))
        attempt("own", lambda: connect(own.getsockname()))
        attempt("host", lambda: connect(("127.0.0.1", {listener.getsockname()[1]})))
        attempt("out", lambda: connect(("192.0.2.1", 80)))
        attempt("abstract", lambda: socket.socket(socket.AF_UNIX).connect("\\0motes-{os.getpid()}"))
        attempt("netlink", lambda: socket.socket(16, socket.SOCK_RAW))
        attempt("vsock", lambda: socket.socket(40, socket.SOCK_STREAM))
        attempt("packet", lambda: socket.socket(17, socket.SOCK_RAW))
        attempt("raw", lambda: socket.socket(2, socket.SOCK_RAW, 1))
        """,
    )
    seen = dict(line.split() for line in printed.splitlines())
    assert seen.pop("own") == "done"
    assert seen == {
        "host": str(errno.ECONNREFUSED), "out": str(errno.ENETUNREACH), "abstract": str(errno.ECONNREFUSED),
        "netlink": str(errno.EAFNOSUPPORT), "vsock": str(errno.EAFNOSUPPORT), "packet": str(errno.EAFNOSUPPORT),
        "raw": str(errno.EPERM),
    }  # fmt: skip
    assert not accepted.is_set()
    # The same connection from outside.
    with socket.create_connection(listener.getsockname()):
        assert accepted.wait(10)


@trial
@on(masks.NO_LANDLOCK)
async def test_a_daemon_cannot_touch_the_helper_or_bubblewrap(lab: Lab) -> None:
    # Who ends the helper ends the whole space, and so this script.
    printed = await _script(
        lab,
        """
        import os
        number = NUMBER
        def attempt(work):
            try:
                return ["done", work()]
            except OSError as error:
                return ["refused", error.errno]
        own = os.getpid()
        for name in sorted(filter(str.isdigit, os.listdir("/proc")), key=int):
            if int(name) == own:
                continue
            print(name, attempt(lambda: os.kill(int(name), number))[0],
                  attempt(lambda: open(f"/proc/{name}/mem", "rb"))[0],
                  attempt(lambda: open(f"/proc/{name}/environ").read())[0],
                  attempt(lambda: os.readlink(f"/proc/{name}/fd/0"))[0])
        print("all", attempt(lambda: open("/proc/sys/kernel/core_pattern", "w"))[0])
        descriptors = os.listdir("/proc/self/fd")
        print("descriptors", descriptors, [os.readlink(f"/proc/self/fd/{n}").partition(":")[0] for n in range(3)])
        """.replace("NUMBER", "0" if lab.lacks == masks.NO_LANDLOCK else "9"),
    )
    lines = printed.splitlines()
    assert len(lines) == 4, printed
    if lab.lacks == masks.NO_LANDLOCK:
        # It may end its own helper, and do to bubblewrap's process what it may do itself: they have the same filter.
        assert lines[1].split()[2:] == ["refused"] * 3, printed
    else:
        assert all(line.split()[1:] == ["refused"] * 4 for line in lines[:2]), printed
    assert lines[2] == "all refused"
    # The fourth is the listing's own.
    assert lines[3] == "descriptors ['0', '1', '2', '3'] ['/dev/null', 'pipe', 'pipe']"


@trial
@on(masks.NO_LANDLOCK)
async def test_only_sized_memory_is_mounted_writable(lab: Lab) -> None:
    printed = await _script(
        lab,
        """
        for line in open("/proc/self/mountinfo"):
            words = line.split()
            if "ro" not in words[5].split(","):
                print(words[4], words[words.index("-") + 1], words[-1])
        """,
    )
    writable = {line.split()[0]: line.split()[1:] for line in printed.splitlines()}
    devices = {
        path for path, (kind, _) in writable.items() if path.startswith("/dev/") and kind in ("devtmpfs", "devpts")
    }
    assert set(writable) - devices <= {"/tmp", "/dev/shm", "/proc"}, writable
    assert all("size=" in writable[path][1] for path in ("/tmp", "/dev/shm")), writable


@trial
@on(masks.NO_LANDLOCK)
async def test_a_fork_bomb_stays_within_its_processes(lab: Lab) -> None:
    printed = await _script(
        lab,
        """
        import os, sys, time
        made = 0
        try:
            while made < 1000:
                if os.fork() == 0:
                    time.sleep(60)
                made += 1
        except BlockingIOError:
            print("made", made)
        """,
        processes=16,
    )
    word, made = printed.split()
    assert word == "made" and 8 <= int(made) <= 18


@trial
@on(masks.NO_LANDLOCK)
async def test_a_daemon_without_the_right_to_fork_does_not(lab: Lab) -> None:
    printed = await _script(
        lab, "import os\ntry:\n    os.fork()\nexcept OSError as e:\n    print(e.errno)\n", processes=1
    )
    assert printed.strip() == str(errno.EPERM)


@trial
@on(masks.NO_LANDLOCK)
async def test_a_set_uid_program_gives_nothing(lab: Lab) -> None:
    printed = await _script(
        lab,
        """
        import os, subprocess
        print(subprocess.run(["/bin/su", "-c", "id"], capture_output=True, stdin=subprocess.DEVNULL).returncode != 0)
        print(os.stat("/bin/su").st_uid)
        """,
    )
    assert printed.split()[0] == "True"


@trial
async def test_a_neighbours_bomb_does_not_slow_the_agent_down(lab: Lab) -> None:
    app = await _attacker(lab)
    for _ in range(3):
        app.deliver(app.spawn("raw_frames"), b'"' + b"A" * 4 * 2**18 + b'"')
    fine = app.spawn("fine")
    began = time.monotonic()
    assert app.value(await app.ask(fine)) == 1
    assert time.monotonic() - began < 20
