"""Attempts on the agent's folder: its code, and what in it is the host's alone."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from .files import open_for_writing, read_some, read_told
from .ground import Ground, attempt
from .kernel_calls import AT_FDCWD, call

_EXCHANGE = 2  # linux/fs.h RENAME_EXCHANGE


@attempt(lacking="the file system may have no such flags")
def change_flags_of_code(ground: Ground) -> str:
    """Change the flags of a file that may only be read (ioctl_iflags(2))."""
    fd = os.open(ground.inside("entrypoint.py"), os.O_RDONLY)
    flags = bytearray(8)
    fcntl.ioctl(fd, 0x80086601, flags)  # FS_IOC_GETFLAGS
    flags[0] ^= 0x40  # FS_NODUMP_FL
    fcntl.ioctl(fd, 0x40086602, bytes(flags))  # FS_IOC_SETFLAGS
    return "changed whether it is dumped"


@attempt()
def lease_agents_code(ground: Ground) -> str:
    """Make whoever opens a file for writing wait (F_SETLEASE)."""
    fd = os.open(ground.inside("entrypoint.py"), os.O_RDONLY)
    fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_RDLCK)
    return "whoever writes it has to wait"


@attempt()
def shut_agents_configuration(ground: Ground) -> str:
    """Take the right to read its configuration from the host, whose user owns it too."""
    path = Path(ground.inside("config.yaml"))
    mode = path.stat().st_mode
    path.chmod(0)
    path.chmod(mode)
    return "shut it, and opened it again"


@attempt()
def write_agents_code(ground: Ground) -> str:
    """Change the code that the next worker runs."""
    return open_for_writing(ground.inside("entrypoint.py"))


@attempt()
def write_agents_configuration(ground: Ground) -> str:
    """Change the policy that the next worker gets."""
    return open_for_writing(ground.inside("config.yaml"))


@attempt()
def reopen_configuration_for_writing(ground: Ground) -> str:
    """Open it for reading, which is allowed, and again by its number in /proc."""
    fd = os.open(ground.inside("config.yaml"), os.O_RDONLY)
    return open_for_writing(f"/proc/self/fd/{fd}")


@attempt()
def add_module_to_agent(ground: Ground) -> str:
    """Add a module that the next worker imports."""
    Path(ground.inside(f"added_{os.getpid()}.py")).write_text("x = 1\n")
    return "added a module"


@attempt()
def plant_bytecode(ground: Ground) -> str:
    """Leave compiled code for a module of the agent's that the next worker imports."""
    folder = Path(ground.inside("__pycache__"))
    folder.mkdir(exist_ok=True)
    (folder / "settings.cpython-399.pyc").write_bytes(b"x")
    return "left compiled code"


@attempt()
def read_vault(ground: Ground) -> str:
    """Read the file of all secrets."""
    return read_told(ground, ground.inside("secrets/vault.json"))


@attempt()
def hard_link_vault(ground: Ground) -> str:
    """Give the vault a name in the scratch folder."""
    link = ground.scratch("vault")
    os.link(ground.inside("secrets/vault.json"), link)
    return read_told(ground, link)


@attempt()
def read_vault_over_cache(ground: Ground) -> str:
    """Read the vault by a path that begins in the scratch folder."""
    return read_told(ground, ground.inside("runtime/cache/../../secrets/vault.json"))


@attempt()
def write_vault(ground: Ground) -> str:
    """Change the file of all secrets."""
    return open_for_writing(ground.inside("secrets/vault.json"))


@attempt()
def read_journal(ground: Ground) -> str:
    """Read the tasks of other callers."""
    return read_some(ground.inside("runtime/journal.db"))


@attempt()
def write_journal(ground: Ground) -> str:
    """Change what the host knows of tasks."""
    return open_for_writing(ground.inside("runtime/journal.db"))


@attempt()
def lock_journal(ground: Ground) -> str:
    """Hold SQLite's lock, so that the host can write no more (fcntl(2))."""
    fd = os.open(ground.inside("runtime/journal.db"), os.O_RDWR)
    # The byte that SQLite keeps for nothing but this: a lock there does not disturb the test.
    fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, 0x40000000 + 1000)
    return "locked it"


@attempt()
def read_log(ground: Ground) -> str:
    """Read what other tasks logged."""
    return read_some(ground.inside("logs/runtime.log"))


@attempt()
def write_log(ground: Ground) -> str:
    """Forge lines of the log."""
    return open_for_writing(ground.inside("logs/runtime.log"))


@attempt()
def read_hosts_address(ground: Ground) -> str:
    """Read what the host tells its own command line."""
    return read_some(ground.inside("runtime/host.json"))


@attempt()
def add_file_to_runtime(ground: Ground) -> str:
    """Leave a file where the host keeps its own."""
    Path(ground.inside(f"runtime/added-{os.getpid()}")).write_text("x")
    return "left a file"


@attempt()
def replace_file_in_runtime(ground: Ground) -> str:
    """Move a file of one's own over one of the host's."""
    own = Path(ground.scratch("own"))
    own.write_text("x")
    own.rename(ground.inside("runtime/decoy"))
    return "replaced it"


@attempt()
def exchange_file_in_runtime(ground: Ground) -> str:
    """Exchange a file of one's own for one of the host's (renameat2(2))."""
    own = Path(ground.scratch("exchanged"))
    own.write_text("x")
    theirs = ground.inside("runtime/decoy").encode()
    call("renameat2", AT_FDCWD, str(own).encode(), AT_FDCWD, theirs, _EXCHANGE)
    return "exchanged it"


@attempt()
def remove_file_in_runtime(ground: Ground) -> str:
    """Remove one of the host's files."""
    Path(ground.inside("runtime/removable")).unlink()
    return "removed it"


@attempt()
def put_link_for_scratch_folder(ground: Ground) -> str:
    """Put a symbolic link where the host expects the scratch folder."""
    cache = Path(ground.inside("runtime/cache"))
    aside = cache.with_name(f"aside-{os.getpid()}")
    cache.rename(aside)
    try:
        cache.symlink_to("/etc")
        cache.unlink()
    finally:
        aside.rename(cache)
    return "put a link there"


@attempt()
def remove_scratch_folder(ground: Ground) -> str:
    """Make the folder itself go, by which the policy knows it."""
    folder = Path(ground.inside("runtime/empty"))
    folder.rmdir()
    folder.mkdir()
    return "removed a folder in runtime"
