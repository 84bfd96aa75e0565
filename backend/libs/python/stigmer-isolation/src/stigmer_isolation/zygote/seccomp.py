"""seccomp: a small program that the kernel runs before each system call of a process, and of all it starts.

Builds such programs from `Check`s and installs them. Which calls are refused is `seccomp_rules`' matter.

The kernel hands the program the call's number, the architecture and the arguments as numbers; it can not
follow pointers, so it sees no path (seccomp(2); the instructions: Linux, Documentation/networking/filter).
"""

import ctypes
import errno
import struct
from collections.abc import Iterable, Mapping
from typing import Final, TypeAlias

from stigmer_isolation.zygote.kernel import IS_LINUX, control_process

Instruction: TypeAlias = tuple[int, int, int, int]
"""Code, how many instructions to skip if true and if false, and a number."""
Check: TypeAlias = list[Instruction]
"""Instructions that end the program with an error where it applies, and else run on past their end."""

_LOAD, _AND, _RETURN = 0x20, 0x54, 0x06
_IF_EQUAL, _IF_GREATER, _IF_AT_LEAST, _IF_ANY_BIT = 0x15, 0x25, 0x35, 0x45
_NUMBER_OFFSET, _ARCHITECTURE_OFFSET, _ARGUMENTS_OFFSET = 0, 4, 16  # struct seccomp_data
_ALLOW, _ERROR, _KILL_PROCESS = 0x7FFF0000, 0x00050000, 0x80000000
_ARCHITECTURES: Final = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}  # AUDIT_ARCH_*
_PR_SET_SECCOMP, _MODE_FILTER = 22, 2  # prctl(2)
_X32_BIT: Final = 0x40000000
"""Set in the numbers of calls in the x32 form, a second table that x86-64 kernels may serve."""


def refuse(error: int) -> Check:
    """Refuse every call."""
    return [(_RETURN, 0, 0, _ERROR | error)]


def refuse_unless_equal(
    argument: int, allowed: Iterable[int], error: int, *, mask: int = 0xFFFFFFFF
) -> Check:
    """Refuse where the argument, of which the bits in `mask` count, is none of the `allowed`."""
    values = list(allowed)
    tests = [(_IF_EQUAL, len(values) - position, 0, value) for position, value in enumerate(values)]
    return [_load(argument), (_AND, 0, 0, mask), *tests, *refuse(error)]


def refuse_if_equal(argument: int, value: int, error: int, *, mask: int = 0xFFFFFFFF) -> Check:
    """Refuse where the bits in `mask` of the argument are `value`."""
    return [_load(argument), (_AND, 0, 0, mask), (_IF_EQUAL, 0, 1, value), *refuse(error)]


def refuse_if_any_bit(argument: int, mask: int, error: int) -> Check:
    """Refuse where the argument has any of these bits."""
    return [_load(argument), (_IF_ANY_BIT, 0, 1, mask), *refuse(error)]


def refuse_if_between(argument: int, low: int, high: int, error: int) -> Check:
    """Refuse where the argument, read as 32 bits without sign, is from `low` to `high`."""
    return [_load(argument), (_IF_AT_LEAST, 0, 2, low), (_IF_GREATER, 1, 0, high), *refuse(error)]


def only_where_equal(argument: int, value: int, check: Check) -> Check:
    """Apply the check where the argument is `value`."""
    return [_load(argument), (_IF_EQUAL, 0, len(check), value), *check]


def only_where_any_bit(argument: int, mask: int, check: Check) -> Check:
    """Apply the check where the argument has any of these bits."""
    return [_load(argument), (_IF_ANY_BIT, 0, len(check), mask), *check]


def assemble(machine: str, checks: Mapping[int, list[Check]], last_known: int, unknown_error: int) -> bytes:
    """The program that applies to each call, by number, all of its checks; other calls are allowed.

    Calls by another architecture's table, which would mean something else by the same number, kill the
    process. Calls with a number above `last_known` end with `unknown_error`.
    """
    program: Check = [
        (_LOAD, 0, 0, _ARCHITECTURE_OFFSET),
        (_IF_EQUAL, 1, 0, _ARCHITECTURES[machine]),
        (_RETURN, 0, 0, _KILL_PROCESS),
        (_LOAD, 0, 0, _NUMBER_OFFSET),
        (_IF_AT_LEAST, 0, 1, _X32_BIT),
        (_RETURN, 0, 0, _KILL_PROCESS),
        (_IF_GREATER, 0, 1, last_known),
        *refuse(unknown_error),
    ]
    for number, checks_of_call in checks.items():
        body = [instruction for check in checks_of_call for instruction in check]
        if body[0][0] != _RETURN:
            body.append((_RETURN, 0, 0, _ALLOW))
        program += [(_IF_EQUAL, 0, len(body), number), *body]
    program.append((_RETURN, 0, 0, _ALLOW))
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in program)


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p))


def install(program: bytes) -> None:
    """Hold this process, and all it starts from now on, to the program. For good.

    Raises:
        OSError: EACCES without `forbid_new_privileges`; EINVAL where the kernel has no seccomp.
    """
    described = _Program(len(program) // 8, program)
    control_process(_PR_SET_SECCOMP, _MODE_FILTER, ctypes.addressof(described))


def is_available() -> bool:
    """Whether this kernel takes filters. Installs none."""
    if not IS_LINUX:
        return False
    try:
        control_process(_PR_SET_SECCOMP, _MODE_FILTER, 0)
    except OSError as error:
        return error.errno == errno.EFAULT  # it would have read a filter from address 0
    return False


def _load(argument: int) -> Instruction:
    """The lower half of an argument: flags, pids and descriptors have 32 bits, and no more is looked at."""
    return (_LOAD, 0, 0, _ARGUMENTS_OFFSET + 8 * argument)
