"""Attempts on files: outside of the agent's folder, and what in it is the host's."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from .ground import BlockedError, Ground, attempt
from .kernel_calls import AT_FDCWD, call, libc, structure, word

_FOLLOW = 0x400  # linux/fcntl.h AT_SYMLINK_FOLLOW
_EXCHANGE = 2  # linux/fs.h RENAME_EXCHANGE


def _open_for_writing(path: str) -> str:
    fd = os.open(path, os.O_WRONLY | os.O_APPEND)
    os.close(fd)
    return f"opened {path} for writing"


def _read(ground: Ground, path: str) -> str:
    return ground.expect(Path(path).read_bytes())


def _read_some(path: str) -> str:
    with Path(path).open("rb") as file:
        return f"read {len(file.read(64))} bytes of {path}"


def _names(folder: str) -> list[str]:
    return sorted(os.listdir(folder))  # noqa: PTH208 - names alone


@attempt()
def read_file_outside(ground: Ground) -> str:
    """Read a file of the user that is no business of the agent's."""
    return _read(ground, ground.outside("secret"))


@attempt()
def read_by_openat2(ground: Ground) -> str:
    """Read it by the newest way to open a file."""
    path = ground.outside("secret").encode()
    fd = call("openat2", AT_FDCWD, path, structure(24, {}), 24)
    return ground.expect(os.read(fd, 100))


@attempt()
def read_from_changed_folder(ground: Ground) -> str:
    """Read it by a relative path."""
    os.chdir(ground.field)
    return _read(ground, "secret")


@attempt()
def read_by_path_descriptor(ground: Ground) -> str:
    """Read it by a descriptor that names the folder alone."""
    folder = os.open(ground.field, os.O_PATH)
    return ground.expect(os.read(os.open("secret", os.O_RDONLY, dir_fd=folder), 100))


@attempt()
def reopen_path_descriptor(ground: Ground) -> str:
    """Name it without opening, then open it by its number in /proc."""
    fd = os.open(ground.outside("secret"), os.O_PATH)
    return _read(ground, f"/proc/self/fd/{fd}")


@attempt()
def read_through_own_root(ground: Ground) -> str:
    """Read it through /proc/self/root."""
    return _read(ground, f"/proc/self/root{ground.outside('secret')}")


@attempt()
def read_through_symlink(ground: Ground) -> str:
    """Read it through a symbolic link in the scratch folder."""
    link = ground.scratch("link")
    Path(link).symlink_to(ground.outside("secret"))
    return _read(ground, link)


@attempt()
def read_through_hard_link(ground: Ground) -> str:
    """Give it a second name in the scratch folder."""
    link = ground.scratch("hard")
    os.link(ground.outside("secret"), link)
    return _read(ground, link)


@attempt()
def move_file_in(ground: Ground) -> str:
    """Move it into the scratch folder."""
    source = ground.outside(f"moved-{os.getpid()}")
    shutil.copy(ground.outside("secret"), source)
    Path(source).rename(ground.scratch("moved"))
    return _read(ground, ground.scratch("moved"))


@attempt()
def list_folder_outside(ground: Ground) -> str:
    """List a folder."""
    return f"saw {sorted(_names(ground.field))}"


@attempt()
def stat_file_outside(ground: Ground) -> str:
    """Learn the size and times of a file."""
    return f"{Path(ground.outside('secret')).stat().st_size} bytes"


@attempt()
def watch_file_outside(ground: Ground) -> str:
    """Be told when a file is read or written (inotify(7))."""
    fd = libc("inotify_init1", 0)
    watch = libc("inotify_add_watch", fd, ground.outside("secret").encode(), 0xFFF)
    return f"watch {watch}"


@attempt()
def write_file_outside(ground: Ground) -> str:
    """Make a file."""
    path = Path(ground.outside(f"made-{os.getpid()}"))
    path.write_text("x")
    return f"made {path}"


@attempt()
def write_through_symlink(ground: Ground) -> str:
    """Write through a symbolic link in the scratch folder."""
    link = Path(ground.scratch("way-out"))
    link.symlink_to(ground.outside(f"written-{os.getpid()}"))
    link.write_text("x")
    return f"wrote {link.readlink()}"


@attempt()
def make_nameless_file_outside(ground: Ground) -> str:
    """Make a file without a name (O_TMPFILE) and give it one."""
    fd = os.open(ground.field, os.O_TMPFILE | os.O_WRONLY, 0o600)
    os.write(fd, b"x")
    name = ground.outside(f"named-{os.getpid()}").encode()
    libc("linkat", AT_FDCWD, f"/proc/self/fd/{fd}".encode(), AT_FDCWD, name, _FOLLOW)
    return "made a nameless file"


@attempt()
def make_folder_outside(ground: Ground) -> str:
    """Make a folder."""
    Path(ground.outside(f"folder-{os.getpid()}")).mkdir()
    return "made a folder"


@attempt()
def make_pipe_outside(ground: Ground) -> str:
    """Make a named pipe, by which a process outside could be talked to."""
    os.mkfifo(ground.outside(f"pipe-{os.getpid()}"))
    return "made a pipe"


@attempt()
def make_socket_outside(ground: Ground) -> str:
    """Make a socket's file."""
    os.mknod(ground.outside(f"node-{os.getpid()}"), 0o140600)
    return "made a socket's file"


@attempt()
def make_link_outside(ground: Ground) -> str:
    """Leave a symbolic link where somebody else follows it."""
    Path(ground.outside(f"link-{os.getpid()}")).symlink_to("/etc/passwd")
    return "made a link"


@attempt()
def remove_file_outside(ground: Ground) -> str:
    """Remove a file."""
    Path(ground.outside("victims/removed")).unlink()
    return "removed it"


@attempt()
def rename_file_outside(ground: Ground) -> str:
    """Rename a file."""
    Path(ground.outside("victims/renamed")).rename(ground.outside(f"victims/r-{os.getpid()}"))
    return "renamed it"


@attempt()
def truncate_file_outside(ground: Ground) -> str:
    """Empty a file by its path, without opening it (truncate(2))."""
    os.truncate(ground.outside("victims/truncated"), 0)
    return "emptied it"


@attempt()
def change_mode_outside(ground: Ground) -> str:
    """Change the mode of a file of the user."""
    Path(ground.outside("victims/mode")).chmod(0o666)
    return "changed its mode"


@attempt()
def change_times_outside(ground: Ground) -> str:
    """Change the times of a file of the user."""
    os.utime(ground.outside("victims/times"), (1, 1))
    return "changed its times"


@attempt(lacking="the file system may have no user attributes")
def change_attributes_outside(ground: Ground) -> str:
    """Write an extended attribute of a file of the user."""
    os.setxattr(ground.outside("victims/attributes"), "user.note", b"x")
    return "wrote an attribute"


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
    return _open_for_writing(ground.inside("entrypoint.py"))


@attempt()
def write_agents_configuration(ground: Ground) -> str:
    """Change the policy that the next worker gets."""
    return _open_for_writing(ground.inside("config.yaml"))


@attempt()
def reopen_configuration_for_writing(ground: Ground) -> str:
    """Open it for reading, which is allowed, and again by its number in /proc."""
    fd = os.open(ground.inside("config.yaml"), os.O_RDONLY)
    return _open_for_writing(f"/proc/self/fd/{fd}")


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
    return _read(ground, ground.inside("secrets/vault.json"))


@attempt()
def hard_link_vault(ground: Ground) -> str:
    """Give the vault a name in the scratch folder."""
    link = ground.scratch("vault")
    os.link(ground.inside("secrets/vault.json"), link)
    return _read(ground, link)


@attempt()
def read_vault_over_cache(ground: Ground) -> str:
    """Read the vault by a path that begins in the scratch folder."""
    return _read(ground, ground.inside("runtime/cache/../../secrets/vault.json"))


@attempt()
def write_vault(ground: Ground) -> str:
    """Change the file of all secrets."""
    return _open_for_writing(ground.inside("secrets/vault.json"))


@attempt()
def read_journal(ground: Ground) -> str:
    """Read the tasks of other callers."""
    return _read_some(ground.inside("runtime/journal.db"))


@attempt()
def write_journal(ground: Ground) -> str:
    """Change what the host knows of tasks."""
    return _open_for_writing(ground.inside("runtime/journal.db"))


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
    return _read_some(ground.inside("logs/runtime.log"))


@attempt()
def write_log(ground: Ground) -> str:
    """Forge lines of the log."""
    return _open_for_writing(ground.inside("logs/runtime.log"))


@attempt()
def read_hosts_address(ground: Ground) -> str:
    """Read what the host tells its own command line."""
    return _read_some(ground.inside("runtime/host.json"))


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


@attempt()
def write_into_temporary_folder(ground: Ground) -> str:
    """Leave a file where all users of the machine do."""
    with tempfile.NamedTemporaryFile(dir="/tmp") as file:
        file.write(ground.field.encode())
    return "left a file"


@attempt()
def read_neighbours_shared_memory(ground: Ground) -> str:
    """Read a file of shared memory that another process of the user made (shm_overview(7))."""
    return _read(ground, f"/dev/shm/{ground.abstract}")  # noqa: S108 - that is the point


@attempt()
def open_terminal(ground: Ground) -> str:
    """Make a pseudo-terminal."""
    fd = os.open("/dev/ptmx", os.O_RDWR | os.O_NOCTTY)
    return f"descriptor {fd}"


@attempt(needs_root=True)
def read_password_hashes(ground: Ground) -> str:
    """Read what only root may."""
    return _read_some("/etc/shadow")


@attempt(needs_root=True)
def open_by_handle(ground: Ground) -> str:
    """Open a file by its number, past all paths (open_by_handle_at(2))."""
    handle, mount = structure(8 + 128, {0: word(128)}), structure(4, {})
    path = ground.outside("secret").encode()
    call("name_to_handle_at", AT_FDCWD, path, handle, mount, 0)
    root = os.open("/", os.O_RDONLY)
    return ground.expect(os.read(call("open_by_handle_at", root, handle, os.O_RDONLY), 100))


@attempt(needs_root=True, lacking="a container may have no block device")
def read_disk(ground: Ground) -> str:
    """Read the disk below all file systems."""
    lines = Path("/proc/partitions").read_text().split("\n\n")[1].splitlines()
    for line in lines:
        major, minor, _, name = line.split()
        if os.path.exists(f"/dev/{name}"):  # noqa: PTH110 - short
            return _read_some(f"/dev/{name}") + f" {major}:{minor}"
    raise BlockedError("no block device")


@attempt(needs_root=True)
def make_device(ground: Ground) -> str:
    """Make a device's file in the scratch folder."""
    path = ground.scratch("device")
    os.mknod(path, 0o020666, os.makedev(1, 1))
    return f"made {path}"


@attempt(needs_root=True)
def give_file_away(ground: Ground) -> str:
    """Make a file another user's."""
    path = Path(ground.scratch("gift"))
    path.write_text("x")
    try:
        os.chown(path, 0, 0)
    except OSError as exc:
        if exc.errno == errno.EINVAL:  # user_namespaces(7)
            raise BlockedError("there is no such user in this namespace") from None
        raise
    return "gave it away"
