"""Packages are made smaller in the images: they must load as before, and say what they are."""

from __future__ import annotations

import base64
import csv
import hashlib
import importlib.machinery
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from scripts.images.trim import is_dropped, loaded_size, stripped, trim

_LIBRARIES = sorted(Path(sys.prefix).glob("lib/python*/site-packages/multidict/*.so"))


def test_a_trimmed_library_loads_and_works(tmp_path: Path) -> None:
    """Half of the packages' size is for debuggers; the loader never maps it (elf(5))."""
    package = Path(sys.prefix).glob("lib/python*/site-packages/multidict")
    copy = shutil.copytree(next(package), tmp_path / "multidict")
    (library,) = copy.glob(f"_multidict*{importlib.machinery.EXTENSION_SUFFIXES[0]}")
    before = library.stat().st_size
    library.write_bytes(stripped(library.read_bytes()))

    code = "import multidict; print(multidict.__file__, multidict.CIMultiDict(A='1')['a'])"
    answer = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )

    assert library.stat().st_size < before
    assert answer.stdout.split() == [str(copy / "__init__.py"), "1"]


def test_a_trimmed_library_is_trimmed_once() -> None:
    """The same input gives the same bytes, whoever has been there before."""
    once = stripped(_LIBRARIES[0].read_bytes())

    assert stripped(once) == once
    assert struct.unpack_from("<HH", once, 0x3C) == (0, 0)


@pytest.mark.parametrize("text", [b"", b"GROUP ( libc.so.6 )", b"\x7fELF\x01\x01"])
def test_what_is_no_library_of_this_kind_is_left_alone(text: bytes) -> None:
    """A linker script is called .so too, and a 32-bit file has another header."""
    assert loaded_size(text) == len(text)
    assert stripped(text) == text


@pytest.mark.parametrize(
    ("path", "dropped"),
    [
        ("zstandard/_cffi.cpython-311-x86_64-linux-gnu.so", True),
        ("wcwidth/_wcwidth_c.abi3.so", True),
        ("aiomonitor/webui/static/tailwind.js", True),
        ("aiomonitor/webui/app.py", False),
        ("psutil/_pswindows.py", True),
        ("psutil/_pslinux.py", False),
        ("pip/_vendor/distlib/w64.exe", True),
        ("zstandard/backend_c.cpython-311-x86_64-linux-gnu.so", False),
        ("psutil/tests/test_linux.py", True),
        ("aiohttp/_http_parser.pyx", True),
        ("aiohttp/web.py", False),
        ("kagent_sdk/cli/templates/hello/tests/test_agent.py", False),
    ],
)
def test_tests_and_sources_of_libraries_are_dropped_but_never_ours(
    path: str, *, dropped: bool
) -> None:
    """The template of a new agent has tests, which `kos-agent init` writes."""
    assert is_dropped(path) is dropped


def test_the_record_says_what_is_there(tmp_path: Path) -> None:
    """A check of installed files compares them with RECORD, and must find them untouched."""
    library = tmp_path / "thing" / "fast.so"
    library.parent.mkdir()
    library.write_bytes(_LIBRARIES[0].read_bytes())
    (tmp_path / "thing" / "fast.c").write_text("int main() {}")
    info = tmp_path / "thing-1.dist-info"
    info.mkdir()
    (info / "RECORD").write_text(
        "thing/fast.so,sha256=old,9\nthing/fast.c,sha256=x,13\nthing-1.dist-info/RECORD,,\n"
    )

    saved = trim(tmp_path)

    rows = list(csv.reader((info / "RECORD").read_text().splitlines()))
    digest = base64.urlsafe_b64encode(hashlib.sha256(library.read_bytes()).digest()).rstrip(b"=")
    assert rows == [
        ["thing/fast.so", f"sha256={digest.decode()}", str(library.stat().st_size)],
        ["thing-1.dist-info/RECORD", "", ""],
    ]
    assert saved == _LIBRARIES[0].stat().st_size - library.stat().st_size + 13
