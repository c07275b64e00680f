"""Unit tests of kagent_sdk.sandbox.seccomp.bpf."""

from __future__ import annotations

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from kagent_sdk.sandbox.policy import Policy
from kagent_sdk.sandbox.seccomp.bpf import compile_filter
from kagent_sdk.sandbox.seccomp.rules import Alternatives, Condition, Rules, rules_for
from kagent_sdk.sandbox.seccomp.syscalls import ARCHITECTURES
from tests.unit.sandbox.seccomp.machine import (
    ABSENT,
    AUDIT_VALUES,
    KILLED,
    MAX_INSTRUCTIONS,
    Call,
    Machine,
    arguments_around,
    judge,
)
from tests.unit.sandbox.seccomp.policies import POLICIES

NAMES = sorted(ARCHITECTURES["x86_64"].numbers())
HIGHEST = 600

architectures = pytest.mark.parametrize("architecture", ARCHITECTURES)
policies = pytest.mark.parametrize("policy", POLICIES.values(), ids=POLICIES.keys())

INSTRUCTION_BYTES = 8  # struct sock_filter of linux/filter.h


@architectures
@policies
def test_a_program_says_what_its_rules_say(policy: Policy, architecture: str) -> None:
    """A hole in the search or a jump that is off by one would be a hole in the sandbox."""
    rules = rules_for(policy)
    machine = Machine(compile_filter(rules, architecture))
    names = {number: name for name, number in ARCHITECTURES[architecture].numbers().items()}
    for number in range(HIGHEST):
        name = names.get(number)
        conditions = rules.allowed_if.get(name or "", ()) + rules.refused_if.get(name or "", ())
        for arguments in arguments_around(conditions):
            verdict = machine.run(Call(AUDIT_VALUES[architecture], number, arguments))

            assert verdict == judge(rules, name, arguments), (name, number, arguments)


@pytest.mark.parametrize("number", [-1, -(2**31), 0x40000000, 0x40000001, 0x40000221, 2**31 - 1])
@architectures
def test_a_number_that_nobody_has_is_no_syscall(number: int, architecture: str) -> None:
    """The syscalls of x32 have the numbers of x86_64 and one bit: another door to the kernel."""
    machine = Machine(compile_filter(rules_for(Policy()), architecture))

    assert machine.run(Call(AUDIT_VALUES[architecture], number)) == ABSENT


@pytest.mark.parametrize("audit_value", [0x40000003, 0x4000003E, 0x40000028, 0x800000B7, 0])
@architectures
def test_syscalls_of_another_architecture_kill(audit_value: int, architecture: str) -> None:
    """A call by int 0x80 has numbers of its own: our table would let through what it means to refuse."""
    machine = Machine(compile_filter(rules_for(Policy()), architecture))

    assert {machine.run(Call(audit_value, number)) for number in range(HIGHEST)} == {KILLED}


def test_an_unknown_architecture_is_an_error() -> None:
    """Nobody may believe that a filter is in force on a machine that we have no table of."""
    with pytest.raises(ValueError, match='of "riscv64", only of x86_64, aarch64'):
        compile_filter(rules_for(Policy()), "riscv64")


def test_a_program_without_rules_knows_no_syscall() -> None:
    """The smallest search is none at all."""
    rules = Rules(
        allowed=frozenset(), allowed_if={}, refused_if={}, refused=frozenset({"no_such_syscall"})
    )
    machine = Machine(compile_filter(rules, "x86_64"))

    assert machine.run(Call(AUDIT_VALUES["x86_64"], 0)) == ABSENT
    assert machine.run(Call(0, 0)) == KILLED


def test_the_programs_stay_small() -> None:
    """The kernel checks and translates every instruction: that is most of what a start costs."""
    sizes = {
        len(compile_filter(rules_for(policy), architecture)) // INSTRUCTION_BYTES
        for policy in POLICIES.values()
        for architecture in ARCHITECTURES
    }

    assert max(sizes) < 350


words = st.one_of(st.just(0), st.just(2**32 - 1), st.integers(0, 2**32 - 1))


@st.composite
def conditions(draw: st.DrawFn) -> Condition:
    """Draw a condition on one argument, with masks that leave out a half or none."""
    mask = draw(words) << 32 | draw(words)
    return draw(st.integers(0, 5)), mask, draw(st.integers(0, 2**64 - 1)) & mask


alternatives = st.lists(st.lists(conditions(), max_size=3).map(tuple), max_size=3).map(tuple)


@given(
    st.lists(
        st.tuples(st.sampled_from(NAMES), st.sampled_from(("allowed_if", "refused_if"))),
        max_size=60,
        unique_by=lambda pair: pair[0],
    ),
    alternatives,
    st.data(),
)
def test_any_rules_are_compiled_truly(
    chosen: list[tuple[str, str]], of_all: Alternatives, data: st.DataObject
) -> None:
    """Programs of any size: far jumps are where compilers of BPF go wrong."""
    rules = Rules(
        allowed=frozenset(),
        allowed_if={name: of_all for name, kind in chosen if kind == "allowed_if"},
        refused_if={name: of_all for name, kind in chosen if kind == "refused_if"},
        refused=frozenset(),
    )
    program = compile_filter(rules, "x86_64")
    assume(len(program) <= MAX_INSTRUCTIONS * INSTRUCTION_BYTES)  # else the kernel refuses it
    machine = Machine(program)
    numbers = ARCHITECTURES["x86_64"].numbers()
    arguments = data.draw(st.sampled_from(list(arguments_around(of_all))))
    for name in NAMES:
        verdict = machine.run(Call(AUDIT_VALUES["x86_64"], numbers[name], arguments))

        assert verdict == judge(rules, name, arguments)


many = tuple(range(0, 2**63, 2**54))


@pytest.mark.parametrize(
    "of_ioctl",
    [
        tuple(((1, 2**64 - 1, number),) for number in many),
        (tuple((1, number, number) for number in many if number), ((2, 1, 1),)),
    ],
    ids=["alternatives", "conditions"],
)
@pytest.mark.parametrize("is_allowed", [True, False])
def test_jumps_reach_over_hundreds_of_instructions(
    of_ioctl: Alternatives, *, is_allowed: bool
) -> None:
    """A conditional jump goes 255 instructions at most: beyond, a long jump must take over."""
    rules = Rules(
        allowed=frozenset({"read", "file_setattr"}),
        allowed_if={"ioctl": of_ioctl} if is_allowed else {},
        refused_if={} if is_allowed else {"ioctl": of_ioctl},
        refused=frozenset({"write"}),
    )
    machine = Machine(compile_filter(rules, "x86_64"))

    assert len(machine.instructions) > 1000
    for name, number in ARCHITECTURES["x86_64"].numbers().items():
        for value in (0, many[1], many[-1], 2**63 - 1, 1):
            for other in (0, 1):
                arguments = (0, value, other, 0, 0, 0)
                verdict = machine.run(Call(AUDIT_VALUES["x86_64"], number, arguments))
                assert verdict == judge(rules, name, arguments)


@pytest.mark.parametrize("size", range(56, 68))
def test_jumps_are_right_where_short_ones_end(size: int) -> None:
    """At 255 instructions a jump is short, at 256 it cannot be: every length between is met."""
    for extra in range(6):
        of_ioctl = (
            *(((1, 0xFFFF, number),) for number in range(extra)),
            *(((1, 2**64 - 1, number << 32 | number),) for number in range(1, size)),
        )
        rules = Rules(
            allowed=frozenset({"read"}),
            allowed_if={"ioctl": of_ioctl},
            refused_if={},
            refused=frozenset({"sendto"}),
        )
        machine = Machine(compile_filter(rules, "x86_64"))
        for name in ("read", "write", "ioctl", "sendto", "rseq"):
            for value in (0, 1 << 32 | 1, size - 1 << 32 | size - 1, size << 32 | size):
                number = ARCHITECTURES["x86_64"].numbers()[name]
                arguments = (0, value, 0, 0, 0, 0)
                verdict = machine.run(Call(AUDIT_VALUES["x86_64"], number, arguments))
                assert verdict == judge(rules, name, arguments)
