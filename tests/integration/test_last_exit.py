"""Why did it end? The next host knows, however the one before came to its end."""

from __future__ import annotations

import json
import os
import signal
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.agents import RunningAgent, running_agent, start_agent
from tests.integration.waiting import wait_until

LOOP = {"AGENT_WORKER__CRASH_LIMIT": "2", "AGENT_WORKER__BACKOFF_INITIAL_S": "0.01"}


def last_exit(folder: Path) -> dict[str, Any]:
    """Return what the file says; a host that runs writes it behind its loop."""
    file = folder / "runtime" / "last_exit.json"
    wait_until(file.exists)
    document = json.loads(file.read_bytes())
    assert isinstance(document, dict)
    return document


def noted_tasks(folder: Path) -> set[str]:
    """Return the ids of the tasks in the host's note."""
    note = read_note(folder)
    return {task["id"] for task in json.loads(note)["tasks"]} if note else set()


def begin(agent: RunningAgent, *ids: str) -> None:
    """Start tasks that take long."""
    for task_id in ids:
        body = {"id": task_id, "capability": "nap", "input": {"seconds": 100}}
        answer = agent.post("/v1/tasks", body, headers={"Prefer": "respond-async"})
        assert answer.status == 202, answer


def kill_host(agent: RunningAgent) -> None:
    """Kill the host as the kernel would, and see that it and its worker are gone."""
    os.kill(agent.pid, signal.SIGKILL)
    assert agent.wait() == -signal.SIGKILL
    wait_until(lambda: not agent.processes())
    (agent.directory / "runtime" / "host.json").unlink()


def test_a_clean_stop_is_told_by_the_next_host(subject: Path) -> None:
    """Nobody should look for a crash where there was none."""
    with running_agent(subject) as agent:
        first = agent.pid
        assert agent.status()["last_exit"] == {"host": None, "worker": None}
    assert not (subject / "runtime" / "running.json").exists()
    assert last_exit(subject)["host"]["pid"] == first

    with running_agent(subject) as agent:
        told = agent.status()["last_exit"]

        assert (told["host"]["cause"], told["host"]["how"]) == ("clean", "stopped: SIGTERM")
        assert (told["host"]["pid"], told["host"]["exit_code"]) == (first, 0)
        assert (told["worker"]["cause"], told["worker"]["exit_code"]) == ("clean", 0)
        assert agent.wait_logged("previous_exit", cause="clean")


def test_tasks_that_a_stop_cut_off_are_named(subject: Path) -> None:
    """A stop may be clean for the host and not for a task that would not end."""
    env = {"AGENT_SHUTDOWN__GRACE_S": "3", "AGENT_TASKS__CANCEL_GRACE_S": "0.2"}
    with running_agent(subject, env=env) as agent:
        body = {"id": "mule", "capability": "stubborn", "input": {"seconds": 100}}
        agent.post("/v1/tasks", body, headers={"Prefer": "respond-async"})
        wait_until(lambda: agent.status()["tasks"]["working"] == 1)
    told = last_exit(subject)

    assert told["host"]["cause"] == "clean"
    assert [task["id"] for task in told["host"]["tasks"]] == ["mule"]


def test_a_killed_host_leaves_word_of_what_was_running(subject: Path) -> None:
    """A host that is shot says nothing any more: the note that it kept must."""
    ids = {"one", "two"}
    with running_agent(subject, exit_code=None) as agent:
        begin(agent, *ids)
        wait_until(lambda: noted_tasks(subject) == ids)
        kill_host(agent)

    with running_agent(subject) as agent:
        told = agent.status()["last_exit"]["host"]

        assert (told["cause"], told["how"], told["oom"]) == ("killed", "killed", False)
        assert {task["id"] for task in told["tasks"]} == ids
        assert {(task["capability"], task["attempt"]) for task in told["tasks"]} == {("nap", 1)}
        assert all(task["started_at"] for task in told["tasks"])
        assert told["tasks_running"] == 2
        assert agent.wait_logged("previous_exit", cause="killed")
        wait_until(lambda: last_exit(subject)["host"] == told)

    with running_agent(subject) as agent:
        assert agent.status()["last_exit"]["host"]["cause"] == "clean"


def test_a_host_that_was_killed_while_it_stopped_says_so(subject: Path) -> None:
    """An orchestrator's patience was shorter than the agent's grace."""
    with running_agent(subject, exit_code=None) as agent:
        begin(agent, "slow")
        os.kill(agent.pid, signal.SIGTERM)
        wait_until(lambda: b'"stopping":"SIGTERM"' in read_note(subject))
        kill_host(agent)

    with running_agent(subject) as agent:
        told = agent.status()["last_exit"]["host"]

        assert told["cause"] == "killed"
        assert told["how"] == "killed, while it was stopping: SIGTERM"
        assert [task["id"] for task in told["tasks"]] == ["slow"]


def read_note(folder: Path) -> bytes:
    """Return the host's note; nothing without one."""
    try:
        return running_file(folder).read_bytes()
    except FileNotFoundError:
        return b""


def test_more_tasks_than_the_note_has_room_for_are_counted(subject: Path) -> None:
    """The note stays small, whatever runs."""
    env = {"AGENT_TASKS__MAX_CONCURRENCY": "200"}
    with running_agent(subject, env=env, exit_code=None) as agent:
        begin(agent, *(f"t{number}" for number in range(130)))
        wait_until(lambda: len(noted_tasks(subject)) == 100)
        wait_until(lambda: b'"tasks_running":130' in read_note(subject))
        kill_host(agent)

    with running_agent(subject) as agent:
        told = agent.status()["last_exit"]["host"]

        assert (len(told["tasks"]), told["tasks_running"]) == (100, 130)


def running_file(folder: Path) -> Path:
    """Return where the host's note lies."""
    return folder / "runtime" / "running.json"


def test_a_machine_that_restarted_is_told_from_a_kill(subject: Path) -> None:
    """After a power cut nobody killed anything."""
    with running_agent(subject, exit_code=None) as agent:
        wait_until(running_file(subject).exists)
        kill_host(agent)
    note = json.loads(running_file(subject).read_bytes())
    running_file(subject).write_text(json.dumps({**note, "boot_id": "another"}))

    with running_agent(subject) as agent:
        assert agent.status()["last_exit"]["host"]["cause"] == "machine_restarted"


def test_a_crash_loop_is_told_with_its_traceback(subject: Path) -> None:
    """The container is gone with its output; the volume has the reason."""
    good = (subject / "entrypoint.py").read_text()
    (subject / "entrypoint.py").write_text("raise RuntimeError('no database')\n")
    agent = start_agent(subject, env=LOOP)
    assert agent.wait() == 75
    told = last_exit(subject)

    assert (told["host"]["cause"], told["host"]["exit_code"]) == ("crash_loop", 75)
    assert "crashed 2 times" in told["host"]["how"]
    assert "RuntimeError: no database" in told["host"]["traceback"]
    assert (told["worker"]["cause"], told["worker"]["ready_s"]) == ("exception", None)
    (subject / "entrypoint.py").write_text(good)
    with running_agent(subject) as agent:
        assert agent.status()["last_exit"] == told


def test_a_start_that_fails_is_told(subject: Path) -> None:
    """A port that was taken for a moment explains a gap in the night."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        agent = start_agent(subject, env={"AGENT_HTTP__PORT": str(taken.getsockname()[1])})
        assert agent.wait() == 3
    told = last_exit(subject)["host"]

    assert (told["cause"], told["exit_code"]) == ("start_failed", 3)
    assert "port" in told["how"]
    assert not running_file(subject).exists()
    with running_agent(subject) as agent:
        assert agent.status()["last_exit"]["host"] == told


@pytest.mark.parametrize(
    ("env", "code", "cause"),
    [
        ({"AGENT_TASKS__MAX_QUEUE": "many"}, 78, "config_invalid"),
        ({"AGENT_ENTRYPOINT": "missing.py"}, 3, "start_failed"),
    ],
)
def test_what_ends_a_host_before_it_lives_is_told(
    subject: Path, env: dict[str, str], code: int, cause: str
) -> None:
    """These are the ends that are seen least: there is no log yet."""
    agent = start_agent(subject, env=env)
    assert agent.wait() == code
    told = last_exit(subject)["host"]

    assert (told["cause"], told["exit_code"]) == (cause, code)
    assert told["how"] in agent.log_text


def test_nothing_is_written_into_a_folder_that_is_no_agent(tmp_path: Path) -> None:
    """Who mistypes a folder's name does not want one more in it."""
    folder = tmp_path / "home"
    folder.mkdir()
    agent = start_agent(folder)

    assert agent.wait() == 3
    assert list(folder.iterdir()) == []


BROKEN_HOST = """
import sys
from kagent_sdk.host.monitor import Monitor

async def run(self):
    raise LookupError("a bug of ours")

Monitor.run = run
from kagent_sdk.cli.entry import main
sys.argv = ["kos-agent", "run", "."]
main()
"""


def test_a_bug_of_the_hosts_is_in_its_log_and_on_record(subject: Path) -> None:
    """Such an end may not come again: what is not written down is lost."""
    agent = start_agent(subject, arguments=["-c", BROKEN_HOST])
    assert agent.wait() == 70
    told = last_exit(subject)["host"]
    log = (subject / "logs" / "runtime.log").read_text()

    assert (told["cause"], told["exit_code"]) == ("internal_error", 70)
    assert "LookupError: a bug of ours" in told["traceback"]
    assert "in run" in told["traceback"]
    (line,) = [line for line in map(json.loads, log.splitlines()) if line["event"] == "host_failed"]
    assert "LookupError: a bug of ours" in json.dumps(line)


def test_a_host_that_crashes_in_c_code_leaves_its_stack(subject: Path) -> None:
    """Python cannot run any more; faulthandler can."""
    with running_agent(subject, exit_code=None) as agent:
        wait_until(running_file(subject).exists)
        os.kill(agent.pid, signal.SIGSEGV)
        assert agent.wait() == -signal.SIGSEGV
        wait_until(lambda: not agent.processes())
        (subject / "runtime" / "host.json").unlink()
        wait_until(lambda: "Fatal Python error: Segmentation fault" in agent.log_text)

    with running_agent(subject) as agent:
        assert agent.status()["last_exit"]["host"]["cause"] == "killed"


def test_a_second_host_in_the_folder_leaves_the_first_ones_record_alone(subject: Path) -> None:
    """A start by mistake must not make the living host look dead."""
    with running_agent(subject, exit_code=None) as agent:
        begin(agent, "held")
        wait_until(lambda: noted_tasks(subject) == {"held"})
        port = agent.url.rpartition(":")[2]
        second = start_agent(subject, env={"AGENT_HTTP__PORT": port})
        assert second.wait() == 3
        assert second.wait_logged("another_host_runs")
        assert noted_tasks(subject) == {"held"}
        kill_host(agent)

    with running_agent(subject) as agent:
        told = agent.status()["last_exit"]["host"]

        assert (told["cause"], [task["id"] for task in told["tasks"]]) == ("killed", ["held"])


@pytest.mark.parametrize(
    ("how", "told", "cause", "code", "number"),
    [
        ("segv", "SIGSEGV", "signal", None, "SIGSEGV"),
        ("kill", "SIGKILL", "signal", None, "SIGKILL"),
        ("exit", "exit code 7", "exit", 7, None),
    ],
)
def test_a_lost_worker_is_on_record_with_its_tasks(
    subject: Path, how: str, told: str, cause: str, code: int | None, number: str | None
) -> None:
    """`/status` and the file say the same, and the next host says it again."""
    with running_agent(subject, exit_code=None) as agent:
        begin(agent, "bystander")
        (pid,) = agent.worker_pids
        assert agent.post("/v1/capabilities/crash", {"how": how}).status == 502
        wait_until(lambda: last_exit_worker(subject) is not None)
        worker = last_exit(subject)["worker"]

        assert (worker["how"], worker["cause"], worker["pid"]) == (told, cause, pid)
        assert (worker["exit_code"], worker["signal"]) == (code, number)
        assert worker["oom"] is False
        assert {task["capability"] for task in worker["tasks"]} == {"nap", "crash"}
        assert worker["ready_s"] > 0
        status = agent.status()
        assert status["last_exit"]["worker"] == status["workers"]["last_crash"] == worker
        kill_host(agent)

    with running_agent(subject) as agent:
        assert agent.status()["last_exit"]["worker"] == worker


def last_exit_worker(folder: Path) -> dict[str, Any] | None:
    """Return what the file says of the last worker."""
    worker = last_exit(folder)["worker"]
    assert worker is None or isinstance(worker, dict)
    return worker


def test_a_stuck_worker_is_on_record_with_its_stack(subject: Path) -> None:
    """Where it hung is what a person needs, long after it was replaced."""
    env = {"AGENT_HEALTH__STALL_WARN_S": "1", "AGENT_HEALTH__STALL_FAIL_S": "2"}
    with running_agent(subject, env=env) as agent:
        body = {"id": "stuck", "capability": "block_loop", "input": {"seconds": 60}}
        agent.post("/v1/tasks", body, headers={"Prefer": "respond-async"})
        wait_until(lambda: last_exit_worker(subject) is not None)
        worker = last_exit(subject)["worker"]

        assert (worker["cause"], worker["how"]) == ("stall", "stuck")
        assert "in block_loop" in worker["traceback"]
        assert [task["id"] for task in worker["tasks"]] == ["stuck"]
        assert worker["rss_bytes"] > 1_000_000
        agent.wait_ready()


def test_a_worker_that_leaves_its_socket_is_told_from_one_that_was_shot(subject: Path) -> None:
    """A SIGKILL of the host's own must not look like one from outside."""
    (subject / "entrypoint.py").write_text(
        "import os, socket, time\n"
        "from kagent_sdk import Agent\n"
        "fd = int(os.environ['AGENT_WORKER_FD'])\n"
        "agent = Agent()\n"
        "@agent.capability\n"
        "async def leave() -> None:\n"
        "    socket.socket(fileno=os.dup(fd)).shutdown(socket.SHUT_WR)\n"
        "    time.sleep(60)\n"
        "agent.run()\n"
    )
    with running_agent(subject) as agent:
        agent.post("/v1/capabilities/leave", {})
        wait_until(lambda: last_exit_worker(subject) is not None)
        worker = last_exit(subject)["worker"]

        assert (worker["cause"], worker["how"]) == ("killed", "connection_closed")
        agent.wait_ready()


def _garbage(path: Path) -> None:
    path.write_bytes(b'{"host": {"cause": 7}, "run": []}')


def _torn(path: Path) -> None:
    path.write_bytes(b'{"host": {"at": "2026-11-2')


def _huge(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(1 << 40)


def _link(path: Path) -> None:
    path.symlink_to("/etc/passwd")


def _fifo(path: Path) -> None:
    os.mkfifo(path)


def _folder(path: Path) -> None:
    (path / "x").mkdir(parents=True)


def _temporary_link(path: Path) -> None:
    path.with_suffix(".tmp").symlink_to(path.parent.parent / "config.yaml")


@pytest.mark.parametrize("name", ["last_exit.json", "running.json"])
@pytest.mark.parametrize("spoil", [_garbage, _torn, _huge, _link, _fifo, _folder, _temporary_link])
def test_files_that_are_not_what_they_should_be_are_survived(
    subject: Path, name: str, spoil: Callable[[Path], None]
) -> None:
    """A torn file, or a hostile one, costs what it said and nothing else."""
    (subject / "runtime").mkdir()
    path = subject / "runtime" / name
    spoil(path)
    before = Path("/etc/passwd").read_bytes()
    with running_agent(subject) as agent:
        told = agent.status()["last_exit"]["host"]
        agent.call("echo", {"text": "x"})

        is_lost_note = name == "running.json" and spoil is not _temporary_link
        assert (told or {}).get("cause") == ("unknown" if is_lost_note else None)
        if spoil is not _temporary_link:
            assert agent.wait_logged("exit_file_ignored", file=name)
    assert Path("/etc/passwd").read_bytes() == before
    if spoil is _folder:
        assert agent.wait_logged("exit_not_written")
    else:
        assert not (subject / "runtime" / "running.json").exists()
        assert last_exit(subject)["host"]["cause"] == "clean"
