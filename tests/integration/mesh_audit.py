"""What callers of a mesh saw, against the books of its agents: nothing lost, nothing done twice."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from tests.integration.auditing import Books
from tests.integration.mesh_load import PAST_FAILURES, Seen


def check_ends(found: Sequence[Seen], books: Sequence[Books]) -> None:
    """Fail on anything that was lost, ended twice, done twice, or made up."""
    assert [seen.wrongs for seen in found if seen.wrongs] == []
    for seen in found:
        assert seen.end is not None, seen
        state, token = seen.end["state"], seen.order.token
        marks = sum(len(book.marks_by_token.get(token, [])) for book in books)
        if seen.order.capability == "charge":
            _check_charge(seen, marks)
            continue
        counts = [
            book.state[f"counter/{token}"] for book in books if f"counter/{token}" in book.state
        ]
        assert state == "completed", seen.end
        assert seen.end["output"]["number"] == 1, seen.end
        assert set(counts) == {1}, (token, counts)
    ordered = {seen.order.token for seen in found}
    for book in books:
        assert book.marks_by_token.keys() <= ordered


def _check_charge(seen: Seen, marks: int) -> None:
    """A task that must not be run twice was not, and did not fail without a reason."""
    assert seen.end is not None
    assert marks <= 1, (seen.end, marks)
    if seen.end["state"] == "completed":
        assert marks == 1, seen.end
    else:
        assert seen.end["error"]["code"] in PAST_FAILURES, seen.end


def describe_tasks(found: Sequence[Seen], books: Sequence[Books]) -> dict[str, object]:
    """Return the figures of the tasks of a run."""
    ends = Counter(seen.end["state"] if seen.end else "none" for seen in found)
    twice = Counter(key for book in books for key in book.state if key.startswith("counter/"))
    delays = sorted(seen.took_s for seen in found)
    return {
        "tasks": f"{len(found)}: {dict(ends)}",
        "requests sent again": sum(seen.retries for seen in found),
        "refusals": sum(seen.refusals for seen in found),
        "begun anew elsewhere": sum(count > 1 for count in twice.values()),
        "median delay": f"{delays[len(delays) // 2]:.1f} s",
        "worst delay": f"{delays[-1]:.1f} s",
    }


def count_refused(log: bytes) -> int:
    """Return how many reports of an agent were refused, over all its starts: its log says so."""
    return log.count(b'"event":"link_report_refused"')
