"""What the orchestrator counts: the figures of ``/status``, and ``/metrics``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from kagent_sdk.orchestrator.broker import Broker
from kagent_sdk.orchestrator.task import Phase

if TYPE_CHECKING:
    from prometheus_client import Metric
    from prometheus_client.registry import Collector

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Identity(NamedTuple):
    """Which orchestrator this is; ``started_at`` in seconds since the epoch."""

    id: str
    url: str
    started_at: float


class Figures(NamedTuple):
    """A moment of the orchestrator, taken in the loop and written out in a thread."""

    agents: Counter[tuple[str, bool]]
    waiting: int
    waiting_bytes: int
    phases: Counter[str]
    ended: Counter[str]
    kept: int
    kept_bytes: int
    submitted: int
    retries: int
    offers: Counter[str]
    losses: Counter[str]
    reports: Counter[str]
    duplicates: int
    registrations: int
    agents_lost: int
    goodbyes: int
    requests: Counter[tuple[str, int]]


def take_figures(broker: Broker, requests: Counter[tuple[str, int]]) -> Figures:
    """Return how the orchestrator is at this moment."""
    counters, queues = broker.counters, broker.leases.queues
    return Figures(
        Counter((one.agent, one.is_ready) for one in broker.registry),
        queues.count,
        queues.size_bytes,
        Counter(task.phase.name.lower() for task in broker.book.open.values()),
        Counter(broker.book.ended),
        broker.book.kept,
        broker.book.kept_bytes,
        counters.submitted,
        counters.retries,
        Counter(counters.offers),
        Counter(counters.losses),
        Counter(counters.reports),
        counters.duplicates,
        counters.registrations,
        counters.agents_lost,
        counters.goodbyes,
        Counter(requests),
    )


def render_metrics(figures: Figures) -> bytes:
    """Return ``/metrics``; call it in a thread: it imports prometheus_client."""
    from prometheus_client import CollectorRegistry, generate_latest  # noqa: PLC0415 - costs 50 ms

    registry = CollectorRegistry(auto_describe=False)
    registry.register(cast("Collector", _Page(figures)))
    return generate_latest(registry)


class _Page:
    """A collector, as prometheus_client wants one."""

    def __init__(self, figures: Figures) -> None:
        self._figures = figures

    def collect(self) -> Iterator[Metric]:
        figures = self._figures
        yield _gauge(
            "agents",
            "Instances of agents that are registered.",
            ("agent", "ready"),
            [((agent, str(ready).lower()), n) for (agent, ready), n in figures.agents.items()],
        )
        for name, text, value in (
            ("tasks_waiting", "Tasks that wait for an agent.", figures.waiting),
            ("tasks_waiting_bytes", "Bytes of their inputs.", figures.waiting_bytes),
            ("tasks_kept", "Ended tasks that can be read.", figures.kept),
            ("tasks_kept_bytes", "Bytes that they take.", figures.kept_bytes),
        ):
            yield _gauge(name, text, (), [((), value)])
        yield _gauge(
            "tasks_open",
            "Tasks that have not ended, by where they are.",
            ("phase",),
            [((one.name.lower(),), figures.phases[one.name.lower()]) for one in Phase],
        )
        yield from _counts(figures)
        yield _counter(
            "http_requests",
            "Requests that were answered.",
            ("route", "status"),
            [((route, str(status)), n) for (route, status), n in figures.requests.items()],
        )


def _counts(figures: Figures) -> Iterator[Metric]:
    for name, text, value in (
        ("tasks_submitted", "Tasks that were taken.", figures.submitted),
        ("duplicate_reports", "Reports that had come before.", figures.duplicates),
        ("retries", "Offers of tasks that had been offered before.", figures.retries),
        ("registrations", "Registrations of agents.", figures.registrations),
        ("agents_lost", "Instances that fell silent.", figures.agents_lost),
        ("goodbyes", "Instances that said goodbye.", figures.goodbyes),
    ):
        yield _counter(name, text, (), [((), value)])
    for name, text, label, counts in (
        ("tasks_ended", "Tasks that have ended.", "state", figures.ended),
        ("offers", "Offers that were made.", "verdict", figures.offers),
        ("leases_lost", "Leases that were lost.", "then", figures.losses),
        ("reports", "Reports of agents.", "outcome", figures.reports),
    ):
        yield _counter(name, text, (label,), [((key,), n) for key, n in counts.items()])


def _gauge(
    name: str, text: str, labels: Sequence[str], rows: Iterable[tuple[Sequence[str], float]]
) -> Metric:
    from prometheus_client.core import GaugeMetricFamily  # noqa: PLC0415 - see above

    return _filled(GaugeMetricFamily(f"kagent_orchestrator_{name}", text, labels=labels), rows)


def _counter(
    name: str, text: str, labels: Sequence[str], rows: Iterable[tuple[Sequence[str], float]]
) -> Metric:
    from prometheus_client.core import CounterMetricFamily  # noqa: PLC0415 - see above

    return _filled(CounterMetricFamily(f"kagent_orchestrator_{name}", text, labels=labels), rows)


def _filled(family: Any, rows: Iterable[tuple[Sequence[str], float]]) -> Metric:
    for labels, value in rows:
        family.add_metric(labels, value)
    return cast("Metric", family)
