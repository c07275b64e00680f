"""The /metrics page."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import prometheus_client
import pytest
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from kagent_sdk.host.counters import DURATION_BOUNDS_S, UNDECLARED, Counters
from kagent_sdk.host.metrics import CONTENT_TYPE, render_metrics
from kagent_sdk.protocol.sandbox import EgressDestination, EgressInfo
from kagent_sdk.protocol.status import (
    AgentInfo,
    CapabilityInfo,
    GpuInfo,
    GpusInfo,
    HealthInfo,
    LifecycleInfo,
    LogsInfo,
    LoopInfo,
    OutboxInfo,
    PressureInfo,
    PressuresInfo,
    ProcessInfo,
    ResourcesInfo,
    StateInfo,
    Status,
    TasksInfo,
)

NOW = datetime(2026, 11, 23, 17, 50, tzinfo=UTC)


def make_status(**parts: Any) -> Status:
    """Return the document of an agent that is ready, and the given parts."""
    return Status(
        agent=AgentInfo(
            name='he said "hello"\\\n',
            version="1.0",
            sdk_version="0.1.0",
            python_version="3.11.7",
            started_at=NOW,
            uptime_s=1.5,
        ),
        lifecycle=LifecycleInfo(state="ready", since=NOW),
        health=HealthInfo(live=True, ready=False),
        **parts,
    )


FULL = make_status(
    state=StateInfo(keys=3, used_bytes=120, quota_bytes=4096),
    logs=LogsInfo(lines=21, lost_lines=2, tee_lost_lines=3, dropped_events=4),
    outbox=OutboxInfo(pending=5, oldest_s=6.5, delivered=7, failed=8, dropped=9),
    egress=EgressInfo(
        running=True,
        connections=2,
        destinations=(
            EgressDestination(
                destination="*.example.com:443",
                tunnel=3,
                plain=4,
                inject=5,
                failed={"timeout": 1},
                sent_bytes=600,
                received_bytes=700,
            ),
        ),
        refused={"not_listed": 8},
    ),
    processes=(
        ProcessInfo(role="host", state="ready", pid=1, rss_bytes=37, lag_ms=1.5, fds=9, threads=3),
        ProcessInfo(
            role="worker",
            index=1,
            state="ready",
            pid=2,
            rss_bytes=33,
            pss_bytes=30,
            cpu_s=1.25,
            lag_ms=250,
            restarts=4,
            threads_busy=2,
        ),
    ),
    resources=ResourcesInfo(
        memory_limit_bytes=512,
        memory_used_bytes=100,
        oom_kills=1,
        cpu_limit_cores=0.5,
        cpu_usage_s=9.5,
        cpu_throttled_s=0.25,
        cpu_throttled_periods=7,
        pids=12,
        pids_limit=128,
        pressure=PressuresInfo(scope="cgroup", memory=PressureInfo(some_total_s=2.5)),
    ),
    gpus=GpusInfo(
        found=2,
        devices=(
            GpuInfo(index=0, memory_used_bytes=1, memory_total_bytes=2, utilization_ratio=0.5),
            GpuInfo(index=1),
        ),
    ),
    tasks=TasksInfo(queued=3, queued_limit=1000, queued_bytes=77, kept=5, kept_bytes=99),
    capabilities=(CapabilityInfo(name="digest", running=2),),
    loops=(LoopInfo(name="sweep", runs=8, crashes=1, worker=1),),
)


def make_counters() -> Counters:
    """Return counters with one capability and some requests."""
    counters = Counters()
    counters.declare(["digest"])
    counters.submitted("digest")
    counters.completed("digest", 0.02)
    counters.failed("digest", 1e9)
    counters.started(0.3)
    counters.answered("/v1/tasks/{id}", 200)
    counters.called("link", "completed", 0.2)
    counters.called("link", "refused", None)
    return counters


def samples_of(page: bytes) -> dict[str, list[Sample]]:
    """Read a page as Prometheus would; every sample by its name."""
    found: dict[str, list[Sample]] = {}
    for family in text_string_to_metric_families(page.decode()):
        for sample in family.samples:
            found.setdefault(sample.name, []).append(sample)
    return found


def value_of(page: bytes, name: str, **labels: str) -> float | None:
    """Return the value of one sample, None if there is none."""
    for sample in samples_of(page).get(name, []):
        if sample.labels == labels:
            return sample.value
    return None


PAGE = render_metrics(make_counters(), FULL)


@pytest.mark.parametrize(
    ("name", "labels", "value"),
    [
        ("kagent_tasks_total", {"capability": "digest", "state": "completed"}, 1),
        ("kagent_tasks_total", {"capability": "digest", "state": "failed"}, 1),
        ("kagent_tasks_total", {"capability": "digest", "state": "rejected"}, 0),
        ("kagent_tasks_submitted_total", {"capability": "digest"}, 1),
        ("kagent_calls_total", {"way": "link", "outcome": "completed"}, 1),
        ("kagent_calls_total", {"way": "link", "outcome": "refused"}, 1),
        ("kagent_calls_total", {"way": "link", "outcome": "timeout"}, 0),
        ("kagent_calls_total", {"way": "local", "outcome": "completed"}, None),
        ("kagent_call_duration_seconds_count", {"way": "link"}, 1),
        ("kagent_call_duration_seconds_sum", {"way": "link"}, 0.2),
        ("kagent_tasks_running", {"capability": "digest"}, 2),
        ("kagent_tasks_queued", {}, 3),
        ("kagent_tasks_queued_limit", {}, 1000),
        ("kagent_tasks_queued_bytes", {}, 77),
        ("kagent_tasks_kept", {}, 5),
        ("kagent_tasks_kept_bytes", {}, 99),
        ("kagent_task_queue_seconds_count", {}, 1),
        ("kagent_task_queue_seconds_sum", {}, 0.3),
        ("kagent_worker_restarts_total", {"index": "1"}, 4),
        ("kagent_worker_loop_lag_seconds", {"index": "1"}, 0.25),
        ("kagent_worker_threads_busy", {"index": "1"}, 2),
        ("kagent_host_loop_lag_seconds", {}, 0.0015),
        ("kagent_process_resident_memory_bytes", {"role": "host", "index": "0"}, 37),
        ("kagent_process_resident_memory_bytes", {"role": "worker", "index": "1"}, 33),
        ("kagent_process_proportional_memory_bytes", {"role": "worker", "index": "1"}, 30),
        ("kagent_process_cpu_seconds_total", {"role": "worker", "index": "1"}, 1.25),
        ("kagent_process_open_fds", {"role": "host", "index": "0"}, 9),
        ("kagent_process_threads", {"role": "host", "index": "0"}, 3),
        ("kagent_memory_limit_bytes", {}, 512),
        ("kagent_memory_used_bytes", {}, 100),
        ("kagent_oom_kills_total", {}, 1),
        ("kagent_cpu_limit_cores", {}, 0.5),
        ("kagent_cpu_usage_seconds_total", {}, 9.5),
        ("kagent_cpu_throttled_seconds_total", {}, 0.25),
        ("kagent_cpu_throttled_periods_total", {}, 7),
        ("kagent_gpu_memory_used_bytes", {"gpu": "0"}, 1),
        ("kagent_gpu_memory_bytes", {"gpu": "0"}, 2),
        ("kagent_gpu_utilization_ratio", {"gpu": "0"}, 0.5),
        ("kagent_gpu_utilization_ratio", {"gpu": "1"}, None),
        ("kagent_state_keys", {}, 3),
        ("kagent_state_bytes", {}, 120),
        ("kagent_state_quota_bytes", {}, 4096),
        ("kagent_log_records_total", {}, 21),
        ("kagent_log_lost_records_total", {"where": "disk"}, 2),
        ("kagent_log_lost_records_total", {"where": "stdout"}, 3),
        ("kagent_log_lost_records_total", {"where": "host"}, 4),
        ("kagent_outbox_pending", {}, 5),
        ("kagent_outbox_oldest_seconds", {}, 6.5),
        ("kagent_webhooks_total", {"outcome": "delivered"}, 7),
        ("kagent_webhooks_total", {"outcome": "failed"}, 8),
        ("kagent_webhooks_total", {"outcome": "dropped"}, 9),
        ("kagent_egress_connections", {}, 2),
        *(
            (
                "kagent_egress_passages_total",
                {"destination": "*.example.com:443", "way": way},
                count,
            )
            for way, count in (("tunnel", 3), ("plain", 4), ("inject", 5))
        ),
        (
            "kagent_egress_failures_total",
            {"destination": "*.example.com:443", "reason": "timeout"},
            1,
        ),
        ("kagent_egress_sent_bytes_total", {"destination": "*.example.com:443"}, 600),
        ("kagent_egress_received_bytes_total", {"destination": "*.example.com:443"}, 700),
        ("kagent_egress_refused_total", {"reason": "not_listed"}, 8),
        ("kagent_pids", {}, 12),
        ("kagent_pids_limit", {}, 128),
        (
            "kagent_pressure_waiting_seconds_total",
            {"resource": "memory", "scope": "cgroup"},
            2.5,
        ),
        ("kagent_live", {}, 1),
        ("kagent_ready", {}, 0),
        ("kagent_lifecycle_state", {"state": "ready"}, 1),
        ("kagent_lifecycle_state", {"state": "draining"}, 0),
        ("kagent_start_time_seconds", {}, NOW.timestamp()),
        ("kagent_http_requests_total", {"route": "/v1/tasks/{id}", "status": "200"}, 1),
        ("kagent_loop_runs_total", {"loop": "sweep", "index": "1"}, 8),
        ("kagent_loop_crashes_total", {"loop": "sweep", "index": "1"}, 1),
    ],
)
def test_every_number_has_its_sample(name: str, labels: dict[str, str], value: float) -> None:
    """Dashboards and alerts are written against these names."""
    assert value_of(PAGE, name, **labels) == value


def test_durations_are_cumulative_buckets() -> None:
    """`histogram_quantile` needs growing buckets, +Inf, and a count equal to it."""
    samples = samples_of(PAGE)
    buckets = samples["kagent_task_duration_seconds_bucket"]

    assert [sample.labels["le"] for sample in buckets] == [*map(str, DURATION_BOUNDS_S), "+Inf"]
    assert [sample.value for sample in buckets] == sorted(sample.value for sample in buckets)
    assert buckets[-1].value == samples["kagent_task_duration_seconds_count"][0].value == 2
    assert samples["kagent_task_duration_seconds_sum"][0].value == 1e9 + 0.02


def test_every_metric_has_help_and_type_and_carries_our_prefix() -> None:
    """Prometheus' user interface shows the help; a metric of type `unknown` cannot be queried well."""
    families = list(text_string_to_metric_families(PAGE.decode()))

    assert all(family.documentation for family in families)
    assert {family.type for family in families} == {"counter", "gauge", "histogram"}
    assert all(family.name.startswith("kagent_") for family in families)
    assert len({family.name for family in families}) == len(families)


def test_label_values_are_escaped() -> None:
    """A quote in an agent's name must not break the whole page."""
    assert value_of(
        PAGE,
        "kagent_build_info",
        version="0.1.0",
        python_version="3.11.7",
        agent='he said "hello"\\\n',
        agent_version="1.0",
    )


def test_what_is_not_known_has_no_sample_and_no_header() -> None:
    """Zero memory would fire every alert."""
    page = render_metrics(Counters(), make_status())
    names = set(samples_of(page))

    assert names >= {"kagent_build_info", "kagent_live", "kagent_ready", "kagent_tasks_queued"}
    assert not {name for name in names if "memory" in name or "cpu" in name or "loop" in name}
    assert b"kagent_memory_limit_bytes" not in page


def test_capabilities_that_are_gone_appear_only_when_they_did_something() -> None:
    """Twenty-five lines of zeros would only puzzle."""
    counters = make_counters()
    counters.declare(["new"])
    page = render_metrics(counters, FULL)

    assert UNDECLARED not in PAGE.decode()
    assert value_of(page, "kagent_tasks_total", capability=UNDECLARED, state="completed") == 1
    assert value_of(page, "kagent_tasks_total", capability="new", state="completed") == 0


def test_the_global_registry_stays_as_it_is() -> None:
    """It may belong to another part of the process; ours must neither fill nor show it."""
    assert b"kagent_" not in prometheus_client.generate_latest()
    assert b"python_info" not in PAGE


def test_the_content_type_is_that_of_the_text_format() -> None:
    """Prometheus 3 refuses a scrape whose type it does not know."""
    assert CONTENT_TYPE == "text/plain; version=0.0.4; charset=utf-8"
