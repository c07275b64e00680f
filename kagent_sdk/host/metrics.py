"""``/metrics``: the counters and one ``/status`` snapshot as Prometheus text.

prometheus_client is imported with the first scrape. It gets a registry of its own for each, so its
global one, which belongs to whoever else uses the library, stays as it is. What is not known has no
sample. Names follow https://prometheus.io/docs/practices/naming/: base units, ``_total``.

The work grows with the number of capabilities (about 0.14 ms each): call `render_metrics` in a thread.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast, get_args

from kagent_sdk.host.metric_families import counter, gauge, histogram

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prometheus_client import Metric
    from prometheus_client.registry import Collector

    from kagent_sdk.host.counters import Counters
    from kagent_sdk.host.metric_families import Row
    from kagent_sdk.protocol.status import PressuresInfo, Status

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
"""Of what `render_metrics` returns: the text format that every Prometheus reads."""


def render_metrics(counters: Counters, status: Status) -> bytes:
    """Return the whole page."""
    from prometheus_client import CollectorRegistry, generate_latest  # noqa: PLC0415 - see above

    registry = CollectorRegistry(auto_describe=False)
    registry.register(cast("Collector", _Page(counters, status)))
    return generate_latest(registry)


class _Page:
    """A collector, as prometheus_client wants one."""

    def __init__(self, counters: Counters, status: Status) -> None:
        self._counters = counters
        self._status = status

    def collect(self) -> Iterator[Metric]:
        for families in (
            _collect_agent(self._status),
            _collect_tasks(self._counters, self._status),
            _collect_workers(self._status),
            _collect_processes(self._status),
            _collect_cgroup(self._status),
            _collect_gpus(self._status),
            _collect_loops(self._status),
            _collect_state(self._status),
            _collect_requests(self._counters),
            _collect_calls(self._counters),
            _collect_logs(self._status),
            _collect_outbox(self._status),
            _collect_link(self._status),
            _collect_egress(self._status),
        ):
            for family in families:
                if family.samples:
                    yield family


def _collect_agent(status: Status) -> Iterator[Metric]:
    from kagent_sdk.protocol.status import Lifecycle  # noqa: PLC0415 - imports pydantic

    agent, state = status.agent, status.lifecycle.state
    build = (agent.sdk_version, agent.python_version, agent.name, agent.version)
    yield gauge(
        "kagent_build_info",
        "Versions of the library, the interpreter and the agent.",
        ("version", "python_version", "agent", "agent_version"),
        [(build, 1)],
    )
    started_s = agent.started_at.timestamp()
    yield gauge("kagent_start_time_seconds", "When the host started (Unix).", (), [((), started_s)])
    yield gauge("kagent_live", "Whether /healthz answers 200.", (), [((), status.health.live)])
    yield gauge("kagent_ready", "Whether /readyz answers 200.", (), [((), status.health.ready)])
    yield gauge(
        "kagent_lifecycle_state",
        "1 for the state that the agent is in.",
        ("state",),
        [((name,), name == state) for name in get_args(Lifecycle)],
    )


def _collect_tasks(counters: Counters, status: Status) -> Iterator[Metric]:
    all_counters = counters.capabilities()
    if not counters.undeclared.is_empty:
        all_counters.append(counters.undeclared)
    yield counter(
        "kagent_tasks_submitted",
        "Tasks that were taken.",
        ("capability",),
        [((one.name,), one.submitted) for one in all_counters],
    )
    yield counter(
        "kagent_tasks",
        "Tasks by the state in which they ended.",
        ("capability", "state"),
        [
            ((one.name, state), getattr(one, state))
            for one in all_counters
            for state in ("completed", "failed", "canceled", "rejected")
        ],
    )
    yield histogram(
        "kagent_task_duration_seconds",
        "From the start of a task's last attempt to its end.",
        ("capability",),
        [((one.name,), one.duration) for one in all_counters],
    )
    yield histogram(
        "kagent_task_queue_seconds",
        "How long tasks waited for a place.",
        (),
        [((), counters.queue)],
    )
    yield gauge(
        "kagent_tasks_running",
        "Tasks that run now.",
        ("capability",),
        [((one.name,), one.running) for one in status.capabilities],
    )
    tasks = status.tasks
    for name, text, value in (
        ("kagent_tasks_running_limit", "Tasks that may run at a time.", tasks.working_limit),
        ("kagent_tasks_queued", "Tasks that wait for a place.", tasks.queued),
        ("kagent_tasks_queued_limit", "Tasks that may wait for a place.", tasks.queued_limit),
        ("kagent_tasks_queued_bytes", "Input bytes that wait for a place.", tasks.queued_bytes),
        ("kagent_tasks_kept", "Finished tasks that can still be read.", tasks.kept),
        ("kagent_tasks_kept_bytes", "Bytes of finished tasks that are kept.", tasks.kept_bytes),
    ):
        yield gauge(name, text, (), [((), value)])


def _collect_workers(status: Status) -> Iterator[Metric]:
    workers = [process for process in status.processes if process.role == "worker"]
    yield counter(
        "kagent_worker_restarts",
        "How often a worker was replaced.",
        ("index",),
        [((worker.index,), worker.restarts) for worker in workers],
    )
    yield gauge(
        "kagent_worker_loop_lag_seconds",
        "How late a worker's event loop runs.",
        ("index",),
        [((worker.index,), _to_seconds(worker.lag_ms)) for worker in workers],
    )
    yield gauge(
        "kagent_worker_threads_busy",
        "Threads of a worker that run sync functions.",
        ("index",),
        [((worker.index,), worker.threads_busy) for worker in workers],
    )
    yield gauge(
        "kagent_host_loop_lag_seconds",
        "How late the host's event loop runs.",
        (),
        [((), _to_seconds(one.lag_ms)) for one in status.processes if one.role == "host"],
    )


def _collect_processes(status: Status) -> Iterator[Metric]:
    labels = ("role", "index")
    found = [((process.role, process.index), process) for process in status.processes]
    for name, text, member in (
        ("kagent_process_resident_memory_bytes", "Resident memory.", "rss_bytes"),
        (
            "kagent_process_proportional_memory_bytes",
            "Resident memory, shared pages divided by their users.",
            "pss_bytes",
        ),
        ("kagent_process_threads", "Threads.", "threads"),
        ("kagent_process_open_fds", "Open file descriptors.", "fds"),
    ):
        yield gauge(name, text, labels, [(key, getattr(one, member)) for key, one in found])
    yield counter(
        "kagent_process_cpu_seconds",
        "User and system time.",
        labels,
        [(key, one.cpu_s) for key, one in found],
    )


def _collect_cgroup(status: Status) -> Iterator[Metric]:
    resources = status.resources
    for name, text, value in (
        ("kagent_memory_limit_bytes", "Memory limit.", resources.memory_limit_bytes),
        ("kagent_memory_used_bytes", "Memory that counts against it.", resources.memory_used_bytes),
        ("kagent_cpu_limit_cores", "Processor quota.", resources.cpu_limit_cores),
        ("kagent_pids", "Processes and threads in the cgroup.", resources.pids),
        ("kagent_pids_limit", "Limit on them.", resources.pids_limit),
    ):
        yield gauge(name, text, (), [((), value)])
    for name, text, total in (
        ("kagent_oom_kills", "Processes killed for memory.", resources.oom_kills),
        ("kagent_cpu_usage_seconds", "Processor time of the cgroup.", resources.cpu_usage_s),
        ("kagent_cpu_throttled_seconds", "Time lost to the quota.", resources.cpu_throttled_s),
        (
            "kagent_cpu_throttled_periods",
            "Periods in which the quota was used up.",
            resources.cpu_throttled_periods,
        ),
    ):
        yield counter(name, text, (), [((), total)])
    yield counter(
        "kagent_pressure_waiting_seconds",
        "Time in which at least one process waited for the resource (PSI).",
        ("resource", "scope"),
        _list_pressures(resources.pressure),
    )


def _collect_gpus(status: Status) -> Iterator[Metric]:
    for name, text, member in (
        ("kagent_gpu_memory_used_bytes", "GPU memory in use, whoever's.", "memory_used_bytes"),
        ("kagent_gpu_memory_bytes", "GPU memory that there is.", "memory_total_bytes"),
        ("kagent_gpu_utilization_ratio", "Share of time that it computed.", "utilization_ratio"),
    ):
        rows = [((gpu.index,), getattr(gpu, member)) for gpu in status.gpus.devices]
        yield gauge(name, text, ("gpu",), rows)


def _list_pressures(pressures: PressuresInfo) -> Iterator[Row]:
    for resource in ("memory", "cpu", "io"):
        pressure = getattr(pressures, resource)
        if pressure is not None:
            yield (resource, pressures.scope), pressure.some_total_s


def _collect_loops(status: Status) -> Iterator[Metric]:
    found = [((loop.name, loop.worker), loop) for loop in status.loops]
    labels = ("loop", "index")
    runs, crashes = "Runs of an author's loop.", "Crashes of an author's loop."
    yield counter("kagent_loop_runs", runs, labels, [(key, loop.runs) for key, loop in found])
    yield counter(
        "kagent_loop_crashes", crashes, labels, [(key, loop.crashes) for key, loop in found]
    )


def _collect_state(status: Status) -> Iterator[Metric]:
    state = status.state
    for name, text, value in (
        ("kagent_state_keys", "Keys of the state.", state.keys),
        ("kagent_state_bytes", "Bytes of these keys and their values.", state.used_bytes),
        ("kagent_state_quota_bytes", "Bytes that they may take.", state.quota_bytes),
    ):
        yield gauge(name, text, (), [((), value)])


def _collect_requests(counters: Counters) -> Iterator[Metric]:
    # The event loop's thread may add a key meanwhile: a copy is made in one piece.
    yield counter(
        "kagent_http_requests",
        "Answers of the control plane.",
        ("route", "status"),
        counters.requests.copy().items(),
    )


def _collect_calls(counters: Counters) -> Iterator[Metric]:
    # As above: the first call of its way adds a key.
    calls = counters.calls.copy()
    yield counter(
        "kagent_calls",
        "Calls of the author's code (ctx.call, ctx.stream), by the way they went and what came of them; "
        "refused: not sent.",
        ("way", "outcome"),
        [((way, name), n) for way, one in calls.items() for name, n in one.outcomes.items()],
    )
    yield histogram(
        "kagent_call_duration_seconds",
        "From a call to its answer, or to the end of its stream; without those refused.",
        ("way",),
        [((way,), one.duration) for way, one in calls.items()],
    )


def _collect_logs(status: Status) -> Iterator[Metric]:
    logs = status.logs
    yield counter("kagent_log_records", "Records in the log file.", (), [((), logs.lines)])
    lost = [
        (("disk",), logs.lost_lines),
        (("stdout",), logs.tee_lost_lines),
        (("host",), logs.dropped_events),
    ]
    text = "Records that could not be written, by what was in the way."
    yield counter("kagent_log_lost_records", text, ("where",), lost)


def _collect_outbox(status: Status) -> Iterator[Metric]:
    outbox = status.outbox
    yield gauge(
        "kagent_outbox_pending",
        "Callbacks that are not delivered yet.",
        (),
        [((), outbox.pending)],
    )
    yield gauge(
        "kagent_outbox_oldest_seconds",
        "Age of the oldest of them.",
        (),
        [((), outbox.oldest_s)],
    )
    yield counter(
        "kagent_webhooks",
        "Attempts to deliver a callback by what came of them; dropped: messages that were given up.",
        ("outcome",),
        [((name,), getattr(outbox, name)) for name in ("delivered", "failed", "dropped")],
    )


def _collect_link(status: Status) -> Iterator[Metric]:
    link = status.link
    for make, name, text, value in (
        (gauge, "up", "Whether the orchestrator knows the agent.", link.state in _LINKED),
        (gauge, "tasks", "Tasks of the link that have not ended.", link.tasks),
        (gauge, "reports_pending", "Reports that it has not answered yet.", link.pending),
        (counter, "registrations", "How often the agent was registered.", link.registrations),
        (counter, "leases_lost", "Tasks that were given to another agent.", link.lost),
    ):
        rows: list[Row] = [] if link.state == "off" else [((), value)]
        yield make(f"kagent_link_{name}", text, (), rows)
    outcomes = {"taken": link.reported, "refused": link.refused, "dropped": link.dropped}
    yield counter(
        "kagent_link_reports",
        "Reports of tasks by what became of them; dropped: given up, as too many waited.",
        ("outcome",),
        [] if link.state == "off" else [((name,), count) for name, count in outcomes.items()],
    )


_LINKED = ("up", "draining")


def _collect_egress(status: Status) -> Iterator[Metric]:
    egress = status.egress
    yield gauge(
        "kagent_egress_connections",
        "Connections of workers to the egress proxy.",
        (),
        [((), egress.connections)] if egress.running else [],
    )
    yield counter(
        "kagent_egress_passages",
        "What was let through, by the entry of sandbox.network.allow, and how.",
        ("destination", "way"),
        [
            ((one.destination, way), getattr(one, way))
            for one in egress.destinations
            for way in ("tunnel", "plain", "inject")
        ],
    )
    yield counter(
        "kagent_egress_failures",
        "How much of it did not reach its destination.",
        ("destination", "reason"),
        [
            ((one.destination, reason), count)
            for one in egress.destinations
            for reason, count in one.failed.items()
        ],
    )
    for name, text, member in (
        ("kagent_egress_sent_bytes", "Bytes sent to destinations.", "sent_bytes"),
        ("kagent_egress_received_bytes", "Bytes received from them.", "received_bytes"),
    ):
        rows = [((one.destination,), getattr(one, member)) for one in egress.destinations]
        yield counter(name, text, ("destination",), rows)
    yield counter(
        "kagent_egress_refused",
        "Requests that the egress proxy has refused.",
        ("reason",),
        [((reason,), count) for reason, count in egress.refused.items()],
    )


def _to_seconds(milliseconds: float | None) -> float | None:
    return None if milliseconds is None else milliseconds / 1000
