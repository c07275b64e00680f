"""`logging`, `warnings` and structlog of a worker arrive as JSON, unless the author wants otherwise."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from kagent_sdk.config.models import LogsConfig
from kagent_sdk.host.worker_process import worker_environment
from tests.integration.worker_host import agent_source, ended, worker_process

LEVEL = {"AGENT_LOG_LEVEL": "info"}
TASK = {"task_id": "t-1", "capability": "talk", "attempt": 1}


async def run(folder: Path, body: str, environment: dict[str, str]) -> tuple[str, str]:
    """Run the capability ``talk`` once; return stdout and stderr."""
    async with worker_process(folder, agent_source(body), environment) as worker:
        await worker.host.start()
        if "def talk" in body:
            await worker.host.answer(await worker.host.run("talk"))
        await worker.host.stop()
        code, out, err = await ended(worker)
    assert code == 0, err
    return out.replace("after run\n", ""), err


async def records(folder: Path, body: str, level: str = "info") -> list[dict[str, Any]]:
    """Return what a worker wrote to stderr, every line of which must be a record."""
    out, err = await run(folder, body, {"AGENT_LOG_LEVEL": level})
    assert out == ""
    return [json.loads(line) for line in err.splitlines()]


def without_time(record: dict[str, Any]) -> dict[str, Any]:
    """Return a record without the time, which must look like one."""
    assert record["timestamp"].endswith("Z")
    return {key: value for key, value in record.items() if key != "timestamp"}


async def test_all_ways_to_log_carry_the_task(tmp_path: Path) -> None:
    """An author, and every library that he uses, has a way of his own."""
    body = """
    import logging, warnings
    log = logging.getLogger("mine")
    log.info("at import %d", 1)

    @agent.capability
    async def talk(ctx: TaskContext) -> None:
        import structlog
        log.warning("one", extra={"size": 3})
        ctx.log.info("two", size=4)
        structlog.get_logger("theirs").error("three")
        warnings.warn("four")
        await asyncio.to_thread(logging.error, "five")
        await asyncio.create_task(structlog.get_logger().ainfo("six"))
        log.debug("not at this level")
        ctx.log.debug("nor this")
        thread = threading.Thread(target=log.info, args=("seven",))
        thread.start()
        thread.join()
    """
    at_import, *found = [without_time(each) for each in await records(tmp_path / "a", body)]

    assert at_import == {"level": "info", "event": "at import 1", "logger": "mine"}
    location = found[3].pop("location")
    assert location.startswith(str(tmp_path / "a" / "entrypoint.py"))
    assert found == [
        {"level": "warning", "event": "one", **TASK, "logger": "mine", "size": 3},
        {"level": "info", "event": "two", **TASK, "size": 4},
        {"level": "error", "event": "three", **TASK, "logger": "theirs"},
        {"level": "warning", "event": "four", **TASK, "logger": "py.warnings"}
        | {"category": "UserWarning"},
        {"level": "error", "event": "five", **TASK, "logger": "root"},
        {"level": "info", "event": "six", **TASK},
        {"level": "info", "event": "seven", "logger": "mine"},
    ]


async def test_exceptions_are_one_key_with_the_authors_frames(tmp_path: Path) -> None:
    """Of `logging`, structlog, threads, asyncio and of the tasks themselves."""
    body = """
    import logging

    def fail() -> None:
        raise ValueError("no\\nway")

    async def fail_in_a_job() -> None:
        fail()

    @agent.capability
    def talk_sync(ctx: TaskContext) -> None:
        fail()

    @agent.capability
    async def talk(ctx: TaskContext) -> None:
        try:
            fail()
        except ValueError:
            logging.exception("of logging")
            ctx.log.exception("of structlog")
        thread = threading.Thread(target=fail, name="mine")
        thread.start()
        thread.join()
        job = asyncio.create_task(fail_in_a_job())
        await asyncio.wait([job])
        del job
        fail()

    @agent.on_shutdown
    def stop() -> None:
        fail()
    """
    found = await records(tmp_path / "a", body)

    assert [each["event"].partition("\n")[0] for each in found] == [
        "of logging",
        "of structlog",
        "thread 'mine' failed",
        "Task exception was never retrieved",
        "capability 'talk' failed in task t-1",
        "on_shutdown function 'stop' failed",
    ]
    for each in found:
        assert each["level"] == "error"
        assert each["exception"].startswith("Traceback (most recent call last):\n")
        assert each["exception"].endswith("ValueError: no\nway")
        assert "/kagent_sdk/" not in each["exception"]
    assert found[4]["task_id"] == "t-1"


async def test_a_sync_task_that_fails_is_told_with_its_keys(tmp_path: Path) -> None:
    """Its thread has the context only while the function runs."""
    body = """
    @agent.capability
    def talk(ctx: TaskContext) -> None:
        print("half", end="")
        raise ValueError("no")
    """
    out, err = await run(tmp_path / "a", body, LEVEL)

    assert out.endswith("\x1fhalf\n")
    assert json.loads(err).items() >= TASK.items()


async def test_the_level_of_the_configuration_decides(tmp_path: Path) -> None:
    """The same for `logging` and structlog."""
    body = """
    import logging, structlog
    for log in (logging.getLogger(), structlog.get_logger()):
        log.debug("debug")
        log.error("error")
    """
    found = {
        level: [each["event"] for each in await records(tmp_path / level, body, level)]
        for level in ("debug", "error")
    }

    assert found["error"] == ["error", "error"]
    assert [event for event in found["debug"] if "selector" not in event] == [
        "debug",
        "error",
        "debug",
        "error",
    ]


async def test_structlog_is_configured_as_soon_as_it_is_imported(tmp_path: Path) -> None:
    """A logger that is bound at import keeps the configuration of that moment."""
    body = """
    import structlog
    structlog.contextvars.bind_contextvars(request="r")
    log = structlog.get_logger().bind(part="p")
    log.warn("early", stack_info=True)
    print(type(structlog.__loader__).__name__, type(structlog.__spec__.loader).__name__)
    print(structlog.is_configured(), [type(f).__name__ for f in sys.meta_path if "Setup" in repr(f)])
    """
    out, err = await run(tmp_path / "a", body, LEVEL)
    record = without_time(json.loads(err))

    assert "entrypoint.py" in record.pop("stack")
    assert record == {"level": "warning", "event": "early", "part": "p", "request": "r"}
    assert out == "SourceFileLoader SourceFileLoader\nFalse []\n"


OWN_STRUCTLOG = """
    import structlog
    structlog.configure_once(processors=[structlog.processors.KeyValueRenderer()])
    structlog.get_logger().info('theirs')
"""
OWN_FORMAT = """
    import logging
    logging.basicConfig(format='mine: %(message)s', level='INFO')
    logging.info('theirs')
"""
OWN_HANDLER = """
    import logging
    logging.root.addHandler(logging.StreamHandler(sys.stdout))
    logging.error('theirs')
"""
OWN_CONFIG = """
    import logging.config
    handlers = {'h': {'class': 'logging.StreamHandler'}}
    root = {'handlers': ['h'], 'level': 'INFO'}
    logging.config.dictConfig({'version': 1, 'root': root, 'handlers': handlers})
    logging.info('theirs')
"""


@pytest.mark.parametrize(
    ("setup", "printed"),
    [
        (OWN_STRUCTLOG, ("event='theirs'\n", "")),
        (OWN_FORMAT, ("", "mine: theirs\n")),
        (OWN_HANDLER, ("theirs\n", "")),
        (OWN_CONFIG, ("", "theirs\n")),
    ],
    ids=["structlog", "basicConfig", "handler", "dictConfig"],
)
async def test_the_authors_own_set_up_wins(
    tmp_path: Path, setup: str, printed: tuple[str, str]
) -> None:
    """Nobody has to ask us for leave; no line comes twice."""
    assert await run(tmp_path / "a", setup, LEVEL) == printed


async def test_a_basic_config_that_only_sets_the_level_keeps_the_records(tmp_path: Path) -> None:
    """Libraries and beginners call it; so does ``logging.info`` by itself."""
    body = """
    import logging
    logging.basicConfig(level=logging.DEBUG)
    logging.getLogger("mine").debug("seen")
    logging.basicConfig()
    logging.info({"event": "a dict", "key": 1})
    try:
        logging.info("%d", "wrong")
    except Exception:
        raise SystemExit(9)
    """
    _, err = await run(tmp_path / "a", body, LEVEL)
    first, second = [json.loads(line) for line in err.splitlines() if line.startswith("{")][:2]

    assert (first["event"], first["level"]) == ("seen", "debug")
    assert (second["event"], second["key"]) == ("a dict", 1)
    assert "--- Logging error ---" in err


async def test_logging_can_be_left_alone(tmp_path: Path) -> None:
    """`logs.configure: false`: no handler, no level, no structlog; streams keep their tags."""
    body = """
    import logging, warnings

    @agent.capability
    async def talk(ctx: TaskContext) -> None:
        import structlog
        print(logging.root.handlers, logging.root.level, structlog.is_configured())
        logging.getLogger("mine").error("plain")
        raise ValueError("no")
    """
    out, err = await run(tmp_path / "a", body, {})
    lines = [line.partition("\x1f")[2] for line in err.split("\n")]

    assert out.endswith("\x1f[] 30 False\n")
    assert lines[0] == "plain"
    assert lines[1] == "capability 'talk' failed in task t-1:"
    assert lines[2] == "Traceback (most recent call last):"


def test_the_host_says_how_to_log_in_the_environment(tmp_path: Path) -> None:
    """It must be known before the author's first import."""
    found = [
        worker_environment(tmp_path, os.environ, 3, 4, logs).get("AGENT_LOG_LEVEL")
        for logs in (LogsConfig(), LogsConfig(level="error"), LogsConfig(configure=False))
    ]

    assert found == ["info", "error", None]


async def test_what_ends_the_process_stays_text(tmp_path: Path) -> None:
    """The last lines of stderr are shown to people when the host gives up."""
    body = """
    @agent.on_startup
    def connect() -> None:
        raise ConnectionError("no database")
    """
    async with worker_process(tmp_path / "a", agent_source(body), LEVEL) as worker:
        await worker.host.greet()
        await worker.host.drain()
        _, _, err = await ended(worker)
    async with worker_process(tmp_path / "b", "raise ValueError('no')", LEVEL) as worker:
        _, _, other = await ended(worker)

    assert err.startswith("an on_startup function failed:\nTraceback (most recent call last):\n")
    assert err.endswith("ConnectionError: no database\n")
    assert other.endswith("ValueError: no\n")
    assert "{" not in err + other
