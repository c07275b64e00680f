"""GPUs on the screen of ``kos-agent status``."""

from __future__ import annotations

from kagent_sdk.cli.screens.status_gpus import gpu_lines
from kagent_sdk.protocol.status import GpuInfo, GpusInfo

EVIL = "\x1b]0;owned\x07\x1b[2J"


def test_an_agent_without_gpus_has_no_line() -> None:
    """Most have none."""
    assert gpu_lines(GpusInfo()) == []


def test_each_gpu_is_a_line_and_what_is_in_the_way_one_more() -> None:
    """Memory that ran full, and a card that idles, are what people look for."""
    lines = gpu_lines(
        GpusInfo(
            wanted=3,
            found=2,
            note=f"limits.gpus is 3, and 2 can be seen{EVIL}",
            devices=(
                GpuInfo(
                    index=0,
                    name=f"H200{EVIL}",
                    memory_used_bytes=20 << 30,
                    memory_total_bytes=80 << 30,
                    utilization_ratio=0.75,
                ),
                GpuInfo(index=1),
            ),
        )
    )
    texts = [line.plain for line in lines]

    assert texts[0].startswith("━━━━━━━━━━━━━━━━━━━━  20.0 GiB of 80.0 GiB · 75 % busy · H200")
    assert texts[1] == "number 1"
    assert texts[2].startswith("limits.gpus is 3, and 2 can be seen")
    assert "\x1b" not in "".join(texts)
