"""The machine's real numbers: control groups, processes and stacks, checked against the kernel."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psutil
import pytest

from kagent_sdk.host.cgroup import CgroupReader
from kagent_sdk.host.cgroup_files import UNIFIED, parse_mounts
from kagent_sdk.host.processes import ProcessReader
from kagent_sdk.host.stacks import QUIET_S, DumpCutter, find_stuck_frame, format_dump, parse_dump

MIB = 1024 * 1024


@contextmanager
def running(code: str, *arguments: str, fd: int | None = None) -> Iterator[subprocess.Popen[str]]:
    """Run Python code until the block ends; it inherits ``fd``."""
    with subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        pass_fds=() if fd is None else (fd,),
    ) as child:
        try:
            yield child
        finally:
            child.kill()


@contextmanager
def own_cgroup(controller: str) -> Iterator[Path]:
    """Make a cgroup for one controller, of v1 or v2; remove it when its processes are gone."""
    mounts = parse_mounts(Path("/proc/self/mountinfo").read_text())
    points = {name: Path(mount.point) for mount in mounts for name in mount.controllers}
    top = points.get(controller, points.get(UNIFIED))
    if top is None:
        pytest.skip("platform: no control groups are mounted")
    folder = top / f"test-{uuid.uuid4().hex}"
    try:
        if controller not in points:
            (top / "cgroup.subtree_control").write_text(f"+{controller}")
        folder.mkdir()
    except OSError as exc:
        pytest.skip(f"platform: control groups cannot be made here ({exc})")
    try:
        yield folder
    finally:
        folder.rmdir()


def is_unified(folder: Path) -> bool:
    """Say whether a cgroup is one of v2."""
    return (folder / "cgroup.events").exists()


def test_our_own_control_group_is_read_within_the_bounds_of_the_machine() -> None:
    """Whatever this machine has, no number may be absurd."""
    sample = CgroupReader().read()
    memory, cpu = sample.memory, sample.cpu

    for size in (memory.limit_bytes, memory.usage_bytes, memory.used_bytes):
        assert size is None or 0 <= size < 1 << 50
    assert memory.used_bytes is None or (memory.usage_bytes or 0) >= memory.used_bytes
    assert cpu.usage_s is None or cpu.usage_s > 0
    assert cpu.limit_cores is None or 0 < cpu.limit_cores <= 4096


def test_a_memory_limit_and_a_kill_by_the_kernel_are_seen() -> None:
    """`/status` must tell an OOM kill from a crash, and the limit that caused it."""
    with own_cgroup("memory") as folder:
        name = "memory.max" if is_unified(folder) else "memory.limit_in_bytes"
        (folder / name).write_text(str(48 * MIB))
        with running("input(); x = [bytearray(b'x' * 1_000_000) for _ in range(400)]") as child:
            (folder / "cgroup.procs").write_text(str(child.pid))
            reader = CgroupReader(process=child.pid)
            before = reader.read().memory
            child.communicate("\n")
            after = reader.read().memory

        assert child.returncode == -signal.SIGKILL
        assert before.limit_bytes == 48 * MIB
        assert before.oom_kills == 0
        assert before.levels[0].limit_bytes == 48 * MIB
        assert after.oom_kills == 1


def test_a_processor_quota_and_its_throttling_are_seen() -> None:
    """An agent that is slow because of its quota must be told from one that is slow by itself."""
    with own_cgroup("cpu") as folder:
        if is_unified(folder):
            (folder / "cpu.max").write_text("20000 100000")
        else:
            (folder / "cpu.cfs_period_us").write_text("100000")
            (folder / "cpu.cfs_quota_us").write_text("20000")
        burn = (
            "import time; input()\nend = time.monotonic() + 1\nwhile time.monotonic() < end: pass"
        )
        with running(burn) as child:
            (folder / "cgroup.procs").write_text(str(child.pid))
            reader = CgroupReader(process=child.pid)
            before = reader.read().cpu
            child.communicate("\n")
            after = reader.read().cpu

        assert before.limit_cores == 0.2
        assert before.throttled_periods is not None
        assert after.throttled_periods is not None
        assert after.throttled_periods > before.throttled_periods
        assert (after.throttled_s or 0) > (before.throttled_s or 0)


def test_zombies_and_processes_that_are_gone_are_left_out() -> None:
    """Between the list of workers and the sample one of them may die."""
    reader = ProcessReader()
    with running("input()") as child:
        assert child.pid in reader.sample([child.pid])
        child.kill()
        # WNOWAIT leaves the zombie for the second sample.
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)

        assert psutil.Process(child.pid).status() == psutil.STATUS_ZOMBIE
        assert reader.sample([child.pid]) == {}
        child.wait()

        assert reader.sample([child.pid]) == {}


def test_a_process_that_burns_a_core_is_seen_to() -> None:
    """The share is of one core, over the time between two samples."""
    reader = ProcessReader()
    with running("print(flush=True)\nwhile True: pass") as child:
        assert child.stdout is not None
        child.stdout.readline()
        first = reader.sample([child.pid])[child.pid]
        time.sleep(0.5)
        second = reader.sample([child.pid])[child.pid]

    assert first.cpu_percent is None
    assert second.cpu_percent is not None
    # Both cores may be busy with something else: a share is all that is sure.
    assert 5 < second.cpu_percent < 120


@pytest.mark.parametrize("module", ["processes", "metrics", "counters", "health"])
def test_no_library_is_imported_before_it_is_needed(module: str) -> None:
    """The host's first /healthz must not wait for what only /status and /metrics need."""
    statement = (
        f"import sys; import kagent_sdk.host.{module}; "
        "print(*{'psutil', 'prometheus_client', 'pydantic'}.intersection(sys.modules))"
    )
    result = subprocess.run(
        [sys.executable, "-c", statement], check=True, capture_output=True, text=True
    )

    assert result.stdout.strip() == ""


HANG = """
import faulthandler, re, signal, sys, threading
faulthandler.register(signal.SIGUSR1, file=int(sys.argv[1]), all_threads=True, chain=False)
for _ in range(5):
    threading.Thread(target=threading.Event().wait, daemon=True).start()

def hold_the_gil():
    print("hanging", flush=True)
    re.match("(a+)+$", "a" * 60 + "b")

hold_the_gil()
"""


def read_dump(fd: int, cutter: DumpCutter) -> list[str]:
    """Read the pipe until it is quiet, and return the dumps."""
    dumps = cutter.feed(os.read(fd, 65536))
    os.set_blocking(fd, False)
    deadline = time.monotonic() + 10
    quiet_since = time.monotonic()
    while time.monotonic() - quiet_since < QUIET_S and time.monotonic() < deadline:
        try:
            dumps += cutter.feed(os.read(fd, 65536))
            quiet_since = time.monotonic()
        except BlockingIOError:
            time.sleep(QUIET_S / 10)
    os.set_blocking(fd, True)
    last = cutter.flush()
    return [*dumps, *([last] if last else [])]


def test_the_stack_of_a_worker_that_holds_the_gil_is_read() -> None:
    """A catastrophic regular expression is the classic: no Python code runs, the stack still comes."""
    with ExitStack() as stack:
        read_fd, write_fd = os.pipe()
        stack.callback(os.close, read_fd)
        child = stack.enter_context(running(HANG, str(write_fd), fd=write_fd))
        os.close(write_fd)
        assert child.stdout is not None
        child.stdout.readline()
        cutter = DumpCutter()
        for _ in range(2):
            child.send_signal(signal.SIGUSR1)
            (dump,) = read_dump(read_fd, cutter)
            threads = parse_dump(dump)
            frame = find_stuck_frame(threads)
            told = format_dump(threads)

            assert len(threads) == 6
            assert frame is not None
            assert any(call.function == "hold_the_gil" for call in threads[-1].frames)
            assert told.startswith("main thread 0x")
            # Five idle threads with the same stack are one paragraph.
            assert told.count("most recent call last") == 2


async def test_reading_in_a_thread_leaves_the_event_loop_free() -> None:
    """The readers block, so the host calls them in threads; one read must not take long."""
    started_s = time.perf_counter()
    sample = await asyncio.to_thread(CgroupReader().read)
    processes = await asyncio.to_thread(ProcessReader().sample, [os.getpid()])
    took_s = time.perf_counter() - started_s

    assert sample is not None
    assert os.getpid() in processes
    assert took_s < 20
