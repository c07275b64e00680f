"""Landlock: which files and TCP ports this process and its children may use (landlock(7)).

Written against Documentation/userspace-api/landlock.rst, up to ABI 7.
"""

from __future__ import annotations

import errno
import os
import stat

from kagent_sdk.sandbox.kernel import syscall
from kagent_sdk.sandbox.paths import DEVICE, EXECUTE, LIST, READ, WRITE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

# The same on all architectures that are newer than the unified table (5.1).
_OPENAT2 = 437
_CREATE_RULESET = 444
_ADD_RULE = 445
_RESTRICT_SELF = 446

_VERSION = 1  # LANDLOCK_CREATE_RULESET_VERSION
_PATH_BENEATH = 1
_NET_PORT = 2

FS_EXECUTE = 1 << 0
FS_WRITE_FILE = 1 << 1
FS_READ_FILE = 1 << 2
FS_READ_DIR = 1 << 3
FS_REMOVE_DIR = 1 << 4
FS_REMOVE_FILE = 1 << 5
FS_MAKE_DIR = 1 << 7
FS_MAKE_REG = 1 << 8
FS_MAKE_SOCK = 1 << 9
FS_MAKE_FIFO = 1 << 10
FS_MAKE_SYM = 1 << 12
FS_REFER = 1 << 13
FS_TRUNCATE = 1 << 14
FS_IOCTL_DEV = 1 << 15
_FILES = FS_EXECUTE | FS_WRITE_FILE | FS_READ_FILE | FS_TRUNCATE | FS_IOCTL_DEV
_MAKE = FS_MAKE_DIR | FS_MAKE_REG | FS_MAKE_SOCK | FS_MAKE_FIFO | FS_MAKE_SYM
"""Character and block devices are made by nobody: MAKE_CHAR and MAKE_BLOCK are denied everywhere."""

_ACCESS = {
    LIST: FS_READ_DIR,
    READ: FS_READ_FILE,
    EXECUTE: FS_EXECUTE,
    DEVICE: FS_READ_FILE | FS_WRITE_FILE | FS_IOCTL_DEV,
    WRITE: FS_WRITE_FILE | FS_REMOVE_DIR | FS_REMOVE_FILE | FS_REFER | FS_TRUNCATE | _MAKE,
}
_HANDLED_FS = {1: (1 << 13) - 1, 2: FS_REFER, 3: FS_TRUNCATE, 5: FS_IOCTL_DEV}
"""What each ABI can deny, beside what those before it can."""

NET_BIND = 1 << 0
NET_CONNECT = 1 << 1
SCOPES = 0b11  # abstract unix sockets, signals

ABI_PORTS = 4
ABI_SCOPES = 6

_RESOLVE_NO_SYMLINKS = 0x04


def find_abi() -> int:
    """Return the version of the kernel's Landlock; 0 without one."""
    try:
        return syscall(_CREATE_RULESET, None, 0, _VERSION)
    except OSError:
        return 0


def restrict(
    abi: int,
    rules: Mapping[str, int],
    listen: Sequence[int],
    connect: Sequence[int] | None,
) -> list[str]:
    """Confine this thread and what it starts; it has set no_new_privs before.

    Args:
        abi: what `find_abi` says, 1 at least; what it cannot deny stays open.
        rules: what is allowed at which path and below, in the terms of `paths`.
        listen: TCP ports to bind.
        connect: TCP ports to connect to; None leaves connecting open.

    Returns:
        The paths of the rules that are not there, or a link by now, and so allow nothing.

    Raises:
        OSError: the kernel refused; nothing is confined then.
    """
    handled_fs = sum(bits for since, bits in _HANDLED_FS.items() if since <= abi)
    handled_net = 0
    if abi >= ABI_PORTS:
        handled_net = NET_BIND | (0 if connect is None else NET_CONNECT)
    words = [handled_fs]
    if abi >= ABI_PORTS:
        words.append(handled_net)
    if abi >= ABI_SCOPES:
        words.append(SCOPES)
    attributes = b"".join(_u64(word) for word in words)
    ruleset = syscall(_CREATE_RULESET, attributes, len(attributes), 0)
    try:
        absent = [
            path
            for path, allowed in rules.items()
            if not _allow(ruleset, path, allowed, handled_fs)
        ]
        if abi >= ABI_PORTS:
            for port, access in _ports(listen, connect or ()):
                syscall(_ADD_RULE, ruleset, _NET_PORT, _u64(access) + _u64(port), 0)
        syscall(_RESTRICT_SELF, ruleset, 0)
    finally:
        os.close(ruleset)
    return absent


def _allow(ruleset: int, path: str, allowed: int, handled: int) -> bool:
    try:
        fd = _open_without_links(path)
    except OSError:
        return False
    try:
        access = sum(bits for kind, bits in _ACCESS.items() if allowed & kind) & handled
        if not stat.S_ISDIR(os.fstat(fd).st_mode):
            access &= _FILES
        if access:
            # struct landlock_path_beneath_attr is packed: 12 bytes.
            rule = _u64(access) + fd.to_bytes(4, "little")
            syscall(_ADD_RULE, ruleset, _PATH_BENEATH, rule, 0)
    finally:
        os.close(fd)
    return True


def _open_without_links(path: str) -> int:
    """Open a path for a rule: whoever may write on the way to it cannot lead the rule elsewhere."""
    flags = os.O_PATH | os.O_CLOEXEC
    how = _u64(flags) + _u64(0) + _u64(_RESOLVE_NO_SYMLINKS)
    try:
        return syscall(_OPENAT2, -100, path.encode("utf-8", "surrogateescape") + b"\0", how, 24)
    except OSError as exc:
        if exc.errno not in {errno.ENOSYS, errno.EPERM}:
            raise
    # Engines with an older seccomp profile do not know openat2(2).
    return os.open(path, flags | os.O_NOFOLLOW)


def _ports(listen: Sequence[int], connect: Sequence[int]) -> Iterator[tuple[int, int]]:
    for port in listen:
        yield port, NET_BIND
    for port in connect:
        yield port, NET_CONNECT


def _u64(word: int) -> bytes:
    return word.to_bytes(8, "little")  # x86_64 and aarch64 are little-endian
