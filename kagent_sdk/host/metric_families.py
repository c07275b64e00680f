"""Families of metrics, as prometheus_client wants them: it is imported with the first of them."""

from __future__ import annotations

from itertools import accumulate
from typing import TYPE_CHECKING

from kagent_sdk.host.counters import DURATION_BOUNDS_S

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from prometheus_client import Metric

    from kagent_sdk.host.counters import Histogram

    Row = tuple[Sequence[object], float | None]
    """The values of the labels, and the number."""


def gauge(name: str, text: str, labels: Sequence[str], rows: Iterable[Row]) -> Metric:
    """Make a gauge; a row whose number is not known is left out."""
    from prometheus_client.core import GaugeMetricFamily  # noqa: PLC0415 - see the module

    family = GaugeMetricFamily(name, text, labels=labels)
    for values, number in rows:
        if number is not None:
            family.add_metric([str(value) for value in values], number)
    return family


def counter(name: str, text: str, labels: Sequence[str], rows: Iterable[Row]) -> Metric:
    """Make a counter; ``_total`` is added to its name, and rows as for a gauge."""
    from prometheus_client.core import CounterMetricFamily  # noqa: PLC0415 - see the module

    family = CounterMetricFamily(name, text, labels=labels)
    for values, number in rows:
        if number is not None:
            family.add_metric([str(value) for value in values], number)
    return family


def histogram(
    name: str, text: str, labels: Sequence[str], rows: Iterable[tuple[Sequence[str], Histogram]]
) -> Metric:
    """Make a histogram; a row has the values of its labels and what was counted."""
    from prometheus_client.core import HistogramMetricFamily  # noqa: PLC0415 - see the module

    family = HistogramMetricFamily(name, text, labels=labels)
    bounds = [*map(str, DURATION_BOUNDS_S), "+Inf"]
    for values, histogram in rows:
        counts = map(float, accumulate(histogram.buckets))
        family.add_metric(values, list(zip(bounds, counts, strict=True)), histogram.sum_s)
    return family
