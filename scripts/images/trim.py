"""Make installed packages smaller: drop tests and what nothing loads, and debug data of libraries.

    python3 trim.py FOLDER

Runs while an image is built. What is changed is changed in each package's RECORD too, so that a
check of the installed files still holds.
"""

from __future__ import annotations

import base64
import csv
import hashlib
import re
import struct
import sys
from pathlib import Path

# zstandard has its library twice, and loads this one only where there is no C API of CPython (and
# the package cffi, which nothing here needs). wcwidth does in Python what its library does, 2 MB of
# it for the widths of a few prompts; aiomonitor's files are for its web pages, which nobody opens
# here. What is for other systems is never loaded, and the rest is source that C compilers would read.
_DROPPED = re.compile(
    r"(^|/)(zstandard/_cffi\..*\.so|wcwidth/_wcwidth_c\..*\.so|aiomonitor/webui/static/.*"
    r"|psutil/_ps(aix|bsd|osx|sunos|windows)\.py|pip/.*\.exe|tests?/.*)$"
    r"|^(?!kagent_sdk/).*\.(pyx|pxd|pxi|c|h)$"
)
_KEPT = re.compile(r"^kagent_sdk/")

_LOADED = 1  # PT_LOAD, elf(5)


def loaded_size(elf: bytes) -> int:
    """Return how much of a 64-bit ELF file the loader maps; its whole size when it is none.

    Behind that lie the section headers and the debug data, for debuggers alone (elf(5)).
    """
    if elf[:5] != b"\x7fELF\x02" or elf[5:6] != b"\x01":
        return len(elf)
    (table,) = struct.unpack_from("<Q", elf, 0x20)
    entry_size, count = struct.unpack_from("<HH", elf, 0x36)
    end: int = table + entry_size * count
    for position in range(table, end, entry_size):
        kind, _flags, offset, _, _, size = struct.unpack_from("<IIQQQQ", elf, position)
        if kind == _LOADED:
            end = max(end, offset + size)
    return min(end, len(elf))


def stripped(elf: bytes) -> bytes:
    """Return a library without what the loader does not map."""
    size = loaded_size(elf)
    if size == len(elf):
        return elf
    head = bytearray(elf[:size])
    # No section headers: their offset, number and the index of their names.
    struct.pack_into("<Q", head, 0x28, 0)
    struct.pack_into("<HH", head, 0x3C, 0, 0)
    return bytes(head)


def is_dropped(path: str) -> bool:
    """Tell whether a file of a package, by its path in the folder, is left out."""
    return not _KEPT.match(path) and _DROPPED.search(path) is not None


def trim(folder: Path) -> int:
    """Trim all packages in a folder; return how many bytes that saved."""
    return sum(
        _trim_package(folder, record) for record in sorted(folder.glob("*.dist-info/RECORD"))
    )


def _trim_package(folder: Path, record: Path) -> int:
    saved, rows = 0, []
    for path, digest, size in csv.reader(record.read_text("utf-8").splitlines()):
        file = folder / path
        if is_dropped(path) and file.is_file():
            saved += file.stat().st_size
            file.unlink()
        elif path.endswith(".so") and file.is_file():
            before = file.read_bytes()
            after = stripped(before)
            file.write_bytes(after)
            saved += len(before) - len(after)
            rows.append((path, _digest(after), str(len(after))))
        else:
            rows.append((path, digest, size))
    with record.open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream, lineterminator="\n").writerows(rows)
    return saved


def _digest(data: bytes) -> str:
    return "sha256=" + base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()


if __name__ == "__main__":
    print(f"trimmed {trim(Path(sys.argv[1])):,} bytes")
