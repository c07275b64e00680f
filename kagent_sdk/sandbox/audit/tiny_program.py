"""The smallest program there is, to see whether a folder's files can be executed. Pure (elf(5)).

It exits with 0 and needs nothing: no interpreter, no loader, no library, that the policy might not allow
and that would be refused in its place.
"""

from __future__ import annotations

import struct

_BASE = 0x400000
_HEADER_BYTES, _SEGMENT_BYTES = 64, 56

_PROGRAMS = {
    # ELF's number of the machine, and: mov eax, 60 (exit); xor edi, edi; syscall
    "x86_64": (62, bytes.fromhex("b83c00000031ff0f05")),
    # mov x8, #93 (exit); mov x0, #0; svc #0
    "aarch64": (183, bytes.fromhex("a80b8052000080d2010000d4")),
}


def tiny_program(machine: str) -> bytes | None:
    """Return the bytes of the program for a machine (uname(2)); None for one that it has no code for."""
    known = _PROGRAMS.get(machine)
    if known is None:
        return None
    number, code = known
    size = _HEADER_BYTES + _SEGMENT_BYTES + len(code)
    header = struct.pack(
        "<4s5B7x2HI3QI6H",
        b"\x7fELF",
        *(2, 1, 1, 0, 0),  # 64 bits, little-endian, version 1, System V
        *(2, number, 1),  # an executable
        *(_BASE + _HEADER_BYTES + _SEGMENT_BYTES, _HEADER_BYTES, 0),  # entry, program headers
        0,
        *(_HEADER_BYTES, _SEGMENT_BYTES, 1, 0, 0, 0),
    )
    segment = struct.pack("<2I6Q", 1, 5, 0, _BASE, _BASE, size, size, 0x1000)  # PT_LOAD, r-x
    return header + segment + code
