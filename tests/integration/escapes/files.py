"""Attempts on files: outside of the agent's folder, and what in it is the host's."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from pathlib import Path

from .ground import BlockedError, Ground, attempt
from .kernel_calls import AT_FDCWD, call, libc, structure, word

_FOLLOW = 0x400  # linux/fcntl.h AT_SYMLINK_FOLLOW


def open_for_writing(path: str) -> str:
    """Open a file as one that forges it would, and write nothing."""
    fd = os.open(path, os.O_WRONLY | os.O_APPEND)
    os.close(fd)
    return f"opened {path} for writing"


def read_told(ground: Ground, path: str) -> str:
    """Read the secret from a file."""
    return ground.expect(Path(path).read_bytes())


def read_some(path: str) -> str:
    """Read the start of a file."""
    with Path(path).open("rb") as file:
        return f"read {len(file.read(64))} bytes of {path}"


def _names(folder: str) -> list[str]:
    return sorted(os.listdir(folder))  # noqa: PTH208 - names alone


@attempt()
def read_file_outside(ground: Ground) -> str:
    """Read a file of the user that is no business of the agent's."""
    return read_told(ground, ground.outside("secret"))


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
    return read_told(ground, "secret")


@attempt()
def read_by_path_descriptor(ground: Ground) -> str:
    """Read it by a descriptor that names the folder alone."""
    folder = os.open(ground.field, os.O_PATH)
    return ground.expect(os.read(os.open("secret", os.O_RDONLY, dir_fd=folder), 100))


@attempt()
def reopen_path_descriptor(ground: Ground) -> str:
    """Name it without opening, then open it by its number in /proc."""
    fd = os.open(ground.outside("secret"), os.O_PATH)
    return read_told(ground, f"/proc/self/fd/{fd}")


@attempt()
def read_through_own_root(ground: Ground) -> str:
    """Read it through /proc/self/root."""
    return read_told(ground, f"/proc/self/root{ground.outside('secret')}")


@attempt()
def read_through_symlink(ground: Ground) -> str:
    """Read it through a symbolic link in the scratch folder."""
    link = ground.scratch("link")
    Path(link).symlink_to(ground.outside("secret"))
    return read_told(ground, link)


@attempt()
def read_through_hard_link(ground: Ground) -> str:
    """Give it a second name in the scratch folder."""
    link = ground.scratch("hard")
    os.link(ground.outside("secret"), link)
    return read_told(ground, link)


@attempt()
def move_file_in(ground: Ground) -> str:
    """Move it into the scratch folder."""
    source = ground.outside(f"moved-{os.getpid()}")
    shutil.copy(ground.outside("secret"), source)
    Path(source).rename(ground.scratch("moved"))
    return read_told(ground, ground.scratch("moved"))


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


@attempt()
def write_into_temporary_folder(ground: Ground) -> str:
    """Leave a file where all users of the machine do."""
    with tempfile.NamedTemporaryFile(dir="/tmp") as file:
        file.write(ground.field.encode())
    return "left a file"


@attempt()
def read_neighbours_shared_memory(ground: Ground) -> str:
    """Read a file of shared memory that another process of the user made (shm_overview(7))."""
    return read_told(ground, f"/dev/shm/{ground.abstract}")  # noqa: S108 - that is the point


@attempt()
def open_terminal(ground: Ground) -> str:
    """Make a pseudo-terminal."""
    fd = os.open("/dev/ptmx", os.O_RDWR | os.O_NOCTTY)
    return f"descriptor {fd}"


@attempt(needs_root=True)
def read_password_hashes(ground: Ground) -> str:
    """Read what only root may."""
    return read_some("/etc/shadow")


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
            return read_some(f"/dev/{name}") + f" {major}:{minor}"
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
