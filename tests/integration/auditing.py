"""The ledger's books against what its payers saw: the checks after a run of kills."""

from __future__ import annotations

import json
import sqlite3
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.integration.mayhem import WORKER_KINDS, Kill, check_integrity, connect_reader
from tests.integration.payments import COUNTING, Record

CRASH_CODES = frozenset({"interrupted", "worker_crashed"})
MAX_ATTEMPTS = {"charge": 1, "fragile": 2}
"""Of those that no conflict can have run again."""

MAY_FAIL = {
    "count": frozenset({"timeout", "canceled"}),
    "count_in_thread": frozenset({"timeout", "canceled"}),
    "transfer": frozenset({"canceled"}),
    "charge": CRASH_CODES | {"canceled"},
    "fragile": CRASH_CODES | {"canceled"},
    "statement": frozenset[str](),
    "refuse": frozenset({"refused", "canceled"}),
}


@dataclass(frozen=True, slots=True)
class Mark:
    """An attempt that has begun, as the worker itself wrote it down."""

    token: str
    attempt: int
    pid: int


@dataclass(frozen=True, slots=True)
class Books:
    """What an agent that has stopped left on disk.

    Attributes:
        tasks: rows of the journal by id.
        state: the values of all keys.
        marks: attempts in the order in which they began.
    """

    tasks: Mapping[str, Mapping[str, Any]]
    state: Mapping[str, Any]
    marks: Sequence[Mark]

    @property
    def marks_by_token(self) -> Mapping[str, list[Mark]]:
        """The marks of every task."""
        found: defaultdict[str, list[Mark]] = defaultdict(list)
        for mark in self.marks:
            found[mark.token].append(mark)
        return found

    def keys(self, prefix: str) -> set[str]:
        """What stands behind a prefix in the keys of the state."""
        return {key.removeprefix(prefix) for key in self.state if key.startswith(prefix)}


def read_books(directory: Path) -> Books:
    """Read the journal, the state and the marks of an agent."""
    with closing(connect_reader(directory / "runtime" / "journal.db")) as connection:
        check_integrity(connection)
        connection.row_factory = sqlite3.Row
        tasks = {row["id"]: dict(row) for row in connection.execute("SELECT * FROM tasks")}
        rows = connection.execute("SELECT key, value FROM state").fetchall()
    lines = (directory / "runtime" / "data" / "marks").read_text().splitlines()
    marks = [Mark(token, int(attempt), int(pid)) for token, attempt, pid in map(str.split, lines)]
    return Books(tasks, {row["key"]: json.loads(row["value"]) for row in rows}, marks)


class Audit:
    """Compares what was seen with what is on disk.

    Args:
        records: of every payment.
        books: of the agent, after its end.
        kills: what was done to it.
    """

    def __init__(self, records: Sequence[Record], books: Books, kills: Sequence[Kill]) -> None:
        self._records = records
        self._books = books
        self._kills = kills
        self._marks = books.marks_by_token
        self._inputs = {record.payment.token: record.payment.input for record in records}
        self._ends = {record.payment.token: record.task for record in records}

    def check(self, *, accounts: int, opening_balance: int, swept: tuple[str, str]) -> None:
        """Fail on anything that was lost, done twice, or made up."""
        self.check_answers()
        self.check_journal()
        self.check_attempts()
        self.check_failures()
        self.check_counters()
        self.check_own_keys()
        self.check_accounts(accounts, opening_balance, swept)

    def check_answers(self) -> None:
        """Every payment has one end, the same for everyone who ever asked."""
        wrongs = {record.payment.token: record.wrongs for record in self._records if record.wrongs}
        assert not wrongs, wrongs
        for record in self._records:
            task = self._ends[record.payment.token]
            assert record.is_acknowledged, record
            assert (task["state"] == "completed") == (task["error"] is None), task
            if record.output is not None:
                assert json.loads(record.output) == task["output"], (record.output, task)

    def check_journal(self) -> None:
        """The journal holds every task that was acknowledged, with the end that was answered."""
        tokens = [record.payment.token for record in self._records]
        assert len(set(tokens)) == len(tokens)
        for token, task in self._ends.items():
            row = self._books.tasks[token]
            assert row["state"] == task["state"], (row, task)
            assert row["attempt"] == task["attempt"], (row, task)
            output = None if row["output"] is None else json.loads(row["output"])
            assert output == task["output"] or task["capability"] == "statement", (row, task)
        strangers = self._books.tasks.keys() - self._ends.keys() - {"open-accounts"}
        assert not strangers, strangers
        open_tasks = [row for row in self._books.tasks.values() if row["finished_at"] is None]
        assert not open_tasks, open_tasks

    def check_attempts(self) -> None:
        """No attempt began twice, and none after the one that was the last."""
        begun = Counter((mark.token, mark.attempt) for mark in self._books.marks)
        twice = [attempt for attempt, times in begun.items() if times > 1]
        assert not twice, twice
        for token, task in self._ends.items():
            attempts = [mark.attempt for mark in self._marks.get(token, [])]
            assert attempts == sorted(attempts), (token, attempts)
            assert not attempts or attempts[-1] <= task["attempt"], (attempts, task)
            if (most := MAX_ATTEMPTS.get(task["capability"])) is not None:
                assert len(attempts) <= most, (attempts, task)
                assert task["attempt"] <= most, task
            if task["state"] == "completed":
                assert attempts[-1] == task["attempt"], (attempts, task)

    def check_failures(self) -> None:
        """What failed had a reason to: a kill, or what its payer or its author wanted."""
        at_work = frozenset().union(*(kill.working for kill in self._kills))
        for record in self._records:
            task = self._ends[record.payment.token]
            if task["error"] is None:
                continue
            code, capability = task["error"]["code"], task["capability"]
            assert code in MAY_FAIL[capability], task
            if code == "canceled":
                assert record.payment.is_to_cancel, task
            if code == "timeout":
                assert record.payment.timeout_s is not None, task
            if code == "interrupted":
                assert task["id"] in at_work, task
            if code in CRASH_CODES and capability == "fragile":
                assert task["attempt"] == MAX_ATTEMPTS["fragile"], task

    def check_counters(self) -> None:
        """Every number of a counter was given to one completed task, and none is missing."""
        numbers: defaultdict[str, list[int]] = defaultdict(list)
        for record in self._records:
            task = self._ends[record.payment.token]
            if task["state"] != "completed":
                continue
            if task["capability"] in COUNTING:
                numbers[record.payment.input["counter"]].append(task["output"]["number"])
            elif task["capability"] == "statement":
                *lines, last = task["output"]
                token = record.payment.token
                assert lines == [f"{token}/{at}" for at in range(record.payment.input["n"])], task
                numbers["statements"].append(int(last.removeprefix(f"{token}/statement ")))
        assert self._books.keys("counter/") == numbers.keys()
        for counter, given in numbers.items():
            assert sorted(given) == [*range(1, len(given) + 1)], (counter, sorted(given))
            assert self._books.state[f"counter/{counter}"] == len(given), counter

    def check_own_keys(self) -> None:
        """Tasks that completed have left their keys, all others have left nothing."""
        done = self._completed
        assert self._books.keys("receipt/") == done("transfer")
        assert self._books.keys("charge/") == done("charge")
        assert self._books.keys("fragile/") == done("fragile")
        assert self._books.keys("refused/") == set()
        assert all(self._books.state[f"fragile/{token}"] == 1 for token in done("fragile"))

    def check_accounts(self, accounts: int, opening: int, swept: tuple[str, str]) -> None:
        """Every account holds what the completed transfers, and the loop, have made of it."""
        state = self._books.state
        expected = {f"account/{number}": opening for number in range(accounts)}
        for token in self._completed("transfer"):
            payment = self._inputs[token]
            expected[f"account/{payment['source']}"] -= payment["amount"]
            expected[f"account/{payment['target']}"] += payment["amount"]
        moved = state.get("sweep/moved", 0)
        expected[swept[0]] -= moved
        expected[swept[1]] += moved
        assert {key: state[key] for key in expected} == expected
        assert "broken/sum" not in state, state["broken/sum"]
        assert moved > 0, "the loop never ran"

    def _completed(self, capability: str) -> set[str]:
        return {
            token
            for token, task in self._ends.items()
            if task["capability"] == capability and task["state"] == "completed"
        }

    def hits(self) -> int:
        """Return how many attempts a kill has ended: those that neither the end nor a conflict did."""
        cut = 0
        for token, task in self._ends.items():
            was_last_cut = task["error"] is not None and task["error"]["code"] in CRASH_CODES
            ended = len(self._marks.get(token, [])) - (not was_last_cut)
            cut += max(0, ended - self._books.tasks[token]["conflicts"])
        return cut

    def conflicts(self) -> int:
        """Return how many attempts were done over because others had changed the state."""
        return sum(row["conflicts"] for row in self._books.tasks.values())

    def describe(self) -> str:
        """Say in numbers what the run was."""
        ends = Counter(
            "completed" if task["error"] is None else task["error"]["code"]
            for task in self._ends.values()
        )
        kinds = Counter(kill.kind for kill in self._kills)
        early = sum(kill.is_early for kill in self._kills)
        busy = sum(bool(kill.working) for kill in self._kills)
        hosts = sum(kill.kind not in WORKER_KINDS for kill in self._kills)
        lines = [
            f"{len(self._records)} tasks: {dict(ends)}",
            f"{len(self._kills)} kills: {dict(kinds)}, {early} while the host started",
            f"{busy} of {hosts} hosts died with running tasks",
            f"{self.hits()} attempts ended by a kill, {self.conflicts()} by a conflict",
            f"{self._books.state.get('sweep/moved', 0)} transactions of the loop",
            f"{sum_of(self._records, 'retries')} requests whose connection broke",
            f"{sum_of(self._records, 'refusals')} requests refused",
            f"{sum_of(self._records, 'asked_again')} tasks asked for again",
        ]
        return "\n".join(lines)


def sum_of(records: Iterable[Record], name: str) -> int:
    """Return the sum of a number over all records."""
    return sum(getattr(record, name) for record in records)
