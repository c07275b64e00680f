"""Attempts to run programs and libraries that were brought along."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
from pathlib import Path

from .ground import Ground, attempt


@attempt()
def run_program_from_scratch_folder(ground: Ground) -> str:
    """Run a program that was brought along."""
    program = ground.scratch("program")
    shutil.copy(shutil.which("true") or "/bin/true", program)
    Path(program).chmod(0o755)
    done = subprocess.run([program], check=True)
    return f"ran it: {done.returncode}"


@attempt()
def run_script_from_scratch_folder(ground: Ground) -> str:
    """Run a script that was brought along, by its first line."""
    program = Path(ground.scratch("script"))
    program.write_text("#!/bin/sh\nexit 0\n")
    program.chmod(0o755)
    done = subprocess.run([str(program)], check=True)
    return f"ran it: {done.returncode}"


@attempt()
def run_program_outside(ground: Ground) -> str:
    """Run a program in a folder that is no business of the agent's."""
    done = subprocess.run([ground.outside("program")], check=True, capture_output=True)
    return f"ran it: {done.stdout!r}"


@attempt()
def run_program_in_memory(ground: Ground) -> str:
    """Run a program that is in no file system (memfd_create(2), execveat(2))."""
    fd = os.memfd_create("program")
    os.write(fd, Path(shutil.which("true") or "/bin/true").read_bytes())
    done = subprocess.run([f"/proc/self/fd/{fd}"], check=True, pass_fds=[fd])
    return f"ran it: {done.returncode}"


@attempt(lacking="a loader in another place")
def run_program_by_loader(ground: Ground) -> str:
    """Run a program that was brought along by the loader, which only reads it."""
    program = Path(ground.scratch("loaded"))
    shutil.copy(shutil.which("true") or "/bin/true", program)
    program.chmod(0o755)
    names = ("/lib64/ld-linux-x86-64.so.2", "/lib/ld-linux-aarch64.so.1")
    loader = next(name for name in names if Path(name).exists())
    done = subprocess.run([loader, str(program)], check=True)
    return f"ran it: {done.returncode}"


@attempt()
def load_library_from_scratch_folder(ground: Ground) -> str:
    """Load a library that was brought along into the process."""
    found = next(
        line.split()[-1]
        for line in Path("/proc/self/maps").read_text().splitlines()
        if "/libm." in line or "/libm-" in line or "/libc." in line or "/libc-" in line
    )
    library = ground.scratch("library.so")
    shutil.copy(found, library)
    ctypes.CDLL(library)
    return f"loaded a copy of {found}"
