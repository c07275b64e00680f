"""Tests of `kagent_sdk.sandbox.confine` and of the launcher: real processes, confined for real.

They run as root and as user 1000 where root runs them. The attempts to get out that an attacker
would make are in ``test_sandbox_escapes.py``.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from kagent_sdk.sandbox.controls import Control, Verdict
from kagent_sdk.sandbox.landlock import find_abi
from kagent_sdk.sandbox.policy import Isolation, Limits, Mode, Network
from tests.agents import coverage_environment
from tests.integration.cells import Cell, make_cell

DENIED = "PermissionError 13"
ABI_IOCTL = 5
"""Of Landlock: from Linux 6.10 on it can deny ioctl(2) on devices."""
REFUSED = "PermissionError 1"


@pytest.fixture(params=[None, 1000], ids=["caller", "agent"])
def cell(request: pytest.FixtureRequest) -> Iterator[Cell]:
    """A cell for each of the users that workers run as."""
    with make_cell(request.param) as cell:
        yield cell


@pytest.fixture
def own_cell() -> Iterator[Cell]:
    """A cell for the caller."""
    with make_cell(None) as cell:
        yield cell


def blocked(cell: Cell, code: str) -> str:
    """Return what an attempt comes to inside, after it has succeeded outside."""
    assert cell.outside(code) == "ok"
    cell.fill()
    return cell.inside(code)


def absent_paths(cell: Cell) -> int:
    """Return how many paths of the policy were found not to be there."""
    findings = cell.run("program", ["true"]).report.findings
    files = next(finding for finding in findings if finding.control is Control.FILES)
    return int(files.actual.split(", ")[1].split(" ")[0])


def test_only_what_the_policy_names_can_be_written(cell: Cell) -> None:
    """Code, other agents and the host's files stay as they are."""
    assert cell.inside("open('open/new', 'w').write('x')") == "ok"
    for code in (
        "open('closed/file', 'a').write('x')",
        "open('closed/new', 'w').write('x')",
        "import os; os.truncate('closed/file', 2)",
        "import os; os.rename('closed/file', 'closed/other')",
        "import os; os.symlink('/', 'closed/link')",
        "import os; os.mkdir('closed/folder')",
        "import os; os.unlink('closed/file')",
    ):
        assert blocked(cell, code) == DENIED, code


def test_what_is_hidden_cannot_be_read(cell: Cell) -> None:
    """The vault lies in the agent's folder, which can be read."""
    assert blocked(cell, "open('hidden/file').read()") == DENIED
    assert cell.inside("open('closed/file').read()") == "ok"
    assert blocked(cell, f"open({str(Path('/etc/hostname'))!r}).read()") == DENIED


def test_what_is_written_cannot_be_run(cell: Cell) -> None:
    """A worker may not bring programs of its own."""
    code = """
import os, shutil, subprocess
shutil.copy("/bin/true", "open/program")
os.chmod("open/program", 0o755)
subprocess.run(["open/program"], check=True)
"""
    assert blocked(cell, code) == DENIED


def test_only_ports_of_the_policy_can_be_used(cell: Cell) -> None:
    """The way out is the proxy's port, and that alone."""
    with (
        socket.create_server(("127.0.0.1", 0)) as proxy,
        socket.create_server(("127.0.0.1", 0)) as other,
    ):
        allowed, closed = proxy.getsockname()[1], other.getsockname()[1]
        inside = cell.with_policy(network=Network(connect=(allowed,), listen=(allowed,)))
        code = "import socket; socket.create_connection(('127.0.0.1', {})).close()"

        assert inside.inside(code.format(allowed)) == "ok"
        assert blocked(inside, code.format(closed)) == DENIED
        assert blocked(cell, code.format(allowed)) == REFUSED  # no port, no sockets
        assert (
            inside.with_policy(network=Network(external=True)).inside(code.format(closed)) == "ok"
        )
    bind = "import socket; socket.create_server(('127.0.0.1', {})).close()"

    assert inside.inside(bind.format(allowed)) == "ok"
    assert blocked(inside, bind.format(closed)) == DENIED


def test_processes_outside_cannot_be_signalled_or_looked_into(cell: Cell) -> None:
    """The host has the same user and holds the vault."""
    environ = "import os; open(f'/proc/{0}/environ', 'rb').read()"
    signal = "import os; os.kill({0}, 0)"
    with subprocess.Popen(
        ["cat"], stdin=subprocess.PIPE, user=cell.user, group=cell.user
    ) as victim:
        for code in (environ, signal):
            attempt = code.format(victim.pid)
            assert blocked(cell, attempt) in {DENIED, REFUSED}, code
        assert victim.stdin is not None
        victim.stdin.close()


def test_privileges_are_gone_for_good(cell: Cell) -> None:
    """Whatever is run later finds none either."""
    code = """
import os
status = dict(line.split(":\\t", 1) for line in open("/proc/self/status").read().splitlines() if ":\\t" in line)
for key in ("CapInh", "CapPrm", "CapEff", "CapAmb"):
    assert int(status[key], 16) == 0, key
assert status["NoNewPrivs"] == "1" and status["Seccomp"] == "2"
assert status["Groups"].strip() in ("", "0") or os.getuid() == 0, status["Groups"]
print(*os.getresuid(), *os.getresgid())
"""
    lines = cell.inside(code).splitlines()

    assert lines[-1] == "ok"
    if cell.user is not None:
        assert lines[0] == "1000 1000 1000 1000 1000 1000"


def test_a_link_in_place_of_a_folder_grants_nothing(cell: Cell) -> None:
    """What a worker may write it may replace: the next start must not follow it elsewhere."""
    place = cell.open / "results"
    inside = cell.with_policy(write=(*cell.policy.write, str(place)))
    code = "open('closed/new', 'w').write('x')"
    place.symlink_to(cell.closed)

    assert absent_paths(inside) == absent_paths(cell) + 1
    assert cell.outside(code) == "ok"
    assert inside.inside("open('open/results/new', 'w').write('x')") == DENIED


def test_a_device_of_the_policy_may_be_told_to_do_things(cell: Cell) -> None:
    """A GPU is driven by ioctl(2) alone; other devices stay what can be read and written."""
    if find_abi() < ABI_IOCTL:
        pytest.skip("platform: this kernel's Landlock does not know of ioctl(2)")
    code = """
import fcntl
with open("/dev/urandom", "rb") as file:
    fcntl.ioctl(file, 0x80045200, b"1234")  # RNDGETENTCNT (random(4))
"""

    assert cell.outside(code) == "ok"
    assert cell.inside(code) == DENIED
    assert cell.with_policy(devices=("/dev/urandom",)).inside(code) == "ok"


def test_a_crash_leaves_no_image_of_the_memory(cell: Cell) -> None:
    """Secrets are in it."""
    if Path("/proc/sys/kernel/core_pattern").read_text().strip() != "core":
        pytest.skip("platform: the kernel does not write images of the memory into the folder")
    code = """
import os, resource
hard = resource.getrlimit(resource.RLIMIT_CORE)[1]
if os.fork() == 0:
    resource.setrlimit(resource.RLIMIT_CORE, (hard, hard))
    os.chdir("open")
    os.abort()
os.wait()
print([name for name in os.listdir("open") if name.startswith("core")])
"""
    assert cell.outside(code).startswith("['core")
    cell.fill()

    assert cell.inside(code) == "[]\nok"


def test_limits_hold(cell: Cell) -> None:
    """One agent does not eat the machine."""
    inside = cell.with_policy(
        limits=Limits(
            cpu_cores=1, memory_bytes=64 << 20, processes=20, open_files=64, file_bytes=1 << 20
        )
    )
    code = """
import os, resource, signal
assert len(os.sched_getaffinity(0)) == 1
assert resource.getrlimit(resource.RLIMIT_CORE) == (1, 1)
try:
    bytearray((512 + 80) << 20)
except MemoryError:
    print("memory")
try:
    [open("/dev/null") for _ in range(100)]
except OSError as exc:
    print("files", exc.errno)
try:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    open("open/large", "wb").write(bytes(2 << 20))
except OSError as exc:
    print("size", exc.errno)
"""
    assert inside.inside(code) == "memory\nfiles 24\nsize 27\nok"


def test_a_worker_can_have_the_threads_that_it_has_by_default(own_cell: Cell) -> None:
    """The kernel counts their stacks as data, 8 MiB each, though hardly any of it is used."""
    inside = own_cell.with_policy(limits=Limits(processes=None))
    code = """
import threading
end = threading.Event()
threads = [threading.Thread(target=end.wait) for _ in range(64)]
for thread in threads:
    thread.start()
data = bytearray(400 << 20)
end.set()
for thread in threads:
    thread.join()
"""
    assert inside.inside(code) == "ok"


def test_processes_are_counted_beside_those_that_the_user_has() -> None:
    """The kernel counts all of a user's; the host's and other agents' are no fault of the worker's."""
    code = """
import os
for count in range(40):
    try:
        if os.fork() == 0:
            os.read(0, 1)
            os._exit(0)
    except BlockingIOError:
        break
print(count)
"""
    with (
        make_cell(1000) as cell,
        subprocess.Popen(
            ["sh", "-c", "cat & cat & cat & cat"], stdin=subprocess.PIPE, user=1000, group=1000
        ) as neighbours,
    ):
        inside = cell.with_policy(limits=Limits(processes=10))
        made = int(inside.inside(code).splitlines()[0])
        assert neighbours.stdin is not None
        neighbours.stdin.close()

    assert 5 <= made <= 10


def test_inherited_descriptors_are_closed(cell: Cell) -> None:
    """An open file is a way around every rule on paths."""
    code = "import os; print(os.read({}, 4).decode())"
    fd = os.open(cell.hidden / "file", os.O_RDONLY)
    try:
        inside = cell.run("program", [cell.python, "-c", code.format(fd)], pass_fds=(fd,))
        kept = cell.with_policy(keep_fds=(fd,)).run(
            "program", [cell.python, "-c", code.format(fd)], pass_fds=(fd,)
        )
    finally:
        os.close(fd)

    assert "Bad file descriptor" in inside.stderr
    assert kept.stdout == "text\n"


def test_every_control_is_reported(cell: Cell) -> None:
    """The audit starts from what the launcher says."""
    outcome = cell.run("program", ["true"])
    found = {finding.control: finding.verdict for finding in outcome.report.findings}

    assert outcome.returncode == 0, outcome
    assert list(found) == [
        Control.DESCRIPTORS,
        Control.LIMITS,
        Control.NO_CORE_DUMPS,
        Control.USER,
        Control.NO_NEW_PRIVILEGES,
        Control.CAPABILITIES,
        Control.FILES,
        Control.TCP_PORTS,
        Control.SCOPES,
        Control.SYSCALLS,
    ]
    is_root = cell.user is None and os.geteuid() == 0
    weak = {control for control, verdict in found.items() if verdict is not Verdict.IN_FORCE}
    assert weak == ({Control.LIMITS, Control.USER} if is_root else set())


def test_nothing_of_the_authors_runs_before_the_sandbox(cell: Cell) -> None:
    """A sitecustomize on the path is the author's, and so is a package that shadows ours."""
    (cell.folder / "sitecustomize.py").write_text("open('closed/custom', 'w')\n")
    for name in ("os", "marshal", "ctypes", "kagent_sdk"):
        (cell.folder / f"{name}.py").write_text("raise SystemExit(f'ran {__name__}')\n")
    (cell.folder / "main.py").write_text("def main(): print('unreachable')\n")
    bad = Cell(cell.folder, cell.python, cell.package, cell.user, cell.policy)
    outside = subprocess.run(
        [cell.python, "-c", ""], env={"PYTHONPATH": str(cell.folder)}, cwd=cell.folder, check=False,
        capture_output=True, text=True,
    )  # fmt: skip
    (cell.folder / "os.py").unlink()
    assert "ran os" in outside.stderr or (cell.closed / "custom").exists()

    outcome = bad.run("module", ["main"])

    assert outcome.report.error is None
    assert Control.SYSCALLS in {finding.control for finding in outcome.report.findings}
    assert "Permission denied: 'closed/custom'" in outcome.stderr or "ran kagent_sdk" in (
        outcome.stderr
    )


def test_a_module_runs_as_python_would_run_it(cell: Cell) -> None:
    """With site-packages, the present folder on the path, and its arguments."""
    (cell.folder / "job.py").write_text(
        "import multiprocessing, os, site, sys\n"
        "def child():\n"
        "    print(sys.flags.no_site, 'site' in sys.modules, flush=True)\n"
        "def main():\n"
        "    print(sys.argv, sys.path[0] == os.getcwd(), sys.flags.no_site, sys.flags.optimize)\n"
        "    print('kagent_sdk.sandbox' in sys.modules, 'quit' in dir(__builtins__) or quit, flush=True)\n"
        "    process = multiprocessing.get_context('spawn').Process(target=child)\n"
        "    process.start()\n"
        "    process.join()\n"
        "    return 7\n"
    )
    outcome = cell.run("module", ["job", "a", "b"])

    assert outcome.returncode == 7, outcome
    lines = outcome.stdout.splitlines()
    assert lines[0] == f"[{str(cell.folder / 'job.py')!r}, 'a', 'b'] True 0 0"
    assert lines[1].startswith("False ")
    assert lines[2] == "0 True"


def test_a_program_that_is_not_there_is_reported(cell: Cell) -> None:
    """worker.command may be misspelt."""
    outcome = cell.run("program", ["no-such-program"])

    assert outcome.returncode == 127
    assert outcome.report.program_error == "No such file or directory"
    assert outcome.report.error is None


def test_an_interpreter_that_the_user_cannot_read_is_one_clear_line(own_cell: Cell) -> None:
    """A virtual environment in root's home is the usual case."""
    if os.geteuid() != 0:
        pytest.skip("platform: only root can become another user")
    private = own_cell.folder / "private"
    private.mkdir(0o700)
    python = private / "python"
    python.symlink_to(own_cell.python)
    inside = Cell(
        own_cell.folder, str(python), own_cell.package, None, own_cell.policy
    ).with_policy(user=1000)
    outcome = inside.run("module", ["job"])

    assert outcome.returncode == 3
    assert str(outcome.report.error) == (
        f"sandbox: user: user 1000 cannot read {python}; "
        "put it where that user can, or set worker.user: keep"
    )


def test_a_folder_that_the_user_cannot_enter_is_one_clear_line(own_cell: Cell) -> None:
    """An agent in root's home, started by root."""
    if os.geteuid() != 0:
        pytest.skip("platform: only root can become another user")
    own_cell.folder.chmod(0o700)
    outcome = own_cell.with_policy(user=1000).run("program", ["true"])

    assert outcome.returncode == 3
    assert f"sandbox: user: user 1000 cannot read {own_cell.folder}; " in str(outcome.report.error)


def test_contradicting_paths_are_an_error_in_enforce_and_a_finding_in_report(
    own_cell: Cell,
) -> None:
    """Nothing is ever left out in silence."""
    bad = own_cell.with_policy(execute=(*own_cell.policy.execute, f"{own_cell.open}/bin"))
    enforced = bad.run("program", ["true"])
    reported = bad.with_policy(mode=Mode.REPORT).run("program", ["true"])

    assert enforced.returncode == 3
    assert "files: " in str(enforced.report.error)
    assert "which may be written" in str(enforced.report.error)
    assert reported.returncode == 0
    missing = {f.control for f in reported.report.findings if f.verdict is Verdict.MISSING}
    assert Control.FILES in missing


def test_a_required_control_that_does_not_hold_fails_the_start(own_cell: Cell) -> None:
    """``sandbox.require`` holds in every mode."""
    if os.geteuid() != 0:
        pytest.skip("platform: only root can be root")
    inside = own_cell.with_policy(mode=Mode.REPORT, require=("user",))
    outcome = inside.run("program", ["true"])

    assert outcome.returncode == 3
    assert str(outcome.report.error).startswith(
        "sandbox: user: required, and weaker: root without capabilities; "
    )


def test_off_applies_nothing_and_says_so(own_cell: Cell) -> None:
    """The audit never pretends."""
    inside = own_cell.with_policy(mode=Mode.OFF)
    outcome = inside.run("program", ["true"])

    assert {finding.verdict for finding in outcome.report.findings} == {Verdict.MISSING}
    assert inside.inside("open('hidden/file').read()") == "ok"


def test_a_host_that_gives_no_plan_starts_nothing(own_cell: Cell) -> None:
    """It may be gone before it could write one."""
    read, write = os.pipe()
    os.close(write)
    done = subprocess.run(
        [own_cell.python, "-S", str(own_cell.package / "kagent_sdk/sandbox/launch.py"),
         str(read), "1", "0", "program", "echo", "started"],
        pass_fds=(read,), capture_output=True, check=False,
    )  # fmt: skip
    os.close(read)

    assert done.returncode == 127
    assert done.stdout == b""


def test_a_process_confines_itself(own_cell: Cell) -> None:
    """`confine` is for anyone, not only for the launcher; coverage sees it here."""
    code = """
import os, sys, threading
from kagent_sdk.sandbox.confine import confine
from kagent_sdk.errors import SandboxError
from kagent_sdk.sandbox.policy import *
policy = eval(sys.argv[1])
event = threading.Event()
thread = threading.Thread(target=event.wait)
thread.start()
try:
    confine(policy)
except SandboxError as exc:
    print(exc)
event.set()
thread.join()
while len(os.listdir("/proc/self/task")) > 1:
    pass  # a thread is joined a moment before the kernel has let go of it
print(len(confine(policy)))
try:
    open("hidden/file")
except PermissionError as exc:
    print(exc.strerror)
"""
    policy = own_cell.with_policy(write=(*own_cell.policy.write, *_coverage_folder())).policy
    text = repr(policy)
    for kind in (Mode, Isolation):
        for member in kind:
            text = text.replace(repr(member), f"{kind.__name__}.{member.name}")
    done = subprocess.run(
        [sys.executable, "-c", code, text], cwd=own_cell.folder, capture_output=True, text=True,
        check=False,
    )  # fmt: skip

    assert done.stdout.splitlines() == [
        "sandbox: files: the process has threads already; confine it before",
        "10",
        "Permission denied",
    ], done.stderr


def _coverage_folder() -> tuple[str, ...]:
    """Return where coverage writes what it has seen, if it looks."""
    return tuple(
        folder for value in coverage_environment().values() for folder in json.loads(value)
    )
