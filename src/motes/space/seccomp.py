"""Filters for system calls, compiled to BPF in pure Python: what a process in a space may ask of the kernel.

Invariants: an allow-list, so a call that is in no list is refused; a refused call returns an error and never kills;
calls in another architecture's convention (32 bit, x32) are refused. Filters stack: the kernel asks all of them and
takes the strictest answer, so the narrow filters are only what a zygote, an instance or a script loses further.
"""

from __future__ import annotations

import errno
import functools
import struct
from collections.abc import Iterable, Mapping

import msgspec

from motes.space import profiles
from motes.space.profiles import Condition, Refuse, Rule
from motes.space.syscalls import Architecture, this_architecture

_LOAD, _JUMP, _JUMP_EQUAL, _JUMP_AT_LEAST, _AND, _RETURN = 0x20, 0x05, 0x15, 0x35, 0x54, 0x06
_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000
_NUMBER_AT, _ARCHITECTURE_AT, _ARGUMENTS_AT = 0, 4, 16
_INSTRUCTION = struct.Struct("<HBBI")
MOST_INSTRUCTIONS = 4096
"""The kernel takes no longer filter."""

Code = list[tuple[int, int, int, int]]


class Filters(msgspec.Struct, frozen=True):
    """The compiled filters of one machine; each is ready for the kernel."""

    space: bytes
    nesting: bytes
    """In the place of `space` where instances get namespaces of their own."""
    bare: bytes
    """In the place of `space` where there are no namespaces; holds OWN_PID."""
    zygote: bytes
    instance: bytes
    """Holds OWN_PID wherever the instance must put its own process id."""
    alone: bytes
    script: bytes


@functools.cache
def filters() -> Filters:
    """The filters for this machine. Raises SpaceFailed where no table of system calls exists."""
    machine = this_architecture()
    return Filters(
        space=compile_filter(profiles.SPACE, machine, otherwise=Refuse(errno.ENOSYS)),
        nesting=compile_filter(profiles.NESTING, machine, otherwise=Refuse(errno.ENOSYS)),
        bare=compile_filter(profiles.BARE, machine, otherwise=Refuse(errno.ENOSYS)),
        zygote=compile_filter(profiles.ZYGOTE, machine, otherwise=()),
        instance=compile_filter(profiles.INSTANCE, machine, otherwise=()),
        alone=compile_filter(profiles.ALONE, machine, otherwise=()),
        script=compile_filter(profiles.SCRIPT, machine, otherwise=()),
    )


def compile_filter(rules: Mapping[str, Rule], machine: Architecture, otherwise: Rule) -> bytes:
    """A BPF program: `rules` by name of the call, `otherwise` for every other number."""
    numbered = {machine.numbers[name]: rule for name, rule in rules.items() if name in machine.numbers}
    code: Code = [
        (_LOAD, 0, 0, _ARCHITECTURE_AT),
        (_JUMP_EQUAL, 1, 0, machine.audit),
        _refusal(errno.ENOSYS),
        (_LOAD, 0, 0, _NUMBER_AT),
        *_search(_segments(numbered, otherwise)),
    ]
    if len(code) > MOST_INSTRUCTIONS:
        raise ValueError(f"a filter of {len(code)} instructions; the kernel takes {MOST_INSTRUCTIONS}")
    return b"".join(_INSTRUCTION.pack(*instruction) for instruction in code)


_X32 = 0x40000000


def _segments(rules: Mapping[int, Rule], otherwise: Rule) -> list[tuple[int, Rule]]:
    """Ranges of numbers with one rule each, as (first number, rule), upwards from 0; x32 calls are refused."""
    edges: dict[int, Rule] = {0: otherwise}
    for number in sorted(rules):
        edges[number] = rules[number]
        edges.setdefault(number + 1, otherwise)
    edges[_X32] = Refuse(errno.ENOSYS)
    found: list[tuple[int, Rule]] = []
    for first in sorted(edges):
        if not found or found[-1][1] != edges[first]:
            found.append((first, edges[first]))
    return found


def _search(segments: list[tuple[int, Rule]]) -> Code:
    """A binary search for the segment that holds the number in the accumulator."""
    if len(segments) == 1:
        return _rule(segments[0][1])
    middle = len(segments) // 2
    lower, upper = _search(segments[:middle]), _search(segments[middle:])
    pivot = segments[middle][0]
    if len(lower) < 256:
        return [(_JUMP_AT_LEAST, len(lower), 0, pivot), *lower, *upper]
    return [(_JUMP_AT_LEAST, 0, 1, pivot), (_JUMP, 0, 0, len(lower)), *lower, *upper]


def _rule(rule: Rule) -> Code:
    if isinstance(rule, Refuse):
        return [_refusal(rule.error)]
    return [*(instruction for test in rule for instruction in _test(test)), (_RETURN, 0, 0, _ALLOW)]


def _test(test: Condition) -> Code:
    """Go on when the test holds; return its error when it does not."""
    load: Code = [(_LOAD, 0, 0, _ARGUMENTS_AT + 8 * test.argument + 4 * test.high_word)]
    if test.mask != 0xFFFFFFFF:
        load.append((_AND, 0, 0, test.mask))
    return [*load, *_compare(test.values, test.inverted), _refusal(test.error)]


def _compare(values: Iterable[int], inverted: bool) -> Code:
    """Skip the one instruction behind these (the refusal) when the accumulator is (not) among `values`."""
    values = list(values)
    code: Code = []
    for at, value in enumerate(values):
        to_refusal = len(values) - at - 1 + inverted
        code.append((_JUMP_EQUAL, to_refusal if inverted else to_refusal + 1, 0, value))
    return [*code, (_JUMP, 0, 0, 1)] if inverted else code


def _refusal(error: int) -> tuple[int, int, int, int]:
    return (_RETURN, 0, 0, _ERRNO | error)
