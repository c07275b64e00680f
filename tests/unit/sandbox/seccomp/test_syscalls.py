"""Unit tests of kagent_sdk.sandbox.seccomp.syscalls."""

from __future__ import annotations

import ctypes
import ctypes.util

import pyseccomp
import pytest

from kagent_sdk.sandbox.seccomp.syscalls import ARCHITECTURES
from tests.unit.sandbox.seccomp.machine import AUDIT_VALUES

architectures = pytest.mark.parametrize("architecture", ARCHITECTURES)


@architectures
def test_numbers_are_those_of_libseccomp(architecture: str) -> None:
    """A name with the number of another syscall would allow that one."""
    numbers = ARCHITECTURES[architecture].numbers()
    theirs = {
        name: number
        for name in numbers
        if (number := pyseccomp.resolve_syscall(AUDIT_VALUES[architecture], name)) >= 0
    }

    assert len(theirs) > 300
    assert theirs == {name: numbers[name] for name in theirs}


@architectures
def test_no_syscall_of_libseccomp_is_missing(architecture: str) -> None:
    """One that is missing is ENOSYS, whatever the rules say of it."""
    resolve = ctypes.CDLL(ctypes.util.find_library("seccomp")).seccomp_syscall_resolve_num_arch
    resolve.restype = ctypes.c_char_p  # pyseccomp frees half of the pointer
    answers = (resolve(ctypes.c_uint32(AUDIT_VALUES[architecture]), n) for n in range(600))
    theirs = {name.decode() for name in answers if name is not None}

    assert len(theirs) > 300
    assert theirs <= ARCHITECTURES[architecture].numbers().keys()


@architectures
def test_every_syscall_has_a_number_of_its_own(architecture: str) -> None:
    """Two names with one number would have the outcome of whichever comes last."""
    numbers = ARCHITECTURES[architecture].numbers()

    assert len(set(numbers.values())) == len(numbers)


def test_what_is_newer_than_linux_5_1_has_the_same_number_everywhere() -> None:
    """The kernel gives new syscalls one number for all architectures."""
    new = [
        {name: number for name, number in known.numbers().items() if number >= 424}
        for known in ARCHITECTURES.values()
    ]

    assert new[0] == new[1]
    assert new[0]["landlock_create_ruleset"] == 444
    assert new[0]["mseal"] == 462
    assert new[0]["file_setattr"] == 469
