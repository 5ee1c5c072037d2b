"""The filters: compiled programs run by a small interpreter of BPF, and installed in a real process."""

from __future__ import annotations

import errno
import os
import struct
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from motes.errors import SpaceFailed
from motes.space import profiles, syscalls
from motes.space.guest import kernel
from motes.space.profiles import OWN_PID, Condition, Refuse, Rule
from motes.space.seccomp import compile_filter, filters
from motes.space.syscalls import ARCHITECTURES, this_architecture

MACHINE = ARCHITECTURES["x86_64"]
I386 = 0x40000003
ALLOWED = 0


def decide(program: bytes, number: int, arguments: tuple[int, ...] = (), audit: int = MACHINE.audit) -> int:
    """What a filter says of a call: ALLOWED or an errno."""
    data = struct.pack("<IIQ6Q", number, audit, 0, *(arguments + (0,) * 6)[:6])
    instructions = list(struct.iter_unpack("<HBBI", program))
    at = accumulator = 0
    while True:
        code, if_true, if_false, value = instructions[at]
        at += 1
        if code == 0x20:
            accumulator = struct.unpack_from("<I", data, value)[0]
        elif code == 0x54:
            accumulator &= value
        elif code == 0x05:
            at += value
        elif code == 0x15:
            at += if_true if accumulator == value else if_false
        elif code == 0x35:
            at += if_true if accumulator >= value else if_false
        else:
            assert code == 0x06
            return ALLOWED if value == 0x7FFF0000 else value & 0xFFFF


def of(profile: str, name: str, *arguments: int) -> int:
    return decide(getattr(filters(), profile), MACHINE.numbers[name], arguments)


def test_every_number_gets_its_own_rule() -> None:
    program = filters().space
    for name, number in MACHINE.numbers.items():
        rule = profiles.SPACE.get(name, Refuse(errno.ENOSYS))
        if rule == () or isinstance(rule, Refuse):
            assert decide(program, number) == (ALLOWED if rule == () else rule.error), name


def test_the_profiles_name_only_calls_that_exist() -> None:
    for profile in (
        profiles.SPACE,
        profiles.NESTING,
        profiles.ZYGOTE,
        profiles.INSTANCE,
        profiles.ALONE,
        profiles.SCRIPT,
    ):
        assert set(profile) <= set(MACHINE.numbers), set(profile) - set(MACHINE.numbers)


def test_the_table_has_the_kernels_numbers() -> None:
    known = {"read": 0, "execve": 59, "clone": 56, "openat": 257, "seccomp": 317, "rseq": 334, "clone3": 435}
    assert {name: MACHINE.numbers[name] for name in known} == known
    assert len(set(MACHINE.numbers.values())) == len(MACHINE.numbers)


def test_other_conventions_for_calls_are_refused() -> None:
    for program in (filters().space, filters().instance, filters().zygote):
        assert decide(program, MACHINE.numbers["getpid"], audit=I386) == errno.ENOSYS
        assert decide(program, MACHINE.numbers["getpid"] | 0x40000000) == errno.ENOSYS
        assert decide(program, 0xFFFFFFFF) == errno.ENOSYS


def test_a_call_that_no_list_names_does_not_exist() -> None:
    assert decide(filters().space, 5000) == errno.ENOSYS
    assert decide(filters().instance, 5000) == ALLOWED  # The space's filter lies below it.


def test_a_space_without_landlock_makes_one_pair_of_namespaces_and_binds_only() -> None:
    pair, user, network, bind, remount = 0x10020000, 0x10000000, 0x40000000, 0x5000, 0x20
    assert [of("nesting", "unshare", flags) for flags in (pair, user, pair | network)] == [
        ALLOWED,
        errno.EPERM,
        errno.EPERM,
    ]
    assert [of("nesting", "mount", 0, 0, 0, flags) for flags in (bind, 0, remount)] == [
        ALLOWED,
        errno.EPERM,
        errno.EPERM,
    ]
    for profile in ("space", "instance"):
        assert (of(profile, "unshare", pair), of(profile, "mount", 0, 0, 0, bind)) == (errno.EPERM, errno.EPERM)
    for name in ("umount2", "pivot_root", "setns", "clone3", "ptrace"):
        assert of("nesting", name) == of("space", name) != ALLOWED


def test_clone_makes_threads_and_processes_but_no_namespaces() -> None:
    fork, thread, user = 17, 0x3D0F00, 0x10000000 | 17
    assert [of("space", "clone", flags) for flags in (fork, thread, user)] == [ALLOWED, ALLOWED, errno.EPERM]
    assert [of("instance", "clone", flags) for flags in (fork, thread)] == [errno.EPERM, ALLOWED]
    assert of("space", "clone3") == errno.ENOSYS


def test_sockets_are_of_three_families() -> None:
    families = {1: ALLOWED, 2: ALLOWED, 10: ALLOWED, 16: errno.EAFNOSUPPORT, 40: errno.EAFNOSUPPORT}
    assert {family: of("space", "socket", family) for family in families} == families
    assert of("space", "socketpair", 1) == ALLOWED and of("instance", "socket", 1) == errno.EPERM


def test_an_upper_half_that_the_kernel_ignores_hides_nothing() -> None:
    assert of("space", "ioctl", 0, 0x5412) == errno.EPERM
    assert of("space", "ioctl", 0, 0x5412 | 1 << 32) == errno.EPERM
    assert of("space", "ioctl", 0, 0x5401) == ALLOWED


def test_limits_can_be_read_and_not_set() -> None:
    assert of("instance", "prlimit64", 0, 7, 0, 1) == ALLOWED
    assert of("instance", "prlimit64", 0, 7, 1, 0) == errno.EPERM
    assert of("instance", "prlimit64", 0, 7, 1 << 32, 0) == errno.EPERM


def test_signals_go_to_oneself_only() -> None:
    assert of("instance", "kill", OWN_PID, 9) == ALLOWED
    assert [of("instance", "kill", pid, 9) for pid in (1, 2, 0, 0xFFFFFFFF)] == [errno.EPERM] * 4
    patched = filters().instance.replace(struct.pack("<I", OWN_PID), struct.pack("<I", 77))
    assert decide(patched, MACHINE.numbers["kill"], (77, 9)) == ALLOWED
    assert decide(patched, MACHINE.numbers["tgkill"], (78, 78, 9)) == errno.EPERM


def test_shared_memory_without_a_file_is_refused() -> None:
    for flags, expected in {0x22: ALLOWED, 0x01: ALLOWED, 0x21: errno.ENOMEM, 0x23: errno.ENOMEM}.items():
        assert of("instance", "mmap", 0, 4096, 3, flags) == expected, hex(flags)


RULES = st.one_of(
    st.just(()),
    st.builds(Refuse, st.integers(1, 133)),
    st.tuples(
        st.builds(
            Condition,
            argument=st.integers(0, 5),
            values=st.lists(st.integers(0, 3), min_size=1, max_size=4, unique=True).map(tuple),
            mask=st.sampled_from([0xFFFFFFFF, 1, 3]),
            inverted=st.booleans(),
        )
    ),
)


def expected(rule: Rule, arguments: tuple[int, ...]) -> int:
    if isinstance(rule, Refuse):
        return rule.error
    for test in rule:
        if ((arguments[test.argument] & test.mask) in test.values) == test.inverted:
            return test.error
    return ALLOWED


@given(
    st.dictionaries(st.sampled_from(sorted(MACHINE.numbers)), RULES, max_size=60),
    st.sampled_from(sorted(MACHINE.numbers)),
    st.tuples(*[st.integers(0, 3)] * 6),
)
def test_a_compiled_filter_decides_as_its_rules_say(
    rules: dict[str, Rule], name: str, arguments: tuple[int, ...]
) -> None:
    program = compile_filter(rules, MACHINE, otherwise=Refuse(errno.ENOSYS))
    wanted = expected(rules.get(name, Refuse(errno.ENOSYS)), arguments)
    assert decide(program, MACHINE.numbers[name], arguments) == wanted


def test_the_kernel_takes_every_filter_and_holds_to_it() -> None:
    for name in ("space", "zygote", "instance", "alone", "script"):
        child = os.fork()
        if child == 0:
            code = 1
            try:
                kernel.forbid_new_privileges()
                kernel.install_filter(getattr(filters(), name))
                os.getpid()
                try:
                    os.unshare(0x20000) if sys.version_info >= (3, 12) else kernel._libc.unshare(0x20000)
                    refused = kernel._libc.unshare(0x20000) < 0
                except OSError:
                    refused = True
                code = 0 if refused or name != "space" else 2
            finally:
                os._exit(code)
        _, status = os.waitpid(child, 0)
        assert status == 0, name


def test_a_machine_without_a_table_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(syscalls.platform, "machine", lambda: "vax")
    with pytest.raises(SpaceFailed, match=r"'vax'.*x86_64"):
        this_architecture()
