"""The machine's GPUs, as their driver tells of them: for ``/status`` and ``/metrics`` alone.

NVIDIA's library is loaded with the first sample, and only where there is a driver or a GPU is wanted. It
may block for as long as the driver does: it is asked in a thread of its own, which nobody waits for.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

DRIVER = Path("/dev/nvidiactl")
"""Is there while the driver is loaded, and in a container that has been given a GPU."""

DEADLINE_S = 0.5
"""NVML answers in milliseconds; a GPU that is being reset takes seconds."""

MAX_GPUS = 64
MAX_TEXT = 200

NO_LIBRARY = "to see GPUs, install kagent-sdk[gpu]"


@dataclass(frozen=True, slots=True)
class Gpu:
    """One GPU; what its driver does not say is None.

    Attributes:
        index: by the driver's count, from 0.
        name, uuid: the driver's.
        memory_used_bytes: by all processes, of whoever's.
        memory_total_bytes: that it has.
        utilization_ratio: share of the last sampling period in which it was computing, 0 to 1.
    """

    index: int
    name: str | None = None
    uuid: str | None = None
    memory_used_bytes: int | None = None
    memory_total_bytes: int | None = None
    utilization_ratio: float | None = None


@dataclass(frozen=True, slots=True)
class GpuSample:
    """What the driver said last.

    Attributes:
        gpus: all that this process can see; None: they could not be counted.
        note: what is in the way; empty: nothing is.
    """

    gpus: tuple[Gpu, ...] | None = None
    note: str = ""


class Gpus:
    """Asks the driver, and goes on without an answer. All methods are for the event loop.

    Args:
        wanted: ``limits.gpus``.
        read: asks the driver; called in a thread, one at a time.

    Attributes:
        wanted: how many GPUs the agent is to have.
        sample: what was seen last.
    """

    def __init__(self, wanted: int, read: Callable[[], GpuSample] | None = None) -> None:
        self.wanted = wanted
        self.sample = GpuSample()
        self._read = read or _Reader().read
        self._answer: asyncio.Future[GpuSample] | None = None
        self._asked_at = 0.0

    async def refresh(self) -> None:
        """Take a fresh sample, or note that the driver does not answer; takes `DEADLINE_S` at most."""
        if self._answer is None:
            if not self.wanted and not await asyncio.to_thread(DRIVER.exists):
                self.sample = GpuSample()
                return
            self._ask()
        answer, overdue_s = self._answer, time.monotonic() - self._asked_at
        if answer is None:
            return
        # Whoever asks next does not wait for the same silence.
        await asyncio.wait([answer], timeout=max(0.0, DEADLINE_S - overdue_s))
        if answer.done():
            self.sample = answer.result()
            if self._answer is answer:
                self._answer = None
        else:
            silent_s = time.monotonic() - self._asked_at
            note = f"the driver has not answered for {silent_s:.0f} s"
            self.sample = GpuSample(self.sample.gpus, note)

    def _ask(self) -> None:
        loop = asyncio.get_running_loop()
        self._answer, self._asked_at = loop.create_future(), time.monotonic()
        # A daemon, and none of the loop's: the host ends without it.
        threading.Thread(
            target=self._run, args=(loop, self._answer), name="gpus", daemon=True
        ).start()

    def _run(self, loop: asyncio.AbstractEventLoop, answer: asyncio.Future[GpuSample]) -> None:
        sample = self._read()
        try:
            loop.call_soon_threadsafe(_give, answer, sample)
        except RuntimeError:
            return  # the host is gone


def _give(answer: asyncio.Future[GpuSample], sample: GpuSample) -> None:
    if not answer.done():
        answer.set_result(sample)


class _Reader:
    """NVIDIA's library (nvidia-ml-py), open from the first sample on."""

    def __init__(self) -> None:
        self._nvml: Any = None

    def read(self) -> GpuSample:
        """Return a sample; never raises."""
        try:
            if self._nvml is None:
                nvml = import_module("pynvml")
                nvml.nvmlInit()
                self._nvml = nvml
            count = min(self._nvml.nvmlDeviceGetCount(), MAX_GPUS)
            return GpuSample(tuple(self._read_one(index) for index in range(count)))
        except ImportError:
            return GpuSample(note=NO_LIBRARY)
        except Exception as exc:  # noqa: BLE001 - the edge of a foreign library: NVMLError, OSError …
            self._nvml = None  # the driver may come back: it is opened anew
            return GpuSample(note=_explain(exc))

    def _read_one(self, index: int) -> Gpu:
        nvml = self._nvml
        handle = _known(nvml.nvmlDeviceGetHandleByIndex, index)
        if handle is None:
            return Gpu(index)
        memory = _known(nvml.nvmlDeviceGetMemoryInfo, handle)
        rates = _known(nvml.nvmlDeviceGetUtilizationRates, handle)
        return Gpu(
            index=index,
            name=_text(_known(nvml.nvmlDeviceGetName, handle)),
            uuid=_text(_known(nvml.nvmlDeviceGetUUID, handle)),
            memory_used_bytes=None if memory is None else int(memory.used),
            memory_total_bytes=None if memory is None else int(memory.total),
            utilization_ratio=None if rates is None else rates.gpu / 100,
        )


def _known(ask: Callable[[Any], Any], about: Any) -> Any:
    """Return an answer; None where the driver has none, as for a part of a GPU (MIG)."""
    try:
        return ask(about)
    except Exception:  # noqa: BLE001 - one answer less; the others count
        return None


def _text(value: object) -> str | None:
    return None if value is None else str(value)[:MAX_TEXT]


def _explain(exc: Exception) -> str:
    name = type(exc).__name__
    if name == "NVMLError_LibraryNotFound":
        return "the driver's library libnvidia-ml.so.1 is not here"
    return f"the driver says: {str(exc)[:MAX_TEXT] or name}"
