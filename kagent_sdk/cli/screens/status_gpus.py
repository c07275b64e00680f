"""The GPUs of an agent, a line each."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.text import Text

from kagent_sdk.cli.screens.style import GOOD, QUIET, WARN, bar, joined, styled
from kagent_sdk.cli.text import clean_line, format_bytes

if TYPE_CHECKING:
    from kagent_sdk.protocol.status import GpuInfo, GpusInfo


def gpu_lines(gpus: GpusInfo) -> list[Text]:
    """Return a line for each GPU, and one for what is in the way; none where nobody asked."""
    lines = [_line(gpu) for gpu in gpus.devices]
    if gpus.note:
        lines.append(styled(clean_line(gpus.note), WARN if gpus.wanted else QUIET))
    return lines


def _line(gpu: GpuInfo) -> Text:
    parts = []
    used, total = gpu.memory_used_bytes, gpu.memory_total_bytes
    if used is not None and total:
        memory = bar(used / total, GOOD).append(f"  {format_bytes(used)} of {format_bytes(total)}")
        parts.append(memory)
    if gpu.utilization_ratio is not None:
        parts.append(Text(f"{gpu.utilization_ratio * 100:.0f} % busy"))
    parts.append(styled(clean_line(gpu.name or f"number {gpu.index}"), QUIET))
    return joined(parts)
