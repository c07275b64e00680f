"""Attempts on another process of the same user: a neighbour, and the host itself."""

from __future__ import annotations

import ctypes
import fcntl
import os
import resource
import signal
import time
from pathlib import Path

from .ground import BlockedError, Ground, attempt, attempt_on_process
from .kernel_calls import call, libc, structure, word

_ATTACH, _DETACH, _SEIZE = 16, 17, 0x4206  # linux/ptrace.h
_PRIO_PROCESS = 0
_IOPRIO_BEST_EFFORT = 2 << 13  # linux/ioprio.h
_KCMP_FILES = 2  # linux/kcmp.h


def _piece(address: int, length: int) -> ctypes.Array[ctypes.c_char]:
    """Return a struct iovec."""
    return structure(16, {0: word(address, 8), 8: word(length, 8)})


def _address(ground: Ground) -> int:
    """Return where there is something to read: the first readable mapping of another process."""
    if ground.target == ground.neighbour_pid:
        return ground.address
    for line in Path(f"/proc/{ground.target}/maps").read_text().splitlines():
        if line.split()[1].startswith("r"):
            return int(line.partition("-")[0], 16)
    raise BlockedError("no readable mapping")


def _judge(ground: Ground, found: bytes) -> str:
    return ground.expect(found) if ground.target == ground.neighbour_pid else f"read {len(found)}"


def _names(folder: str) -> list[str]:
    return sorted(os.listdir(folder))  # noqa: PTH208 - names alone


@attempt_on_process()
def read_memory_file(ground: Ground) -> str:
    """Read its memory through /proc."""
    with Path(f"/proc/{ground.target}/mem").open("rb", buffering=0) as memory:
        memory.seek(_address(ground))
        return _judge(ground, memory.read(32))


@attempt_on_process()
def write_memory_file(ground: Ground) -> str:
    """Open its memory for writing."""
    os.close(os.open(f"/proc/{ground.target}/mem", os.O_RDWR))
    return "opened its memory"


@attempt_on_process()
def read_memory_by_call(ground: Ground) -> str:
    """Read its memory by process_vm_readv(2)."""
    target = ctypes.create_string_buffer(32)
    local = _piece(ctypes.addressof(target), 32)
    remote = _piece(_address(ground), 32)
    call("process_vm_readv", ground.target, local, 1, remote, 1, 0)
    return _judge(ground, target.raw)


@attempt_on_process()
def write_memory_by_call(ground: Ground) -> str:
    """Write to its memory by process_vm_writev(2)."""
    if ground.target != ground.neighbour_pid:
        # Nothing is written to the host itself: no bytes are enough to be asked.
        call("process_vm_writev", ground.target, _piece(0, 0), 1, _piece(0, 0), 1, 0)
        return "asked"
    source = ctypes.create_string_buffer(b"overwritten", 11)
    local, remote = _piece(ctypes.addressof(source), 11), _piece(ground.address + 64, 11)
    written = call("process_vm_writev", ground.target, local, 1, remote, 1, 0)
    return f"wrote {written} bytes"


@attempt_on_process()
def read_memory_map(ground: Ground) -> str:
    """Learn where its libraries are."""
    return f"read {len(Path(f'/proc/{ground.target}/maps').read_bytes())} bytes"


@attempt_on_process()
def read_environment(ground: Ground) -> str:
    """Read its environment, where secrets are."""
    found = Path(f"/proc/{ground.target}/environ").read_bytes()
    return _judge(ground, found) if found else "read nothing"


@attempt_on_process()
def read_command_line(ground: Ground) -> str:
    """Read its command line."""
    return Path(f"/proc/{ground.target}/cmdline").read_text().replace("\0", " ")[:60]


@attempt_on_process()
def list_descriptors(ground: Ground) -> str:
    """Learn which files it has open."""
    return f"has {len(_names(f'/proc/{ground.target}/fd'))} descriptors"


@attempt_on_process()
def reopen_descriptors(ground: Ground) -> str:
    """Open its files by their numbers."""
    refusal: OSError | BlockedError = BlockedError("it has no file open")
    for name in _names(f"/proc/{ground.target}/fd"):
        path = f"/proc/{ground.target}/fd/{name}"
        try:
            if os.readlink(path).startswith("/"):  # noqa: PTH115 - short
                os.close(os.open(path, os.O_RDONLY | os.O_NONBLOCK))
                return f"opened {os.readlink(path)}"  # noqa: PTH115 - short
        except OSError as exc:
            refusal = exc
    raise refusal


@attempt_on_process()
def take_descriptor(ground: Ground) -> str:
    """Take over one of its descriptors (pidfd_getfd(2))."""
    pidfd = os.pidfd_open(ground.target)
    return f"descriptor {call('pidfd_getfd', pidfd, 0, 0)}"


@attempt_on_process()
def look_through_its_root(ground: Ground) -> str:
    """See the file system with its eyes."""
    return f"{len(_names(f'/proc/{ground.target}/root/'))} names"


@attempt_on_process()
def enter_its_folder(ground: Ground) -> str:
    """Go to where it stands."""
    os.chdir(f"/proc/{ground.target}/cwd")
    return os.getcwd()  # noqa: PTH109 - short


@attempt_on_process()
def trace_by_attaching(ground: Ground) -> str:
    """Stop it as a debugger does (ptrace(2))."""
    call("ptrace", _ATTACH, ground.target, 0, 0)
    os.waitpid(ground.target, 0)
    call("ptrace", _DETACH, ground.target, 0, 0)
    return "attached"


@attempt_on_process()
def trace_by_seizing(ground: Ground) -> str:
    """Trace it without a stop."""
    call("ptrace", _SEIZE, ground.target, 0, 0)
    return "seized"


@attempt_on_process()
def signal_by_kill(ground: Ground) -> str:
    """Send it a signal that does nothing when it runs."""
    os.kill(ground.target, signal.SIGCONT)
    return "sent"


@attempt_on_process()
def signal_by_probe(ground: Ground) -> str:
    """Ask whether it could be sent a signal."""
    os.kill(ground.target, 0)
    return "could be sent"


@attempt_on_process()
def signal_thread(ground: Ground) -> str:
    """Send the signal to its main thread (tgkill(2))."""
    call("tgkill", ground.target, ground.target, signal.SIGCONT)
    return "sent"


@attempt_on_process()
def signal_by_descriptor(ground: Ground) -> str:
    """Send it by a descriptor of the process (pidfd_send_signal(2))."""
    pidfd = os.pidfd_open(ground.target)
    signal.pidfd_send_signal(pidfd, signal.SIGCONT)
    return "sent"


@attempt_on_process()
def signal_by_queue(ground: Ground) -> str:
    """Send it with a value (rt_sigqueueinfo(2))."""
    info = structure(128, {0: word(signal.SIGCONT), 8: word(-1)})  # SI_QUEUE
    call("rt_sigqueueinfo", ground.target, signal.SIGCONT, info)
    return "sent"


@attempt_on_process()
def signal_its_group(ground: Ground) -> str:
    """Send it to its process group."""
    os.killpg(os.getpgid(ground.target), 0)
    return "could be sent"


@attempt()
def kill_by_ownership(ground: Ground) -> str:
    """Have the kernel send a signal for a socket that is made another process's (F_SETOWN)."""
    import socket  # noqa: PLC0415 - only here

    stat = Path(f"/proc/{ground.prey_pid}/stat")
    if _state(stat) in "ZX":
        raise BlockedError("the prey is dead already")
    ours, theirs = socket.socketpair()
    fcntl.fcntl(ours, fcntl.F_SETOWN, ground.prey_pid)
    fcntl.fcntl(ours, fcntl.F_SETFL, os.O_ASYNC | os.O_NONBLOCK)
    for _ in range(100):
        theirs.send(b"x")
        if _state(stat) in "ZX":
            return "the kernel killed it with SIGIO"
        time.sleep(0.005)
    raise BlockedError("it is alive")


def _state(stat: Path) -> str:
    try:
        return stat.read_text().rpartition(") ")[2][0]
    except ProcessLookupError:
        return "X"


@attempt_on_process()
def read_limits(ground: Ground) -> str:
    """Read its limits by prlimit(2)."""
    return f"{resource.prlimit(ground.target, resource.RLIMIT_NOFILE)}"


@attempt_on_process()
def change_limits(ground: Ground) -> str:
    """Set its limits, to what they are."""
    kind = resource.RLIMIT_CORE
    text = Path(f"/proc/{ground.target}/limits").read_text()
    words = next(line for line in text.splitlines() if line.startswith("Max core")).split()[4:6]
    soft, hard = (-1 if word == "unlimited" else int(word) for word in words)
    resource.prlimit(ground.target, kind, (soft, hard))
    return "set"


@attempt_on_process()
def change_priority(ground: Ground) -> str:
    """Make it slower."""
    os.setpriority(os.PRIO_PROCESS, ground.target, os.getpriority(_PRIO_PROCESS, ground.target))
    return "set"


@attempt_on_process()
def change_affinity(ground: Ground) -> str:
    """Tie it to other cores."""
    os.sched_setaffinity(ground.target, os.sched_getaffinity(ground.target))
    return "set"


@attempt_on_process()
def change_scheduling(ground: Ground) -> str:
    """Give it another scheduling policy."""
    os.sched_setscheduler(ground.target, os.SCHED_OTHER, os.sched_param(0))
    return "set"


@attempt_on_process()
def change_scheduling_attributes(ground: Ground) -> str:
    """The same by the newer syscall (sched_setattr(2))."""
    call("sched_setattr", ground.target, structure(48, {0: word(48)}), 0)
    return "set"


@attempt_on_process()
def change_disk_priority(ground: Ground) -> str:
    """Make its disk accesses wait (ioprio_set(2))."""
    call("ioprio_set", 1, ground.target, _IOPRIO_BEST_EFFORT | 4)
    return "set"


@attempt_on_process(lacking="a kernel without NUMA")
def move_its_pages(ground: Ground) -> str:
    """Ask where its memory lies (move_pages(2))."""
    page = structure(8, {0: word(_address(ground) & ~4095, 8)})
    status = structure(4, {})
    call("move_pages", ground.target, 1, page, None, status, 0)
    return f"on node {int.from_bytes(status.raw, 'little', signed=True)}"


@attempt_on_process(lacking="a kernel without NUMA")
def migrate_its_pages(ground: Ground) -> str:
    """Move its memory to another node, to the one where it is (migrate_pages(2))."""
    nodes = structure(8, {0: word(1)})
    call("migrate_pages", ground.target, 64, nodes, nodes)
    return "moved"


@attempt_on_process(needs_root=True)
def advise_on_its_memory(ground: Ground) -> str:
    """Have its memory written to the swap (process_madvise(2), MADV_COLD)."""
    pidfd = os.pidfd_open(ground.target)
    advised = call("process_madvise", pidfd, _piece(_address(ground) & ~4095, 4096), 1, 20, 0)
    return f"advised on {advised} bytes"


@attempt_on_process(lacking="a kernel without CONFIG_KCMP")
def compare_with_it(ground: Ground) -> str:
    """Learn what it shares with us (kcmp(2))."""
    return f"{call('kcmp', os.getpid(), ground.target, _KCMP_FILES, 0, 0)}"


@attempt_on_process()
def make_it_first_to_die(ground: Ground) -> str:
    """Have the kernel kill it first when memory is short."""
    path = Path(f"/proc/{ground.target}/oom_score_adj")
    path.write_text(path.read_text())
    return "set"


@attempt_on_process()
def change_its_dumps(ground: Ground) -> str:
    """Choose what its core dumps hold."""
    path = Path(f"/proc/{ground.target}/coredump_filter")
    path.write_text(f"0x{path.read_text().strip()}")
    return "set"


@attempt_on_process()
def clear_its_references(ground: Ground) -> str:
    """Have the kernel forget which of its pages are in use."""
    Path(f"/proc/{ground.target}/clear_refs").write_text("1")
    return "cleared"


@attempt_on_process(lacking="kernel.perf_event_paranoid may be over 2")
def watch_its_performance(ground: Ground) -> str:
    """Count its instructions, which tells of its keys (perf_event_open(2))."""
    # PERF_TYPE_SOFTWARE, the size, and neither kernel nor hypervisor
    attributes = structure(128, {0: word(1), 4: word(128), 40: word(1 << 5 | 1 << 6)})
    return f"descriptor {call('perf_event_open', attributes, ground.target, -1, -1, 0)}"


@attempt_on_process(needs_root=True)
def enter_its_namespaces(ground: Ground) -> str:
    """Enter the namespaces of another process (setns(2))."""
    libc("setns", os.open(f"/proc/{ground.target}/ns/net", os.O_RDONLY), 0)
    return "entered"
