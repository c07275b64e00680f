"""Tests of what people see: `kagent_sdk.cli.screens`."""

from __future__ import annotations

import io
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from rich.console import Console, RenderableType

from kagent_sdk.cli.screens.capabilities import capability_detail, capability_table, expected_input
from kagent_sdk.cli.screens.status import status_screen
from kagent_sdk.cli.screens.tasks import task_detail, task_table
from kagent_sdk.protocol.status import Status

NOW = datetime(2026, 11, 23, 18, 0, tzinfo=UTC)
EVIL = "\x1b]0;owned\x07\x1b[2J"


def shown(content: RenderableType, width: int = 80, *, colour: bool = False) -> str:
    """Return what a terminal of that width shows."""
    file = io.StringIO()
    console = Console(
        file=file,
        width=width,
        force_terminal=colour,
        highlight=False,
        markup=False,
        no_color=not colour,
    )
    console.print(content)
    return "\n".join(line.rstrip() for line in file.getvalue().splitlines())


def ago(seconds: float) -> str:
    """Return an RFC 3339 time of the past."""
    return (NOW - timedelta(seconds=seconds)).isoformat()


GREET: dict[str, Any] = {
    "name": "greet",
    "description": "Greet somebody.\n\nAt length.",
    "input_schema": {
        "type": "object",
        "properties": {
            "name": {"type": "string", "description": "Whom"},
            "count": {"type": "integer", "default": 3},
        },
        "required": ["name"],
    },
    "output_schema": {
        "type": "object",
        "title": "Greeting",
        "properties": {"text": {"type": "string"}},
    },
    "idempotent": True,
    "timeout_s": 30,
    "max_concurrency": 4,
    "on_disconnect": "detach",
    "tags": ["demo"],
}
TAIL: dict[str, Any] = {
    "name": "tail",
    "streams": True,
    "input_schema": {"type": "object"},
    "event_schema": {"type": "string"},
}


def test_capabilities_are_a_line_each() -> None:
    """What there is, what it takes, what it gives."""
    assert shown(capability_table([GREET, TAIL])).splitlines() == [
        "CAPABILITY  TAKES         GIVES             DESCRIPTION",
        "greet       name [count]  Greeting          Greet somebody.",
        "tail                      stream of string",
    ]


def test_a_capability_is_told_with_fields_and_an_example() -> None:
    """All that it takes to call it, on one screen."""
    assert shown(capability_detail(GREET), 100).splitlines() == [
        "greet  idempotent · timeout 30 s · at most 4 at a time · goes on when the caller leaves · demo",
        "  Greet somebody.",
        "",
        "  At length.",
        "",
        "input",
        "  name   string   required  Whom",
        "  count  integer  = 3",
        "",
        "output",
        "  text  string",
        "",
        "example",
        "  kos-agent call greet name=NAME",
    ]


def test_a_stream_is_shown_as_one() -> None:
    """Its items are what matters, and --stream is how to see them."""
    text = shown(capability_detail(TAIL))

    assert "input\n  nothing" in text
    assert "items\n  string" in text
    assert "kos-agent call tail --stream" in text


def test_a_wrong_input_is_answered_with_what_is_expected() -> None:
    """Below the reasons: no second command to find out."""
    assert shown(expected_input(GREET)).splitlines() == [
        "expected",
        "  name   string   required  Whom",
        "  count  integer  = 3",
        "example",
        "  kos-agent call greet name=NAME",
    ]


TASKS: list[dict[str, Any]] = [
    {
        "id": "call-1",
        "capability": "greet",
        "state": "working",
        "progress": {"fraction": 0.5, "message": "halfway"},
        "error": None,
        "attempt": 1,
        "created_at": ago(5),
        "started_at": ago(4),
        "finished_at": None,
        "output": None,
        "trace_id": None,
        "metadata": {},
    },
    {
        "id": "call-0",
        "capability": "greet",
        "state": "failed",
        "progress": {"fraction": 0.9, "message": "nearly"},
        "error": {
            "code": "quota",
            "message": "no more",
            "retryable": False,
            "details": {"in_s": 5},
        },
        "attempt": 2,
        "created_at": ago(100),
        "started_at": ago(100),
        "finished_at": ago(98),
        "output": {"text": "half"},
        "trace_id": "0af7651916cd43dd8448eb211c80319c",
        "metadata": {"user": "ada"},
    },
]


def test_tasks_are_a_line_each() -> None:
    """What runs and how far, what failed and why."""
    assert shown(task_table(TASKS, NOW)).splitlines() == [
        "TASK    CAPABILITY  STATE    AGE             TOOK",
        "call-1  greet       working  5 s ago          4 s  50 %  halfway",
        "call-0  greet       failed   1 min 40 s ago   2 s  quota  no more",
    ]


def test_a_task_is_told_whole() -> None:
    """For whoever wants to know what happened."""
    text = shown(task_detail(TASKS[1], NOW), 100)

    for part in ("call-0", "quota  no more", "0af7651916cd", '{"user":"ada"}', "1 min 40 s ago"):
        assert part in text
    assert 'details\n  {\n    "in_s": 5\n  }' in text
    assert 'output\n  {\n    "text": "half"\n  }' in text
    assert "progress    50 %  halfway" in shown(task_detail(TASKS[0], NOW))


def test_a_long_output_is_cut_on_the_screen() -> None:
    """--json has all of it."""
    text = shown(task_detail({**TASKS[1], "output": "x" * 100_000}, NOW))

    assert len(text) < 30_000
    assert "all of it: --json" in text


def status(**changes: Any) -> Status:
    """Return the status of an agent that is well, but for the changes."""
    document: dict[str, Any] = {
        "agent": {
            "name": "hello",
            "version": "1.2",
            "sdk_version": "0.1.0",
            "python_version": "3.11.7",
            "started_at": ago(192),
            "uptime_s": 192,
        },
        "lifecycle": {"state": "ready", "since": ago(190)},
        "health": {"live": True, "ready": True},
        "processes": [
            {"role": "host", "pid": 41, "state": "ready", "pss_bytes": 39 << 20, "lag_ms": 0.2},
            {"role": "worker", "pid": 42, "state": "ready", "rss_bytes": 34 << 20, "running": 2},
        ],
        "resources": {
            "memory_limit_bytes": 512 << 20,
            "memory_used_bytes": 128 << 20,
            "memory_soft_ratio": 0.9,
        },
        "tasks": {"working": 2, "working_limit": 16, "completed": 7},
    }
    return Status.model_validate({**document, **changes})


def test_the_status_of_a_healthy_agent_is_calm() -> None:
    """One look says that all is well."""
    text = shown(status_screen(status(), NOW, width=80), 80)

    assert text.splitlines()[0] == "hello 1.2  ● ready for 3 min 10 s"
    assert "health     live and ready" in text
    assert "━━━━━━━━━━━━━━━━━━━━  128 MiB of 512 MiB  25 %  no tasks from 90 %" in text
    assert "2 of 16 working · 0 queued" in text
    assert "7 completed · 0 failed" in text
    assert "RESTARTS" not in text
    assert "loops" not in text


def test_what_is_not_known_is_a_dash_and_never_zero() -> None:
    """A zero that nobody measured has cost many nights."""
    text = shown(status_screen(status(resources={}), NOW, width=80))

    assert "memory     -" in text
    host = next(line for line in text.splitlines() if line.startswith("  host"))
    assert host.split() == ["host", "ready", "41", "39.0", "MiB", "-", "-", "-", "0.2", "ms"]


TROUBLE: dict[str, Any] = {
    "lifecycle": {"state": "busy", "since": ago(10)},
    "health": {
        "live": False,
        "ready": False,
        "reason": "stalled",
        "detail": f"worker 0 is silent {EVIL}",
        "stalled": [{"index": 0, "silent_s": 61, "stuck": True, "stack": f"in sleep\n{EVIL}"}],
    },
    "processes": [
        {
            "role": "host",
            "pid": 4_194_303,
            "state": "busy",
            "pss_bytes": 100 << 30,
            "cpu_percent": 100,
            "threads": 3,
            "fds": 1024,
            "lag_ms": 0.1,
        },
        {
            "role": "worker",
            "status_text": f"replaying {EVIL}",
            "index": 63,
            "pid": None,
            "state": "backing_off",
            "restarts": 4,
            "lag_ms": 61_000,
        },
    ],
    "resources": {
        "memory_limit_bytes": 512 << 20,
        "memory_used_bytes": 500 << 20,
        "memory_near_limit": True,
        "oom_kills": 2,
        "cpu_limit_cores": 0.5,
        "cpu_usage_s": 3,
        "cpu_throttled_s": 12.5,
        "pids": 3,
        "pids_limit": 128,
        "pressure": {"scope": "system", "cpu": {"some_avg10": 12.2}, "io": {"some_avg10": 0.2}},
    },
    "capabilities": [{"name": EVIL, "running": 1, "limit": 4, "failed": 3}],
    "loops": [
        {"name": "sweep", "state": "backing_off", "crashes": 3, "last_error": f"OSError {EVIL}"},
    ],
    "workers": {
        "last_crash": {
            "at": ago(70),
            "worker": 1,
            "how": f"SIGSEGV {EVIL}",
            "traceback": "\n".join(f"line {number}" for number in range(40)),
        },
    },
}


def test_a_vault_that_was_not_taken_stands_out() -> None:
    """The agent goes on with old secrets, and will not start again with this file."""
    assert "vault" not in shown(status_screen(status(), NOW, width=80))

    part = {"present": True, "error": f"secrets/vault.json is gone{EVIL}"}
    screen = shown(status_screen(status(vault=part), NOW, width=80))
    assert "not reloaded: secrets/vault.json is gone" in screen
    assert "\x1b" not in screen


@pytest.mark.parametrize("width", [80, 120])
def test_an_agent_in_trouble_says_what_and_why(width: int) -> None:
    """The screen is for three in the morning."""
    text = shown(status_screen(status(**TROUBLE), NOW, width=width), width)

    for part in (
        "not live, not ready: worker 0 is silent",
        "takes no tasks",
        "2 processes killed for memory",
        "held back for 12.5 s",
        "cpu 12 % · of the whole machine",
        "3 of 128",
        "1 of 4",
        "sweep: OSError",
        "worker 0 is stuck",
        "in sleep",
        "SIGSEGV",
        "line 39",
        "61 s",
        "RESTARTS",
        "backing off",
        "worker 63 says replaying",
    ):
        assert part in text
    assert "line 20\n" not in text
    assert max(map(len, text.splitlines())) <= width


def end(cause: str, how: str, **more: Any) -> dict[str, Any]:
    """Return how something ended, a minute ago."""
    return {"cause": cause, "how": how, "at": ago(61), **more}


def told_ends(**parts: Any) -> list[str]:
    """Return what the screen says of the last exit."""
    text = shown(status_screen(status(**parts), NOW, width=80), 120)
    return [line.strip() for line in text.partition("last exit\n")[2].splitlines() if line]


def test_a_host_that_was_killed_is_told_with_its_tasks() -> None:
    """What was cut off is what somebody will ask for."""
    tasks = [{"id": f"t{number}", "capability": "nap"} for number in range(5)]
    host = end("oom", "OOM", tasks=tasks, tasks_running=5)

    assert told_ends(last_exit={"host": host}) == [
        "the host before: oom  1 min 01 s ago, amid 5 tasks: t0, t1, t2, …"
    ]


def test_a_lost_worker_of_the_host_before_is_told_too() -> None:
    """And not a second time when it is this host's, where it is shown with its traceback."""
    host = end("machine_restarted", "the machine restarted", tasks_running=1)
    worker = end("signal", "SIGSEGV", worker=2)

    assert told_ends(last_exit={"host": host, "worker": worker}) == [
        "the host before: machine restarted (the machine restarted)  1 min 01 s ago, amid 1 task: …",
        "worker 2: signal (SIGSEGV)  1 min 01 s ago",
    ]
    assert told_ends(last_exit={"worker": worker}, workers={"last_crash": worker}) == []


def test_what_ended_cleanly_is_not_worth_a_line() -> None:
    """What is well is quiet."""
    ends = {"host": end("clean", "stopped: SIGTERM"), "worker": end("clean", "exit code 0")}

    assert told_ends(last_exit=ends) == []
    assert told_ends() == []


def test_no_end_lets_escapes_through() -> None:
    """The file lies where a worker may have written it."""
    host = end("killed", EVIL, tasks=[{"id": EVIL, "capability": EVIL}], tasks_running=1)

    assert "\x1b" not in "".join(told_ends(last_exit={"host": host}))


def told_state(**state: Any) -> list[str]:
    """Return what the screen says of the state."""
    text = shown(status_screen(status(state=state), NOW, width=80), 120)
    return [line.strip() for line in text.partition("\nstate\n")[2].splitlines() if line]


def test_the_state_is_a_line() -> None:
    """How full it is, and how old the file is that a person can read."""
    known = {"keys": 12, "used_bytes": 2048, "quota_bytes": 1 << 20, "version": 7}

    assert told_state() == [], "an agent without a state is not asked for one"
    assert told_state(**known) == ["12 keys, 2.0 KiB of 1.0 MiB  not exported yet"]
    assert told_state(keys=1, used_bytes=2, version=1, exported_at=ago(5)) == [
        "1 key, 2 B  exported 5 s ago"
    ]


def test_what_is_wrong_with_the_state_s_files_is_told() -> None:
    """In red: somebody should look."""
    state = {
        "version": 1,
        "export_error": "No space left on device",
        "problems": [
            {"file": "memory_store.json.corrupt-1", "at": ago(61), "reason": f"torn{EVIL}"}
        ],
    }

    lines = told_state(**state)
    assert lines[1:] == [
        "No space left on device",
        "memory_store.json.corrupt-1  1 min 01 s ago: torn\\x1b]0;owned\\x07\\x1b[2J",
    ]
    coloured = shown(status_screen(status(state=state), NOW, width=80), 120, colour=True)
    assert "\x1b[31mmemory_store.json.corrupt-1" in coloured
    full = {"version": 1, "used_bytes": 95, "quota_bytes": 100}
    assert "\x1b[33m95 B" in shown(
        status_screen(status(state=full), NOW, width=80), 120, colour=True
    )


@pytest.mark.parametrize("width", [80, 120])
def test_no_column_of_the_status_is_cut(width: int) -> None:
    """Half a number is worse than none."""
    text = shown(status_screen(status(**TROUBLE), NOW, width=width), width)

    assert "…" not in text.partition("tasks\n")[0]


@pytest.mark.parametrize("colour", [False, True])
def test_no_screen_lets_an_agent_s_escapes_through(colour: bool) -> None:
    """An agent may be anybody's; its names, errors and stacks are shown to an operator."""
    evil_task = dict.fromkeys(TASKS[0], EVIL) | {"error": {"code": EVIL, "message": EVIL}}
    evil_capability = {
        "name": EVIL,
        "description": EVIL,
        "tags": [EVIL],
        "input_schema": {
            "properties": {EVIL: {"description": EVIL, "type": EVIL, "default": EVIL}}
        },
        "output_schema": {"title": EVIL, "type": "object"},
    }
    screens: list[RenderableType] = [
        status_screen(status(**TROUBLE), NOW, width=80),
        task_table([evil_task], NOW),
        task_detail(evil_task, NOW),
        capability_table([evil_capability]),
        capability_detail(evil_capability),
    ]

    for screen in screens:
        text = shown(screen, 100, colour=colour)
        assert "\x1b]" not in text
        assert "\x1b[2J" not in text
        assert "\x07" not in text


def test_without_a_limit_the_memory_is_only_told() -> None:
    """A bar of nothing would say nothing."""
    text = shown(status_screen(status(resources={"memory_used_bytes": 1 << 20}), NOW, width=80))

    assert "memory     1.0 MiB  no limit" in text


def test_a_failed_reload_stands_out_and_no_reload_is_not_mentioned() -> None:
    """An agent that serves on with the old code looks well: the deploy that failed must show."""
    last = {
        "outcome": "failed",
        "at": ago(5),
        "took_s": 0.5,
        "reason": f"worker 0 ended{EVIL}",
        "needs_restart": ["http.port"],
    }
    reload = {"state": "reloading", "generation": 3, "retiring": 1, "last": last}
    text = " ".join(shown(status_screen(status(reload=reload), NOW, width=200), 200).split())

    assert "new workers are starting · older workers finish their tasks" in text
    assert "failed: worker 0 ended" in text
    assert "needs a restart: http.port · generation 3" in text
    assert "\x1b" not in text
    assert "reload" not in shown(status_screen(status(), NOW, width=80))


def test_a_snapshot_that_was_not_made_stands_out() -> None:
    """A backup that fails every night must not go unseen."""
    assert "snapshot" not in shown(status_screen(status(), NOW, width=80))

    screen = shown(
        status_screen(status(snapshots={"last_error": f"disk full{EVIL}"}), NOW, width=80)
    )
    assert "not made: disk full" in screen
    assert "\x1b" not in screen
