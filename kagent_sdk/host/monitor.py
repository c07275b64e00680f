"""Measures the agent once a second, in a thread: memory against its limits, and the pace of tasks."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from kagent_sdk.config.models import AgentConfig, LimitsConfig
from kagent_sdk.host.engine import Engine
from kagent_sdk.host.gpus import Gpus
from kagent_sdk.host.logs.pump import LogPump
from kagent_sdk.host.memory import MemoryUse, MemoryVerdict, find_lack_of_room, judge_memory
from kagent_sdk.host.processes import ProcessReader, ProcessSample

if TYPE_CHECKING:
    from kagent_sdk.host.cgroup import CgroupReader, CgroupSample

INTERVAL_S = 1.0


class Monitor:
    """Samples cgroup and processes; the probes and ``/status`` read what it saw last.

    Args:
        config: limits.
        engine: whose pace is measured, and whose journal is told to let go of old tasks.
        pids: the host's and the workers' process ids at the moment.
        on_memory: told of every verdict on memory.
        pump: told when memory becomes short, or is not any more.

    Attributes:
        cgroup, processes: the last samples.
        memory: the last verdict.
        gpus: sampled when somebody asks, never by `run`.
    """

    def __init__(
        self,
        config: AgentConfig,
        *,
        engine: Engine,
        pids: Callable[[], list[int]],
        on_memory: Callable[[MemoryVerdict], None],
        pump: LogPump,
    ) -> None:
        self._limits = config.limits
        self._engine = engine
        self._pids = pids
        self._on_memory = on_memory
        self._pump = pump
        self._cgroup_reader: CgroupReader | None = None
        self._process_reader = ProcessReader()
        self._lock = asyncio.Lock()
        self._finished = 0
        self.gpus = Gpus(config.limits.gpus)
        self.cgroup: CgroupSample | None = None
        self.processes: dict[int, ProcessSample] = {}
        self.memory = MemoryVerdict(is_near_limit=False, ratio=None, use=None)

    def configure(self, limits: LimitsConfig) -> None:
        """Take over new limits, for the samples to come."""
        self._limits = limits
        self.gpus.wanted = limits.gpus

    async def run(self) -> None:
        """Sample until cancelled."""
        while True:
            await asyncio.sleep(INTERVAL_S)
            await self._sample_memory()
            self._measure_pace()
            self._engine.expire()

    async def sample_processes(self) -> None:
        """Take a fresh sample of everything, for an answer to ``/status`` or ``/metrics``."""
        async with self._lock:
            pids = self._pids()
            self.processes = await asyncio.to_thread(self._process_reader.sample, pids)
            self.cgroup = await asyncio.to_thread(self._read_cgroup)

    async def _sample_memory(self) -> None:
        async with self._lock:
            self.cgroup = await asyncio.to_thread(self._read_cgroup)
            if self._limits.memory_bytes is not None:
                pids = self._pids()
                self.processes = await asyncio.to_thread(self._process_reader.sample, pids)
        was_near = self.memory.is_near_limit
        self.memory = judge_memory(
            self._uses(),
            soft_ratio=self._limits.memory_soft_ratio,
            was_near_limit=was_near,
        )
        if self.memory.is_near_limit != was_near:
            event = "memory_near_limit" if self.memory.is_near_limit else "memory_recovered"
            self._pump.log("warning", event, ratio=self.memory.ratio, detail=self.memory.message)
        self._on_memory(self.memory)

    async def find_lack_of_room(self, pids: Sequence[int]) -> str:
        """Say why there is no room for as much as these processes hold once more; empty if there is."""
        await self.sample_processes()
        sizes = [
            sample.pss_bytes or sample.rss_bytes or 0
            for pid, sample in self.processes.items()
            if pid in pids
        ]
        return find_lack_of_room(
            self._uses(), more_bytes=sum(sizes), soft_ratio=self._limits.memory_soft_ratio
        )

    def _read_cgroup(self) -> CgroupSample:
        if self._cgroup_reader is None:
            # Imported with the first sample, in its thread: a start must not wait for it.
            from kagent_sdk.host.cgroup import CgroupReader  # noqa: PLC0415

            self._cgroup_reader = CgroupReader()
        return self._cgroup_reader.read()

    def _uses(self) -> list[MemoryUse]:
        uses = []
        if self.cgroup is not None:
            uses = [
                MemoryUse("cgroup", level.used_bytes, level.limit_bytes)
                for level in self.cgroup.memory.levels
            ]
        if self._limits.memory_bytes is not None:
            sizes = [sample.pss_bytes or sample.rss_bytes for sample in self.processes.values()]
            used = sum(size for size in sizes if size is not None) if sizes else None
            uses.append(MemoryUse("config", used, self._limits.memory_bytes))
        return uses

    def _measure_pace(self) -> None:
        total = self._engine.counters.total()
        finished = total.completed + total.failed + total.canceled
        self._engine.finished_per_s = (finished - self._finished) / INTERVAL_S
        self._finished = finished
