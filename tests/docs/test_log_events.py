"""The list of log events is whole, and their names are names."""

from __future__ import annotations

import re
from pathlib import Path

from tests.docs import log_events
from tests.docs.log_calls import LEVELS, LogModule
from tests.docs.log_events import CARRIERS, NEWS, find_log_calls
from tests.docs.log_meanings import FIELDS, MEANINGS

_EVENT = re.compile(r"[a-z][a-z0-9]*(?:_[a-z0-9]+)+")


def test_every_event_is_a_literal_name() -> None:
    """Whoever searches the log for a name, or the code for an event, finds it.

    A function that hands on an event is followed to its callers. One that cannot be followed stands
    in `CARRIERS`, and what f-strings make in `COMPOSED`.
    """
    calls = [call for call in find_log_calls() if call.where not in CARRIERS]
    wrong = [
        f"{call.module}:{call.line}: {event or 'no literal'}"
        for call in calls
        for event in call.events
        if not _EVENT.fullmatch(event)
    ]

    assert len(calls) > 100
    assert wrong == []


def test_every_level_is_known() -> None:
    """A level that nobody knows would be filtered by nobody."""
    calls = [call for call in find_log_calls() if call.where not in CARRIERS]

    assert [call for call in calls if not set(call.levels) <= {*LEVELS, NEWS}] == []


def test_every_exception_to_the_rule_is_needed() -> None:
    """A list of exceptions is kept short by being checked."""
    assert {call.where for call in find_log_calls()} >= CARRIERS


def test_every_meaning_is_that_of_an_event() -> None:
    """Events and fields are renamed."""
    events = {event for call in find_log_calls() for event in call.events}

    fields = {key for call in find_log_calls() for key in call.fields}

    assert MEANINGS.keys() - events == set()
    assert FIELDS.keys() - fields == set()


def write_module(folder: Path, text: str) -> LogModule:
    """Return a module with this text."""
    path = folder / "part.py"
    path.write_text(text)
    return LogModule(path)


def found_in(module: LogModule) -> list[tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]]:
    """Return levels, events and fields of what a module writes."""
    wrappers = dict(log_events._wrappers([module]))
    calls = log_events._calls_of(module, wrappers)
    return [(call.levels, call.events, call.fields) for call in calls]


def test_all_ways_to_write_an_event_are_seen(tmp_path: Path) -> None:
    """An event that the walk does not see is one that no operator reads of."""
    module = write_module(
        tmp_path,
        """
def plain(self, name):
    level = "info" if name else "debug"
    about = {"id": 1} | {"size": 2}
    self.pump.log(level, "one_done", name=name, **about)
    self.pump.log_exception("two_broke", error, task_id=1)
    event = "three_up" if name else "three_down"
    self._log("warning", event, **name)

def hand_on(self, place, event):
    self.pump.log("error", event, place=place)

def use(self):
    self.hand_on(3, "four_over")
""",
    )

    assert found_in(module) == [
        (("info", "debug"), ("one_done",), ("name", "id", "size")),
        (("error",), ("two_broke",), ("task_id", "error", "exception")),
        (("warning",), ("three_up", "three_down"), ("",)),
        (("error",), ("four_over",), ("place",)),
    ]


def test_a_name_that_is_made_at_run_time_is_seen(tmp_path: Path) -> None:
    """It is what the first test is there to find."""
    module = write_module(tmp_path, "def f(log, name):\n    log('info', 'a_' + name)\n")

    assert [events for _, events, _ in found_in(module)] == [("",)]
