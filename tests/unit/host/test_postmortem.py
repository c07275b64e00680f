"""What the next host makes of the traces."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kagent_sdk.errors import ConfigError, CrashLoopError, KagentError, StartupError, VaultError
from kagent_sdk.host.postmortem import (
    Witness,
    judge_error,
    judge_host,
    judge_previous,
    judge_worker,
    tell_output,
    tell_text,
)
from kagent_sdk.protocol.last_exit import (
    MAX_TRACEBACK_CHARS,
    HostExit,
    LastExit,
    OpenTask,
    RunningNote,
    WorkerExit,
)
from kagent_sdk.protocol.log_tags import encode_tag
from kagent_sdk.redaction.redactor import Redactor

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
TRACEBACK = 'Traceback (most recent call last):\n  File "a.py", line 1\nValueError: no\n'


def ago(seconds: float) -> datetime:
    """Return a time of the past."""
    return NOW - timedelta(seconds=seconds)


NOTE = RunningNote(
    run="b:7:1",
    pid=7,
    start_ticks=1,
    boot_id="b",
    started_at=ago(500),
    written_at=ago(100),
    cgroup="v2:9",
    oom_kills=4,
    tasks=(OpenTask(id="t", capability="nap"),),
    tasks_running=1,
)
WITNESS = Witness(now=NOW, boot_id="b", cgroup="v2:9", oom_kills=4, note_seen_at=ago(90))
EARLIER = HostExit(cause="clean", how="stopped: SIGTERM", at=ago(600), run="b:6:1")


def judge(note: RunningNote | None = NOTE, **changed: Any) -> HostExit:
    """Judge a host that left a note."""
    found = judge_host(note, LastExit(host=EARLIER), replace(WITNESS, **changed))
    assert found is not None
    return found


def test_a_note_without_an_end_is_of_a_host_that_was_killed() -> None:
    """With what it was running, and since when nobody heard of it."""
    found = judge()

    assert (found.cause, found.how, found.oom, found.signal) == ("killed", "killed", False, None)
    assert (found.at, found.started_at) == (ago(90), NOTE.started_at)
    assert (found.tasks, found.tasks_running) == (NOTE.tasks, 1)
    assert (found.pid, found.run) == (7, NOTE.run)


def test_a_counter_that_rose_since_says_memory() -> None:
    """It is the one trace that an OOM kill leaves where a container can look."""
    found = judge(oom_kills=5)

    assert (found.cause, found.how, found.oom, found.signal) == ("oom", "OOM", True, "SIGKILL")


def test_a_host_that_was_stopping_is_told_so() -> None:
    """It was killed because it took too long: the grace is what to look at."""
    found = judge(NOTE.model_copy(update={"stopping": "SIGTERM"}))

    assert (found.cause, found.how) == ("killed", "killed, while it was stopping: SIGTERM")


@pytest.mark.parametrize(
    ("note", "changed"),
    [
        (NOTE, {"cgroup": "v2:10", "oom_kills": 99}),
        (NOTE, {"cgroup": None}),
        (NOTE, {"oom_kills": None}),
        (NOTE.model_copy(update={"oom_kills": None}), {}),
        (NOTE.model_copy(update={"cgroup": None}), {"cgroup": None}),
    ],
)
def test_where_no_counter_can_be_compared_it_may_have_been_memory(
    note: RunningNote, changed: dict[str, Any]
) -> None:
    """A new container has a new counter: unknown is not no."""
    found = judge(note, **changed)

    assert (found.cause, found.oom) == ("killed", None)
    assert "perhaps for memory" in found.how


def test_another_boot_is_a_machine_that_restarted() -> None:
    """Whatever the counters say: they began anew too."""
    found = judge(boot_id="c", oom_kills=99)

    assert (found.cause, found.oom) == ("machine_restarted", None)
    assert found.tasks == NOTE.tasks


def test_a_host_that_wrote_its_end_is_believed() -> None:
    """It died between the two files, after it had said all."""
    own = HostExit(cause="crash_loop", how="…", at=NOW, run=NOTE.run)

    assert judge_host(NOTE, LastExit(host=own), WITNESS) is own


def test_without_a_note_the_last_word_stands() -> None:
    """An orderly end takes the note away."""
    witness = replace(WITNESS, note_seen_at=None)

    assert judge_host(None, LastExit(host=EARLIER), witness) is EARLIER
    assert judge_host(None, LastExit(), witness) is None


def test_a_note_that_cannot_be_read_still_says_that_there_was_a_host() -> None:
    """Taking the word of the one before would call a crash clean."""
    found = judge(None)

    assert (found.cause, found.at, found.oom) == ("unknown", ago(90), None)


@pytest.mark.parametrize("seen_at", [None, ago(1000), NOW + timedelta(days=1)])
@pytest.mark.parametrize("written_at", [ago(100), NOW + timedelta(days=1)])
def test_no_end_lies_in_the_future_or_before_the_note(
    written_at: datetime, seen_at: datetime | None
) -> None:
    """Clocks jump, and files are touched."""
    note = NOTE.model_copy(update={"written_at": written_at})

    assert min(written_at, NOW) <= judge(note, note_seen_at=seen_at).at <= NOW


@pytest.mark.parametrize(("age_s", "is_kept"), [(400, True), (501, False)])
def test_a_worker_is_told_of_only_if_it_was_the_killed_hosts(age_s: float, is_kept: bool) -> None:
    """A crash of last week explains nothing about this morning."""
    worker = WorkerExit(at=ago(age_s), how="SIGSEGV", cause="signal")
    found = judge_previous(NOTE, LastExit(host=EARLIER, worker=worker), WITNESS)

    assert found.host is not None
    assert found.host.cause == "killed"
    assert found.worker == (worker if is_kept else None)


def test_a_worker_stays_where_the_host_said_its_own_end_or_nothing_is_known() -> None:
    """What the file says belongs together."""
    worker = WorkerExit(at=ago(400), how="SIGSEGV", cause="signal")
    witness = replace(WITNESS, note_seen_at=None)
    last = LastExit(host=EARLIER, worker=worker)

    assert judge_previous(None, last, witness) == last
    assert judge_previous(None, LastExit(worker=worker), witness).worker == worker
    assert judge_previous(None, last, WITNESS).worker is None
    assert judge_previous(NOTE, LastExit(), WITNESS).worker is None


@pytest.mark.parametrize(
    ("error", "cause", "code"),
    [
        (CrashLoopError("x"), "crash_loop", 75),
        (ConfigError("x"), "config_invalid", 78),
        (VaultError("x"), "config_invalid", 78),
        (StartupError("x"), "start_failed", 3),
        (KagentError("x"), "internal_error", 70),
        (KeyError("x"), "internal_error", 70),
        (KeyboardInterrupt(), "internal_error", 70),
    ],
)
def test_an_exception_is_told_by_what_can_be_done_about_it(
    error: BaseException, cause: str, code: int
) -> None:
    """The words go with the exit codes."""
    assert judge_error(error) == (cause, code)


@pytest.mark.parametrize(
    ("returncode", "reason", "was_asked", "oom", "lines", "expected"),
    [
        (0, None, True, False, "", ("clean", "as told")),
        (-9, "shutdown", True, True, "", ("shutdown", "shutdown")),
        (1, None, True, False, TRACEBACK, ("shutdown", "as told")),
        (-9, "stuck", False, True, "", ("stall", "stuck")),
        (-9, "start_timed_out", False, False, "", ("start_failed", "start_timed_out")),
        (-9, "protocol_error", False, False, "", ("protocol_error", "protocol_error")),
        (-9, "cancellation_ignored", False, False, "", ("killed", "cancellation_ignored")),
        (-9, None, False, True, "", ("oom", "OOM")),
        (-9, None, False, False, "", ("signal", "as told")),
        (-9, None, False, None, "", ("signal", "as told")),
        (-11, None, False, True, "", ("signal", "as told")),
        (1, None, False, False, TRACEBACK, ("exception", "as told")),
        (1, None, False, True, "bye", ("exit", "as told")),
        (7, None, False, False, TRACEBACK, ("exit", "as told")),
        (0, None, False, False, TRACEBACK, ("exit", "as told")),
    ],
)
def test_the_end_of_a_worker_is_told_in_a_word(
    returncode: int,
    reason: str | None,
    was_asked: bool,
    oom: bool | None,
    lines: str,
    expected: tuple[str, str],
) -> None:
    """Who acts on it need not parse sentences."""
    found = judge_worker(
        returncode,
        "as told",
        kill_reason=reason,
        was_asked=was_asked,
        oom=oom,
        last_lines=lines,
    )

    assert found == expected


def test_the_last_lines_are_told_without_tags() -> None:
    """The tags are for the log; here the traceback is read as it was printed."""
    tag = encode_tag({"task_id": "t"}).decode()
    tail = "".join(f"{tag}{line}\n" for line in TRACEBACK.splitlines())

    assert tell_output(tail, Redactor({}), kept_bytes=10_000) == TRACEBACK


@given(
    secret=st.text("abc\n", min_size=6, max_size=30),
    before=st.text("xz\n", max_size=60),
    after=st.text("xz\n", max_size=60),
    kept=st.integers(10, 60),
)
def test_no_part_of_a_secret_stays_where_the_tail_begins(
    secret: str, before: str, after: str, kept: int
) -> None:
    """What is kept of an output may begin amid a secret, which no redactor knows any more."""
    tail = f"{before}{secret}{after}"[-kept:]
    told = tell_output(tail, Redactor({"key": secret}), kept_bytes=kept)

    assert not set(told) & set("abc")


def test_a_text_is_told_without_secrets_and_bounded() -> None:
    """Also when its encoding is broken."""
    told = tell_text("\udcff hunter22 " + "x" * MAX_TRACEBACK_CHARS, Redactor({"k": "hunter22"}))

    assert len(told) == MAX_TRACEBACK_CHARS
    assert tell_text("\udcff hunter22", Redactor({"k": "hunter22"})) == "\\udcff ***k***"
