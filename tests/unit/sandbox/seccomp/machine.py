"""A machine for classic BPF, as seccomp runs it, and the calls that are put to it."""

from __future__ import annotations

import itertools
import struct
from collections.abc import Iterator
from dataclasses import dataclass

from kagent_sdk.sandbox.seccomp.rules import Alternatives, Rules

AUDIT_VALUES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}

ALLOWED, REFUSED, ABSENT = 0x7FFF0000, 0x00050001, 0x00050026  # EPERM is 1, ENOSYS is 38
KILLED = 0x80000000

MAX_INSTRUCTIONS = 4096  # BPF_MAXINSNS


@dataclass(frozen=True, slots=True)
class Call:
    """A syscall: ``struct seccomp_data`` without the instruction pointer."""

    audit_value: int
    number: int
    arguments: tuple[int, ...] = (0, 0, 0, 0, 0, 0)

    def packed(self) -> bytes:
        """Return it as the program reads it."""
        return struct.pack("<iIQ6Q", self.number, self.audit_value, 0, *self.arguments)


class Machine:
    """Runs one program; does not know what our compiler writes, only what linux/filter.h says."""

    def __init__(self, program: bytes) -> None:
        assert len(program) % 8 == 0
        self.instructions = list(struct.iter_unpack("<HBBI", program))
        assert 0 < len(self.instructions) <= MAX_INSTRUCTIONS

    def run(self, call: Call) -> int:
        """Return the program's verdict on a call."""
        data, at, word = call.packed(), 0, 0
        while True:
            code, if_true, if_false, operand = self.instructions[at]
            at += 1
            match code:
                case 0x20:  # BPF_LD | BPF_W | BPF_ABS
                    assert operand % 4 == 0
                    (word,) = struct.unpack_from("<I", data, operand)
                case 0x15:  # BPF_JMP | BPF_JEQ
                    at += if_true if word == operand else if_false
                case 0x25:  # BPF_JMP | BPF_JGT
                    at += if_true if word > operand else if_false
                case 0x35:  # BPF_JMP | BPF_JGE
                    at += if_true if word >= operand else if_false
                case 0x45:  # BPF_JMP | BPF_JSET
                    at += if_true if word & operand else if_false
                case 0x05:  # BPF_JMP | BPF_JA
                    at += operand
                case 0x54:  # BPF_ALU | BPF_AND
                    word &= operand
                case 0x06:  # BPF_RET | BPF_K
                    return int(operand)
                case _:
                    raise AssertionError(f"no such instruction: {code:#x}")


def judge(rules: Rules, name: str | None, arguments: tuple[int, ...]) -> int:
    """Return what the rules say of a call; the meaning that every program of them must have."""
    if name in rules.allowed:
        return ALLOWED
    if name in rules.refused:
        return REFUSED
    if name in rules.allowed_if:
        return ALLOWED if holds(rules.allowed_if[name], arguments) else REFUSED
    if name in rules.refused_if:
        return REFUSED if holds(rules.refused_if[name], arguments) else ALLOWED
    return ABSENT


def holds(alternatives: Alternatives, arguments: tuple[int, ...]) -> bool:
    """Whether one of the alternatives holds."""
    return any(
        all(arguments[argument] & mask == value for argument, mask, value in conditions)
        for conditions in alternatives
    )


def arguments_around(alternatives: Alternatives) -> Iterator[tuple[int, ...]]:
    """Yield arguments that fulfil the conditions, and those that are one bit away from it."""
    full = 2**64 - 1
    yield from ((0,) * 6, (full,) * 6, (0xDEADBEEF00000000,) * 6, (0xFFFFFFFF,) * 6)
    for conditions, rest in itertools.product(alternatives, (0, full)):
        fitting = [rest] * 6
        for argument, mask, value in conditions:
            fitting[argument] = (fitting[argument] & ~mask) | value
        yield tuple(fitting)
        for argument, _, _ in conditions:
            for bit in range(64):
                near = fitting.copy()
                near[argument] ^= 1 << bit
                yield tuple(near)
