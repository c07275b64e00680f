"""Giving up the powers of root, held now or to come (capabilities(7))."""

from __future__ import annotations

import errno

from kagent_sdk.sandbox.kernel import (
    PR_CAP_AMBIENT,
    PR_CAP_AMBIENT_CLEAR_ALL,
    PR_CAPBSET_DROP,
    PR_CAPBSET_READ,
    PR_SET_NO_NEW_PRIVS,
    PR_SET_SECUREBITS,
    capset,
    prctl,
)

_VERSION_3 = 0x20080522
_MAX_CAPABILITIES = 64
_SECURE_BITS = 0b1110_1111
"""NOROOT, NO_SETUID_FIXUP and NO_CAP_AMBIENT_RAISE with their locks, KEEP_CAPS locked at off: user 0
is nobody special."""


def empty_bounding_set() -> bool:
    """Let no program give capabilities; return False when the process has no right to say so.

    Must come before the change of user, which takes that right away. Without it no_new_privs is the
    guard.
    """
    try:
        for number in range(_MAX_CAPABILITIES):
            if prctl(PR_CAPBSET_READ, number):
                prctl(PR_CAPBSET_DROP, number)
    except OSError as exc:
        return exc.errno == errno.EINVAL  # the end of those that the kernel has
    return True


def forbid_new_privileges() -> None:
    """Let no program that is run give any privilege, whatever its owner and bits.

    Raises:
        OSError: the kernel refused.
    """
    prctl(PR_SET_NO_NEW_PRIVS, 1)


def drop_all() -> None:
    """Give up every capability that is held, inheritable or ambient.

    Raises:
        OSError: the kernel refused.
    """
    try:  # noqa: SIM105 - contextlib costs 2 ms
        prctl(PR_SET_SECUREBITS, _SECURE_BITS)
    except OSError:
        pass  # only for a process with CAP_SETPCAP; the others cannot come by capabilities either
    prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL)
    capset(_VERSION_3.to_bytes(4, "little") + bytes(4), bytes(24))
