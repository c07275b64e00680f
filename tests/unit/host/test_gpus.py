"""Asking the driver of GPUs without ever waiting for it."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from kagent_sdk.host import gpus as module
from kagent_sdk.host.gpus import NO_LIBRARY, Gpu, Gpus, GpuSample

SEEN = GpuSample((Gpu(0, "H200", memory_used_bytes=5, memory_total_bytes=10),))


class Driver:
    """A driver that answers when it is let."""

    def __init__(self) -> None:
        self.may_answer = threading.Event()
        self.asked = 0

    def read(self) -> GpuSample:
        """Wait, and return what there is."""
        self.asked += 1
        self.may_answer.wait(30)
        return SEEN


async def test_a_sample_is_what_the_driver_says() -> None:
    """It is shown in /status."""
    gpus = Gpus(1, lambda: SEEN)

    await gpus.refresh()

    assert gpus.sample == SEEN


async def test_the_driver_is_not_asked_where_no_gpu_is_wanted_and_none_is_there() -> None:
    """Loading its library takes memory and time, in every agent."""
    driver = Driver()
    gpus = Gpus(0, driver.read)

    await gpus.refresh()

    assert (driver.asked, gpus.sample) == (0, GpuSample())


async def test_a_driver_that_does_not_answer_is_noted_and_asked_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A GPU that hangs must not hang /status, nor fill the process with threads."""
    monkeypatch.setattr(module, "DEADLINE_S", 0.01)
    driver = Driver()
    gpus = Gpus(1, driver.read)

    await gpus.refresh()
    await gpus.refresh()

    assert gpus.sample == GpuSample(None, "the driver has not answered for 0 s")
    assert driver.asked == 1

    driver.may_answer.set()
    monkeypatch.setattr(module, "DEADLINE_S", 30.0)
    await gpus.refresh()

    assert gpus.sample == SEEN


def answering(**answers: Any) -> ModuleType:
    """Return a module that has the functions of pynvml; an exception is raised."""

    def make(answer: Any) -> Callable[..., Any]:
        def call(*_arguments: object) -> Any:
            if isinstance(answer, Exception):
                raise answer
            return answer

        return call

    usual = {
        "nvmlInit": None,
        "nvmlDeviceGetCount": 1,
        "nvmlDeviceGetHandleByIndex": object(),
        "nvmlDeviceGetMemoryInfo": SimpleNamespace(used=3, total=4),
        "nvmlDeviceGetUtilizationRates": SimpleNamespace(gpu=50),
        "nvmlDeviceGetName": "H200",
        "nvmlDeviceGetUUID": "GPU-1",
    }
    nvml = ModuleType("pynvml")
    for name, answer in {**usual, **answers}.items():
        setattr(nvml, name, make(answer))
    return nvml


class NVMLError(Exception):
    """As pynvml names it."""


class NVMLError_LibraryNotFound(NVMLError):  # noqa: N801, N818 - as pynvml names it
    """As pynvml names it."""


@pytest.mark.parametrize(
    ("answers", "sample"),
    [
        ({}, GpuSample((Gpu(0, "H200", "GPU-1", 3, 4, 0.5),))),
        ({"nvmlDeviceGetCount": 0}, GpuSample(())),
        (
            {"nvmlDeviceGetUtilizationRates": NVMLError("Not Supported")},
            GpuSample((Gpu(0, "H200", "GPU-1", 3, 4, None),)),
        ),
        (
            {
                "nvmlDeviceGetMemoryInfo": NVMLError("No Permission"),
                "nvmlDeviceGetName": NVMLError(""),
            },
            GpuSample((Gpu(0, None, "GPU-1", None, None, 0.5),)),
        ),
        ({"nvmlDeviceGetHandleByIndex": NVMLError("lost")}, GpuSample((Gpu(0),))),
        (
            {"nvmlInit": NVMLError("Driver Not Loaded")},
            GpuSample(None, "the driver says: Driver Not Loaded"),
        ),
        ({"nvmlDeviceGetCount": NVMLError("")}, GpuSample(None, "the driver says: NVMLError")),
        (
            {"nvmlInit": NVMLError_LibraryNotFound("x")},
            GpuSample(None, "the driver's library libnvidia-ml.so.1 is not here"),
        ),
    ],
)
async def test_what_a_driver_does_not_say_is_none_or_a_note(
    monkeypatch: pytest.MonkeyPatch, answers: dict[str, Any], sample: GpuSample
) -> None:
    """Parts of GPUs have no use, containers no permission, machines no driver: never an error."""
    monkeypatch.setitem(sys.modules, "pynvml", answering(**answers))
    gpus = Gpus(1)

    await gpus.refresh()

    assert gpus.sample == sample


async def test_a_driver_that_comes_back_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is loaded anew when it is updated, while the agent runs."""
    gpus = Gpus(1)
    monkeypatch.setitem(sys.modules, "pynvml", answering(nvmlInit=NVMLError("Driver Not Loaded")))
    await gpus.refresh()
    monkeypatch.setitem(sys.modules, "pynvml", answering(nvmlDeviceGetCount=0))

    await gpus.refresh()

    assert gpus.sample == GpuSample(())


async def test_without_the_library_the_note_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is an extra, for few agents have GPUs."""
    monkeypatch.setitem(sys.modules, "pynvml", None)
    gpus = Gpus(1)

    await gpus.refresh()

    assert gpus.sample == GpuSample(None, NO_LIBRARY)
