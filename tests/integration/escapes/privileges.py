"""Attempts to gain rights, or to be rid of limits."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import mmap
import os
import resource
import shutil
import signal
import socket
import subprocess
import termios
import time
from pathlib import Path

from .ground import BlockedError, Ground, attempt
from .kernel_calls import AT_FDCWD, call, libc, structure, word

_NEWNS, _NEWUTS, _NEWIPC = 0x00020000, 0x04000000, 0x08000000  # linux/sched.h
_NEWUSER, _NEWPID, _NEWNET = 0x10000000, 0x20000000, 0x40000000
_BIND = 4096  # linux/mount.h MS_BIND
_VERSION_3 = word(0x20080522)  # linux/capability.h
_AMBIENT, _RAISE = 47, 2  # linux/prctl.h
_NO_RANDOMIZE = 0x0040000  # linux/personality.h
_IMPLIES_EXEC = 0x0400000


def _take_user(user: int) -> None:
    try:
        os.setresuid(user, user, user)
    except OSError as exc:
        if exc.errno == errno.EINVAL:  # user_namespaces(7)
            raise BlockedError("there is no such user in this namespace") from None
        raise


def _become_root_of_namespace(flags: int = 0) -> None:
    user, group = os.getuid(), os.getgid()
    libc("unshare", _NEWUSER | flags)
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"0 {user} 1")
    Path("/proc/self/gid_map").write_text(f"0 {group} 1")


@attempt(needs_root=True)
def become_root(ground: Ground) -> str:
    """Take the user 0."""
    _take_user(0)
    if os.geteuid() != 0:
        raise BlockedError("still somebody")
    return "root"


@attempt(needs_root=True)
def become_another_user(ground: Ground) -> str:
    """Take another user."""
    _take_user(4711)
    return f"user {os.getuid()}"


@attempt(needs_root=True)
def join_groups(ground: Ground) -> str:
    """Take groups that read more."""
    os.setgroups([0, 6])
    return f"groups {os.getgroups()}"


@attempt(needs_root=True)
def regain_capabilities(ground: Ground) -> str:
    """Take all capabilities again (capset(2))."""
    wanted = word(1 << 21)  # CAP_SYS_ADMIN
    call("capset", structure(8, {0: _VERSION_3}), structure(24, {0: wanted, 4: wanted}))
    return "CAP_SYS_ADMIN"


@attempt(needs_root=True)
def make_capability_ambient(ground: Ground) -> str:
    """Hand a capability on to programs (PR_CAP_AMBIENT)."""
    wanted = word(1 << 10)
    data = structure(24, {0: wanted, 4: wanted, 8: wanted})
    call("capset", structure(8, {0: _VERSION_3}), data)
    libc("prctl", _AMBIENT, _RAISE, 10, 0, 0)
    return "CAP_NET_BIND_SERVICE"


@attempt(lacking="a machine without a set-user-ID program")
def run_set_user_id_program(ground: Ground) -> str:
    """Run a program that is root for everybody."""
    program = shutil.which("su") or "/bin/su"
    with subprocess.Popen(
        [program, "root", "-c", "true"], stdin=subprocess.PIPE, stdout=-3, stderr=-3
    ) as process:
        try:
            status = _status_of(process)
        finally:
            with contextlib.suppress(OSError):
                process.kill()
            if process.stdin:
                process.stdin.close()
    return status


def _status_of(process: subprocess.Popen[bytes]) -> str:
    # The kernel changes the user last of all in an exec: after what Popen waits for.
    users = ["none"]
    give_up_at = time.monotonic() + 2
    while process.poll() is None and time.monotonic() < give_up_at:
        text = Path(f"/proc/{process.pid}/status").read_text()
        users = next(line for line in text.splitlines() if line.startswith("Uid:")).split()
        if users[2] == "0":
            return f"its users are {users[1:]}"
        time.sleep(0.001)
    raise BlockedError(f"its users were {users[1:]}")


@attempt()
def run_brought_set_user_id_program(ground: Ground) -> str:
    """Run such a program in a folder outside: it tells the user that it is."""
    done = subprocess.run([ground.outside("root-id"), "-u"], check=True, capture_output=True)
    if done.stdout.strip() != b"0":
        raise BlockedError(f"it is {done.stdout!r}")
    return "it is root"


@attempt(lacking="user namespaces may be off")
def make_user_namespace(ground: Ground) -> str:
    """Become root of a user namespace of one's own: from there on most holes are reached."""
    _become_root_of_namespace()
    return f"user {os.getuid()}"


@attempt(lacking="user namespaces may be off")
def make_user_namespace_by_clone3(ground: Ground) -> str:
    """The same by clone3(2), whose flags no filter sees."""
    arguments = structure(88, {0: word(_NEWUSER, 8), 32: word(signal.SIGCHLD, 8)})
    child = call("clone3", arguments, 88)
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
    return "made it"


@attempt(lacking="user namespaces may be off")
def make_user_namespace_by_clone(ground: Ground) -> str:
    """The same by clone(2)."""
    number = 56 if os.uname().machine == "x86_64" else 220
    child = libc("syscall", *(ctypes.c_long(each) for each in (number, _NEWUSER | 17, 0, 0, 0, 0)))
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
    return "made it"


@attempt(lacking="user namespaces may be off")
def make_network_namespace(ground: Ground) -> str:
    """Get a network of one's own, and with it raw sockets."""
    _become_root_of_namespace(_NEWNET)
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW):
        return "a raw socket"


@attempt(lacking="user namespaces may be off")
def mount_in_namespace(ground: Ground) -> str:
    """Mount a file system over another."""
    _become_root_of_namespace(_NEWNS)
    libc("mount", b"none", ground.inside("runtime/cache").encode(), b"tmpfs", 0, None)
    return "mounted"


@attempt(lacking="user namespaces may be off")
def bind_mount_in_namespace(ground: Ground) -> str:
    """Mount a folder outside at a place that may be read."""
    _become_root_of_namespace(_NEWNS)
    cache = ground.inside("runtime/cache")
    libc("mount", ground.field.encode(), cache.encode(), None, _BIND, None)
    return ground.expect(Path(cache, "secret").read_text())


@attempt(lacking="user namespaces may be off")
def clone_tree_in_namespace(ground: Ground) -> str:
    """Mount by the newer syscalls (open_tree(2))."""
    _become_root_of_namespace(_NEWNS)
    tree = call("open_tree", AT_FDCWD, ground.field.encode(), 1 | 0x8000)
    return ground.expect(os.read(os.open("secret", os.O_RDONLY, dir_fd=tree), 100))


@attempt(lacking="user namespaces may be off")
def open_file_system_in_namespace(ground: Ground) -> str:
    """Open a file system (fsopen(2)), whose parsers had holes."""
    _become_root_of_namespace(_NEWNS)
    return f"descriptor {call('fsopen', b'tmpfs', 0)}"


@attempt(lacking="user namespaces may be off")
def change_root_in_namespace(ground: Ground) -> str:
    """Take another root folder in a namespace."""
    _become_root_of_namespace()
    os.chroot(ground.field)
    return ground.expect(Path("/secret").read_text())


@attempt(needs_root=True)
def change_root(ground: Ground) -> str:
    """Take another root folder, from which one climbs out."""
    os.chroot(ground.inside("runtime/cache"))
    return "changed"


@attempt(needs_root=True)
def make_mount_namespace(ground: Ground) -> str:
    """Take a mount namespace, and with it mounts."""
    libc("unshare", _NEWNS | _NEWUTS | _NEWIPC)
    return "made it"


@attempt(needs_root=True)
def change_host_name(ground: Ground) -> str:
    """Rename the machine, to what it is called."""
    socket.sethostname(socket.gethostname())
    return "renamed"


@attempt(needs_root=True, lacking="a container may hold /proc/sys read-only")
def set_core_pattern(ground: Ground) -> str:
    """Have the kernel run a program of ours at the next crash (core(5))."""
    os.close(os.open("/proc/sys/kernel/core_pattern", os.O_WRONLY))
    return "opened it for writing"


@attempt(needs_root=True, lacking="a machine without cgroups")
def leave_cgroup(ground: Ground) -> str:
    """Move to the cgroup that has no limits (cgroups(7))."""
    for root in (Path("/sys/fs/cgroup"), *Path("/sys/fs/cgroup").glob("*")):
        procs = root / "cgroup.procs"
        if procs.exists():
            os.close(os.open(procs, os.O_WRONLY))
            return f"opened {procs}"
    raise BlockedError("no cgroup")


@attempt()
def randomize_no_more(ground: Ground) -> str:
    """Have the next program at known addresses (personality(2))."""
    before = libc("personality", ctypes.c_ulong(0xFFFFFFFF))
    libc("personality", ctypes.c_ulong(before | _NO_RANDOMIZE))
    return "set"


@attempt()
def make_data_executable(ground: Ground) -> str:
    """Have all that can be read be code (READ_IMPLIES_EXEC)."""
    before = libc("personality", ctypes.c_ulong(0xFFFFFFFF))
    libc("personality", ctypes.c_ulong(before | _IMPLIES_EXEC))
    return "set"


@attempt()
def allow_core_dumps(ground: Ground) -> str:
    """Leave an image of the memory at a crash."""
    try:
        resource.setrlimit(resource.RLIMIT_CORE, (4096, 4096))
    except ValueError as exc:
        raise BlockedError(str(exc)) from None
    return "allowed"


@attempt()
def take_more_memory(ground: Ground) -> str:
    """Take more than the policy's 512 MiB, and the 1 GiB that is left for stacks of threads."""
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_DATA, (-1, -1))
    try:
        # Not filled: a control group would end whoever it finds largest.
        taken = mmap.mmap(-1, 2 << 30, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    except OSError as exc:
        if exc.errno == errno.ENOMEM:
            raise BlockedError("no memory") from None
        raise
    return f"took {len(taken)} bytes"


@attempt()
def open_more_files(ground: Ground) -> str:
    """Have more descriptors than the policy says."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(hard, 4096), max(hard, 4096)))
    opened = [os.open("/dev/null", os.O_RDONLY) for _ in range(1500)]
    return f"opened {len(opened)}"


@attempt()
def start_many_processes(ground: Ground) -> str:
    """Start more processes than the policy says."""
    children = []
    try:
        for _ in range(250):
            child = os.fork()
            if child == 0:
                signal.pause()
            children.append(child)
    except BlockingIOError as exc:
        raise BlockedError(f"after {len(children)}: {exc}") from None
    finally:
        for child in children:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
    return f"started {len(children)}"


@attempt()
def run_on_more_cores(ground: Ground) -> str:
    """Run on more cores than the policy says (sched_setaffinity(2))."""
    libc_cores = range(os.cpu_count() or 1)
    os.sched_setaffinity(0, libc_cores)
    if len(os.sched_getaffinity(0)) < 2:
        raise BlockedError("still one core")
    return f"{len(os.sched_getaffinity(0))} cores"


@attempt()
def raise_own_disk_priority(ground: Ground) -> str:
    """Come before others at the disk (ioprio_set(2))."""
    call("ioprio_set", 1, 0, 2 << 13)
    return "first"


@attempt(needs_root=True)
def raise_own_priority(ground: Ground) -> str:
    """Come before others at the cores."""
    os.setpriority(os.PRIO_PROCESS, 0, -10)
    return "set"


@attempt(needs_root=True)
def run_in_real_time(ground: Ground) -> str:
    """Keep everybody else from a core (sched(7))."""
    os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    return "set"


@attempt(lacking="dev.tty.legacy_tiocsti may be off")
def type_into_terminal(ground: Ground) -> str:
    """Type into the terminal that one runs on, for the shell that reads it next (TIOCSTI)."""
    ours, theirs = os.openpty()
    os.setsid()
    fcntl.ioctl(theirs, termios.TIOCSCTTY, 0)
    fcntl.ioctl(theirs, termios.TIOCSTI, b"x")
    return f"typed into {os.ttyname(theirs)} of {ours}"


@attempt()
def type_into_what_is_no_terminal(ground: Ground) -> str:
    """Ask for the same where the filter decides before the kernel sees that it is no terminal."""
    with contextlib.suppress(BlockedError):
        return _say_what_is_refused()
    raise BlockedError("the filter refused it")


def _say_what_is_refused() -> str:
    fd = os.open("/dev/null", os.O_RDONLY)
    try:
        fcntl.ioctl(fd, termios.TIOCSTI, b"x")
    except OSError as exc:
        if exc.errno == 25:  # ENOTTY: it got as far as the driver
            return "reached the driver"
        raise
    return "typed"
