"""A host confines its workers, at both isolations, and becomes user 1000 where root starts it."""

from __future__ import annotations

import os
import re
import shutil
import signal
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from kagent_sdk.host.users import hand_over
from kagent_sdk.sandbox.policy import AGENT_ID
from tests.agents import running_agent, start_agent
from tests.integration.readable_python import make_readable_python
from tests.integration.waiting import wait_until

ISOLATIONS = ["process", "bwrap"]
ASYNC = {"Prefer": "respond-async"}

PROBE = """
import asyncio, os, subprocess, sys, time
from pathlib import Path
from kagent_sdk import Agent

agent = Agent()


def attempt(action) -> str:
    try:
        action()
    except OSError as exc:
        return type(exc).__name__
    return "ok"


@agent.capability
def look() -> dict[str, str]:
    return {
        "uid": str(os.getuid()),
        "no_new_privs": Path("/proc/self/status").read_text().split("NoNewPrivs:")[1].split()[0],
        "cache": attempt(lambda: Path("runtime/cache/a").write_text("a")),
        "data": attempt(lambda: Path("runtime/data/a").write_text("a")),
        "own folder": attempt(lambda: Path("new").write_text("a")),
        "journal": attempt(lambda: Path("runtime/journal.db").read_bytes()),
        "log": attempt(lambda: open("logs/runtime.log", "ab")),
        "vault": attempt(lambda: Path("secrets/vault.json").read_text()),
        "program": attempt(lambda: subprocess.run(["sh", "-c", "exit"], check=True)),
        "cgroup": Path("/proc/self/cgroup").read_text(),
    }


@agent.capability
def hang() -> None:
    time.sleep(600)


@agent.capability
async def block() -> None:
    time.sleep(600)


@agent.capability
async def die(number: int) -> None:
    os.kill(os.getpid(), number)


@agent.capability
def eat() -> int:
    return len([bytearray(os.urandom(1_000_000)) for _ in range(200)])


if __name__ == "__main__":
    agent.run()
"""


def write_agent(folder: Path, config: str = "") -> Path:
    """Make the agent's folder, with a vault and a configuration; return it."""
    (folder / "secrets").mkdir(parents=True)
    (folder / "secrets/vault.json").write_text('{"key": "value"}')
    (folder / "secrets/vault.json").chmod(0o600)
    (folder / "entrypoint.py").write_text(PROBE)
    (folder / "config.yaml").write_text(config)
    return folder


@pytest.fixture
def agent_folder(tmp_path: Path) -> Path:
    """Return the folder of the agent that looks around."""
    return write_agent(tmp_path / "agent")


@pytest.fixture
def public_folder() -> Iterator[Path]:
    """Return a folder that user 1000 can read: pytest's own ones are closed to it."""
    folder = Path(tempfile.mkdtemp(prefix="kagent-users-")).resolve()
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


def isolated(isolation: str) -> Mapping[str, str]:
    """Return the setting for an isolation."""
    return {"AGENT_WORKER__ISOLATION": isolation}


def assert_confined(seen: Mapping[str, str]) -> None:
    """Look at what a worker could do."""
    assert seen["cache"] == seen["data"] == seen["program"] == "ok"
    assert seen["no_new_privs"] == "1"
    for what in ("own folder", "journal", "log", "vault"):
        assert seen[what] in {"PermissionError", "FileNotFoundError", "OSError"}, (what, seen)


@pytest.mark.parametrize("isolation", ISOLATIONS)
def test_a_worker_has_its_two_folders_and_nothing_else_of_the_agents(
    agent_folder: Path, isolation: str
) -> None:
    """What the host keeps must not be the author's code to read or to change."""
    unconfined = {"AGENT_SANDBOX__MODE": "off"}
    with running_agent(agent_folder, env=unconfined) as agent:
        before = agent.call("look", {})
        (agent_folder / "new").unlink()
    with running_agent(agent_folder, env=isolated(isolation)) as agent:
        after = agent.call("look", {})

    assert all(before[what] == "ok" for what in ("own folder", "journal", "log", "vault"))
    assert_confined(after)


@pytest.mark.parametrize("isolation", ISOLATIONS)
def test_the_end_of_a_worker_is_told_as_it_was(agent_folder: Path, isolation: str) -> None:
    """With bubblewrap around it the host waits for another process than it measures."""
    with running_agent(agent_folder, env=isolated(isolation)) as agent:
        (worker,) = agent.worker_pids
        executable = Path(f"/proc/{worker}/exe").readlink()
        agent.post("/v1/capabilities/die", {"number": int(signal.SIGABRT)})
        wait_until(lambda: agent.status()["workers"]["last_crash"] is not None)
        crash = agent.status()["workers"]["last_crash"]

        assert "python" in executable.name
        assert crash["how"] == "SIGABRT"


@pytest.mark.parametrize("isolation", ISOLATIONS)
def test_a_confined_worker_that_stalls_shows_where(agent_folder: Path, isolation: str) -> None:
    """The host's signal has to reach the worker itself, inside its namespaces too."""
    env = {**isolated(isolation), "AGENT_HEALTH__STALL_WARN_S": "0.5"}
    agent = start_agent(agent_folder, env=env)
    try:
        agent.wait_ready()
        agent.post("/v1/tasks", {"capability": "block", "input": {}}, headers=ASYNC)

        assert "entrypoint.py" in agent.wait_logged("worker_stack")["stack"]
    finally:
        agent.kill()


@pytest.mark.parametrize("isolation", ISOLATIONS)
def test_a_host_that_is_killed_takes_its_confined_workers_with_it(
    agent_folder: Path, isolation: str
) -> None:
    """Between host and worker there may be two processes of bubblewrap."""
    agent = start_agent(agent_folder, env=isolated(isolation))
    try:
        agent.wait_ready()
        assert len(agent.processes()) >= 2
        os.kill(agent.pid, signal.SIGKILL)
        agent.wait()

        wait_until(lambda: not agent.processes())
    finally:
        agent.kill()


def test_workers_of_root_are_counted_together_by_the_kernel(agent_folder: Path) -> None:
    """A limit of each process is none of all: fork, and have it again."""
    if os.geteuid() != 0 or not Path("/sys/fs/cgroup/memory/tasks").exists():
        pytest.skip("platform: the caller may not make cgroups of v1 here")
    (agent_folder / "config.yaml").write_text("sandbox: {limits: {memory_bytes: 100000000}}\n")
    with running_agent(agent_folder) as agent:
        found = re.search(r"memory:(\S+)", agent.call("look", {})["cgroup"])
        assert found
        group = Path(f"/sys/fs/cgroup/memory{found[1]}")
        assert group.name == f"kagent-{agent.pid}"
        limit = int((group / "memory.limit_in_bytes").read_text())
        assert str(agent.pid) not in (group / "cgroup.procs").read_text().split()

    assert 99_000_000 < limit <= 100_000_000
    assert not group.exists()


def test_a_policy_that_cannot_be_meant_ends_the_start(agent_folder: Path) -> None:
    """Programs that may be written by what runs them are no sandbox."""
    config = "name: a\nsandbox:\n  execute:\n    - runtime/data\n"
    (agent_folder / "config.yaml").write_text(config)
    agent = start_agent(agent_folder)

    assert agent.wait() == 78
    assert (
        'config.yaml:4: sandbox.execute[0]: "runtime/data" could be written as well'
        in agent.log_text
    )


def test_bubblewrap_that_is_not_there_ends_the_start(agent_folder: Path, tmp_path: Path) -> None:
    """An isolation that is asked for and not had is no isolation."""
    (tmp_path / "empty").mkdir()
    env = {**isolated("bwrap"), "PATH": str(tmp_path / "empty")}
    agent = start_agent(agent_folder, env=env)

    assert agent.wait() == 3
    assert "sandbox: namespaces: worker.isolation is bwrap" in agent.log_text
    assert "install the package bubblewrap" in agent.log_text


def test_bubblewrap_that_is_not_there_is_reported_where_that_is_enough(
    agent_folder: Path, tmp_path: Path
) -> None:
    """What can be applied is, and the audit does not pretend."""
    (tmp_path / "empty").mkdir()
    env = {**isolated("bwrap"), "PATH": str(tmp_path / "empty"), "AGENT_SANDBOX__MODE": "report"}
    with running_agent(agent_folder, env=env) as agent:
        seen = agent.call("look", {})
        wait_until(lambda: agent.status()["sandbox"]["controls"])
        controls = agent.status()["sandbox"]["controls"]
        (namespaces,) = [each for each in controls if each["control"] == "namespaces"]

    assert seen["no_new_privs"] == "1"
    assert seen["journal"] == "PermissionError"
    assert namespaces["verdict"] == "missing"


# Users


def need_root() -> None:
    """Skip what only root can do."""
    if os.geteuid() != 0:
        pytest.skip("platform: only root can become another user")


@pytest.mark.parametrize("isolation", ISOLATIONS)
def test_started_by_root_host_and_worker_become_user_1000(
    public_folder: Path, isolation: str
) -> None:
    """Nobody who starts an agent as root means its code to be root."""
    need_root()
    python = make_readable_python(public_folder / "python")
    folder = write_agent(public_folder / "agent")
    os.chown(folder / "secrets/vault.json", AGENT_ID, AGENT_ID)
    env = {"AGENT_WORKER__USER": "agent", **isolated(isolation)}
    arguments = ("-c", f"import os; os.execv({str(python)!r}, [{str(python)!r}, *{RUN!r}])")
    with running_agent(folder, env=env, arguments=arguments) as agent:
        seen = agent.call("look", {})
        ids = re.search(r"Uid:\s+(.*)", Path(f"/proc/{agent.pid}/status").read_text())
        groups = re.search(r"Groups:(.*)", Path(f"/proc/{agent.pid}/status").read_text())
        capabilities = re.search(r"CapEff:\s+(\S+)", Path(f"/proc/{agent.pid}/status").read_text())

        assert ids
        assert ids[1].split() == ["1000"] * 4
        assert groups
        assert groups[1].split() == []
        assert capabilities
        assert int(capabilities[1], 16) == 0
        assert seen["uid"] == "1000"
        assert_confined(seen)
        assert (folder / "runtime").stat().st_uid == AGENT_ID
        assert (folder / "logs/runtime.log").stat().st_uid == AGENT_ID
        assert (folder / "entrypoint.py").stat().st_uid == 0


RUN = ["-m", "kagent_sdk", "run", "."]


def test_what_user_1000_cannot_read_is_one_clear_line(public_folder: Path) -> None:
    """A virtual environment in root's home is the usual case, a closed folder another."""
    need_root()
    python = make_readable_python(public_folder / "python")
    closed = public_folder / "closed"
    folder = write_agent(closed / "agent")
    closed.chmod(0o700)
    arguments = ("-c", f"import os; os.execv({str(python)!r}, [{str(python)!r}, *{RUN!r}])")
    agent = start_agent(folder, env={"AGENT_WORKER__USER": "agent"}, arguments=arguments)

    assert agent.wait() == 3
    (line,) = [line for line in agent.log_text.splitlines() if line.startswith("error: ")]
    assert f"user 1000 cannot read the agent's folder: {closed} is closed to it" in line
    assert "worker.user: keep" in line


def test_handing_over_follows_no_links(public_folder: Path) -> None:
    """Who was user 1000 in the last run could have left a link to what is root's."""
    need_root()
    runtime, treasure = public_folder / "runtime", public_folder / "treasure"
    (runtime / "deep").mkdir(parents=True)
    for name in ("file", "linked", "folder/inside"):
        (treasure / name).parent.mkdir(exist_ok=True)
        (treasure / name).touch()
    (runtime / "file").touch()
    (runtime / "deep/file").touch()
    (runtime / "to-file").symlink_to(treasure / "file")
    (runtime / "to-folder").symlink_to(treasure / "folder")
    os.link(treasure / "linked", runtime / "hard")
    os.mkfifo(runtime / "pipe")

    hand_over(runtime)

    owned = {path: path.lstat().st_uid for path in public_folder.rglob("*")}
    assert owned[runtime] == owned[runtime / "file"] == owned[runtime / "deep/file"] == AGENT_ID
    assert all(owned[path] == 0 for path in treasure.rglob("*"))
    assert owned[runtime / "hard"] == 0


def test_a_folder_that_is_a_link_is_left_to_its_owner(public_folder: Path) -> None:
    """It leads to a place that somebody has chosen."""
    need_root()
    (public_folder / "elsewhere").mkdir()
    (public_folder / "logs").symlink_to("elsewhere")

    hand_over(public_folder / "logs")

    assert (public_folder / "elsewhere").stat().st_uid == 0


def test_contents_that_are_the_workers_already_are_not_looked_at_again(
    public_folder: Path,
) -> None:
    """A cache may have a million files, and a start must not."""
    need_root()
    cache = public_folder / "runtime/cache"
    cache.mkdir(parents=True)
    hand_over(public_folder / "runtime")
    (cache / "late").touch()
    (public_folder / "runtime/late").touch()

    hand_over(public_folder / "runtime")

    assert (cache / "late").stat().st_uid == 0
    assert (public_folder / "runtime/late").stat().st_uid == AGENT_ID
