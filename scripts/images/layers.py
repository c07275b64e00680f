"""Tell what each layer of a built image costs, from the build's stamped output and its history.

    python3 layers.py TARGET LOG HISTORY     lines of TARGET, LAYER, SECONDS, BYTES, tab-separated
    python3 layers.py --table FILE           those lines as a table for a person

LOG has a line of seconds before each line that the engine printed; HISTORY is
``podman history --no-trunc --format json``.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_STEP = re.compile(r"^(?:\[(?P<stage>\d+)/\d+\] )?(?:STEP \d+/\d+: (?P<words>.*)|COMMIT\b.*)$")
_FROM = re.compile(r"^FROM \S+(?: AS (?P<name>\S+))?$")

_NAMES = {
    "python.sh": "Python, compiled",
    "install.sh": "the SDK and its packages",
    "finish.sh": "user, folders, SBOM",
    "node.sh": "Node.js: links, SBOM",
    "/opt/python": "Python, brought",
    "/usr/local/bin/node": "Node.js",
    "node_modules/npm": "npm",
}
"""What the instructions that make a layer do, by a word of theirs."""

_PARENTS = {"node": "debian-slim"}
"""The targets that begin with another one."""

BASE = "base"


@dataclass(frozen=True, slots=True)
class Step:
    """An instruction of the build.

    Attributes:
        stage: the name of the stage that it belongs to.
        words: the instruction.
        took_s: until the next one began.
    """

    stage: str
    words: str
    took_s: float


@dataclass(frozen=True, slots=True)
class Layer:
    """A row of the report.

    Attributes:
        target: of Dockerfile.base.
        name: what the layer is.
        took_s: seconds that it took to build; 0 when it came from the cache, or with the base.
        size_bytes: unpacked.
    """

    target: str
    name: str
    took_s: float
    size_bytes: int


def read_steps(lines: Iterable[str]) -> list[Step]:
    """Return the instructions of a build, FROM left out, with the time that each took.

    Stages that do not need each other are built at the same time: their lines come mixed. The last
    instruction of a stage ends when another one's goes on.
    """
    names: dict[str, str] = {}
    found: list[_Open] = []
    last: dict[str, _Open] = {}
    for line in lines:
        stamp, _, text = line.rstrip("\n").partition(" ")
        match = _STEP.match(text)
        if match is None:
            continue
        stage, at_s = match["stage"] or "", float(stamp)
        if stage in last:
            last.pop(stage).ended_s = at_s
        for other in last.values():
            other.ended_s = other.ended_s or at_s
        words = match["words"]
        if words is None:
            continue
        if begins := _FROM.match(words):
            names[stage] = begins["name"] or ""
        else:
            last[stage] = _Open(names.get(stage, ""), words, at_s)
            found.append(last[stage])
    return [Step(each.stage, each.words, each.ended_s - each.began_s) for each in found]


@dataclass(slots=True)
class _Open:
    stage: str
    words: str
    began_s: float
    ended_s: float = 0.0


def layers_of(
    target: str, steps: Sequence[Step], history: Sequence[Mapping[str, Any]]
) -> list[Layer]:
    """Return what a target's image consists of, its base first.

    Args:
        target: of Dockerfile.base.
        steps: of all stages that were built.
        history: of the image, the newest first, an entry for each instruction.
    """
    stages = {target, _PARENTS.get(target, target)}
    own = [step for step in steps if step.stage in stages]
    # Instructions and entries of the history go in pairs, from the end; what is left is the base's.
    sizes = [int(entry["size"]) for entry in reversed(history)]
    base, added = sizes[: len(sizes) - len(own)], sizes[len(sizes) - len(own) :]
    rows = [
        Layer(target, name_of(step.words), step.took_s, size)
        for step, size in zip(own, added, strict=True)
        if size > _NOTHING_BYTES or step.words.startswith("RUN")
    ]
    return [Layer(target, BASE, 0, sum(base)), *rows]


_NOTHING_BYTES = 4096
"""An empty folder, as a layer."""


def name_of(words: str) -> str:
    """Return what an instruction does."""
    return next((name for word, name in _NAMES.items() if word in words), words[:40])


def to_line(layer: Layer) -> str:
    """Return a layer as a line of the report."""
    return f"{layer.target}\t{layer.name}\t{layer.took_s:.1f}\t{layer.size_bytes}"


def from_line(line: str) -> Layer:
    """Return the layer of a line of `to_line`."""
    target, name, took, size = line.rstrip("\n").split("\t")
    return Layer(target, name, float(took), int(size))


def to_table(layers: Sequence[Layer]) -> str:
    """Return the report for a person, a block for each target."""
    lines = [f"{'target':<12} {'layer':<28} {'seconds':>8} {'MB':>8}"]
    for target in dict.fromkeys(layer.target for layer in layers):
        own = [layer for layer in layers if layer.target == target]
        lines += [_row(layer) for layer in own]
        total = Layer("", "all", sum(x.took_s for x in own), sum(x.size_bytes for x in own))
        lines.append(_row(total))
    return "\n".join(lines)


def _row(layer: Layer) -> str:
    took = f"{layer.took_s:8.1f}" if layer.name != BASE else " " * 8
    return f"{layer.target:<12} {layer.name:<28} {took} {layer.size_bytes / 1e6:8.1f}"


def main(words: Sequence[str]) -> str:
    """Return what the command line asks for."""
    if words[0] == "--table":
        rows = Path(words[1]).read_text("utf-8").splitlines()
        return to_table([from_line(row) for row in rows])
    target, log, history = words
    steps = read_steps(Path(log).read_text("utf-8", errors="replace").splitlines())
    entries = json.loads(Path(history).read_text("utf-8"))
    return "\n".join(map(to_line, layers_of(target, steps, entries)))


if __name__ == "__main__":
    print(main(sys.argv[1:]))
