"""What the host counts."""

from __future__ import annotations

import sys

from kagent_sdk.host.counters import DURATION_BOUNDS_S, UNDECLARED, Counters, Histogram, TaskTotals


def test_a_duration_falls_into_the_bucket_whose_bound_it_does_not_exceed() -> None:
    """Prometheus' buckets include their bound (``le``)."""
    histogram = Histogram()
    for took_s in (0.0, 0.0005, 0.00051, 1800.0, 1801.0):
        histogram.observe(took_s)

    assert histogram.buckets[0] == 2
    assert histogram.buckets[1] == 1
    assert histogram.buckets[-2:] == [1, 1]
    assert sum(histogram.buckets) == 5
    assert histogram.sum_s == 0.0005 + 0.00051 + 3601
    assert len(histogram.buckets) == len(DURATION_BOUNDS_S) + 1


def test_every_end_of_a_task_is_counted_for_its_capability() -> None:
    """Rates of errors are looked at per capability."""
    counters = Counters()
    counters.declare(["digest", "tail"])
    for _ in range(5):
        counters.submitted("digest")
    counters.started(0.2)
    counters.completed("digest", 0.02)
    counters.failed("digest", 0.3)
    counters.failed("digest", None)
    counters.canceled("digest", 4.0)
    counters.canceled("digest", None)
    counters.rejected("tail")
    digest, tail = counters.capabilities()

    assert (digest.submitted, digest.completed, digest.failed, digest.canceled) == (5, 1, 2, 2)
    assert sum(digest.duration.buckets) == 3
    assert digest.duration.sum_s == 4.32
    assert (tail.name, tail.rejected, tail.is_empty) == ("tail", 1, False)
    assert sum(counters.queue.buckets) == 1
    assert counters.total() == TaskTotals(5, 1, 2, 2, 1)


def test_tasks_of_capabilities_that_are_gone_stay_in_the_totals() -> None:
    """After a reload with other capabilities a counter must not fall."""
    counters = Counters()
    counters.declare(["old", "kept"])
    counters.submitted("old")
    counters.completed("old", 1.0)
    counters.submitted("kept")
    counters.declare(["kept", "new", "new"])
    counters.failed("old", 2.0)

    assert [one.name for one in counters.capabilities()] == ["kept", "new"]
    assert counters.capability("kept").submitted == 1
    assert counters.capability("old") is counters.undeclared
    assert counters.undeclared.name == UNDECLARED
    assert sum(counters.undeclared.duration.buckets) == 2
    assert counters.total() == TaskTotals(2, 1, 1, 0, 0)


def test_new_names_in_every_manifest_do_not_grow_the_host() -> None:
    """A worker that invents capabilities at each restart must not fill memory or Prometheus."""
    counters = Counters()
    for number in range(1000):
        counters.declare([f"name_{number}"])
        counters.rejected(f"name_{number}")

    assert len(counters.capabilities()) == 1
    assert counters.total().rejected == 1000


def test_answers_are_counted_by_route_and_status() -> None:
    """A wave of 503 shows without reading logs."""
    counters = Counters()
    for status in (200, 200, 503):
        counters.answered("/v1/tasks/{id}", status)

    assert counters.requests == {("/v1/tasks/{id}", 200): 2, ("/v1/tasks/{id}", 503): 1}


def test_counting_does_not_import_the_metrics_library() -> None:
    """Counters are on the start path; prometheus_client costs 20 ms and a megabyte."""
    module = sys.modules[Counters.__module__]

    assert not any("prometheus" in name for name in vars(module))
