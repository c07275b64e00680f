"""Compile rules to classic BPF, the programs that seccomp runs at every syscall.

The number of the syscall is searched for by halves, among ranges of numbers that have the same
outcome; conditions on arguments stand where the search ends. See seccomp(2), linux/filter.h.
"""

from __future__ import annotations

from errno import ENOSYS, EPERM
from struct import pack

from kagent_sdk.sandbox.seccomp.rules import Alternatives, Condition, Rules
from kagent_sdk.sandbox.seccomp.syscalls import ARCHITECTURES

"""The size of one instruction, ``struct sock_filter``."""

ALLOW = 0x7FFF0000
REFUSE = 0x00050000 | EPERM
ABSENT = 0x00050000 | ENOSYS
KILL = 0x80000000
"""What a program returns: SECCOMP_RET_ALLOW, _ERRNO (with the number), _KILL_PROCESS."""

_LOAD, _AND, _RETURN = 0x20, 0x54, 0x06  # BPF_LD|BPF_W|BPF_ABS, BPF_ALU|BPF_AND, BPF_RET
_GOTO, _EQUAL, _AT_LEAST, _HAS_BITS = 0x05, 0x15, 0x35, 0x45  # BPF_JMP| JA, JEQ, JGE, JSET

# struct seccomp_data: int nr; __u32 arch; __u64 instruction_pointer; __u64 args[6]. Both
# architectures are little-endian: the low half of an argument comes first.
_NUMBER_AT, _ARCHITECTURE_AT, _ARGUMENTS_AT = 0, 4, 16

_WORD = 0xFFFFFFFF
_FARTHEST = 255  # that a conditional jump can go: one byte

_Outcome = int | tuple[Alternatives, int, int]
"""What is returned: always, or when one of the alternatives holds and when none does."""


def compile_filter(rules: Rules, architecture: str) -> bytes:
    """Return the program of the rules, for `install` or any other use of seccomp(2).

    A syscall of another architecture, such as int 0x80 of x86_64, kills the process. One without
    a rule, those of x32 among them, is ENOSYS.

    Args:
        rules: what is allowed.
        architecture: ``x86_64`` or ``aarch64``.

    Raises:
        ValueError: there is no table of the architecture's syscalls.
    """
    if architecture not in ARCHITECTURES:
        raise ValueError(
            f'no syscalls are known of "{architecture}", only of {", ".join(ARCHITECTURES)}'
        )
    known = ARCHITECTURES[architecture]
    program = _Program()
    program.search(_ranges(rules, known.numbers()))
    start = program.load(_NUMBER_AT)
    program.jump(_EQUAL, known.audit_value, start, program.leave(KILL))
    program.load(_ARCHITECTURE_AT)
    return program.text()


def _ranges(rules: Rules, numbers: dict[str, int]) -> list[tuple[int, _Outcome]]:
    """Return where each range of numbers begins and its outcome; from 0, in order."""
    outcomes: dict[str, _Outcome] = dict.fromkeys(rules.allowed, ALLOW)
    outcomes.update(dict.fromkeys(rules.refused, REFUSE))
    for name, alternatives in rules.allowed_if.items():
        outcomes[name] = (alternatives, ALLOW, REFUSE)
    for name, alternatives in rules.refused_if.items():
        outcomes[name] = (alternatives, REFUSE, ALLOW)
    named = {numbers[name]: outcome for name, outcome in outcomes.items() if name in numbers}
    ranges: list[tuple[int, _Outcome]] = []
    last: _Outcome | None = None
    for number in range(max(named, default=-1) + 2):  # and one for all that come after
        outcome = named.get(number, ABSENT)
        if outcome != last:
            ranges.append((number, outcome))
            last = outcome
    return ranges


class _Program:
    """A program that is written from its end: all jumps go forward, to what is there already.

    Places are counted from the end, and every method returns the place of what it wrote.
    """

    def __init__(self) -> None:
        self._backwards: list[bytes] = []
        self._returns: dict[int, int] = {}

    def text(self) -> bytes:
        return b"".join(reversed(self._backwards))

    def search(self, ranges: list[tuple[int, _Outcome]]) -> int:
        """Go to the outcome of the range that the loaded number lies in."""
        if len(ranges) == 1:
            return self.end(ranges[0][1])
        half = len(ranges) // 2
        upper = self.search(ranges[half:])
        lower = self.search(ranges[:half])
        return self.jump(_AT_LEAST, ranges[half][0], upper, lower)

    def end(self, outcome: _Outcome) -> int:
        if isinstance(outcome, int):
            return self.leave(outcome)
        alternatives, held, else_ = outcome
        start = self.leave(else_)
        for conditions in reversed(alternatives):
            otherwise = start
            start = self.leave(held)
            for condition in reversed(conditions):
                start = self.compare(condition, start, otherwise)
        return start

    def compare(self, condition: Condition, held: int, otherwise: int) -> int:
        """Go on where it is said that the condition holds, or does not: word by word."""
        argument, mask, value = condition
        assert value & ~mask == 0, "a condition that never holds"
        place = _ARGUMENTS_AT + 8 * argument
        for shift, at in ((32, place + 4), (0, place)):
            bits, word = mask >> shift & _WORD, value >> shift & _WORD
            if bits == 0:
                continue
            if word == 0:
                held = self.jump(_HAS_BITS, bits, otherwise, held)
            else:
                held = self.jump(_EQUAL, word, held, otherwise)
                if bits != _WORD:
                    held = self._write(_AND, bits)
            held = self.load(at)
        return held

    def leave(self, value: int) -> int:
        """Return a value: by an instruction that is near already, or a new one."""
        place = self._returns.get(value)
        if place is None or len(self._backwards) - place > _FARTHEST // 2:
            place = self._returns[value] = self._write(_RETURN, value)
        return place

    def load(self, at: int) -> int:
        """Load a word of what the syscall was called with, and go on with what was written last."""
        return self._write(_LOAD, at)

    def jump(self, test: int, operand: int, held: int, otherwise: int) -> int:
        """Test the loaded word; a place that is too far away is reached by a long jump."""
        here = len(self._backwards)
        while max(here - held, here - otherwise) > _FARTHEST:
            if here - held > _FARTHEST:
                held = self._goto(held)
            else:
                otherwise = self._goto(otherwise)
            here = len(self._backwards)
        return self._write(test, operand, here - held, here - otherwise)

    def _goto(self, place: int) -> int:
        return self._write(_GOTO, len(self._backwards) - place)

    def _write(self, code: int, operand: int, held: int = 0, otherwise: int = 0) -> int:
        self._backwards.append(pack("<HBBI", code, held, otherwise, operand))
        return len(self._backwards)
