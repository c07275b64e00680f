"""Sizes of the base images, and how long each layer takes to build.

python benchmarks/images.py [--base IMAGE] [--plain-base IMAGE] [--node IMAGE]

Without the options the public images are built on. A plain base has no Python: the target `ubuntu`
brings the distribution's own.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from rig.budgets import Budget, Verdict
from rig.environments import ROOT
from rig.report import Report, write_sections
from rig.tables import Table

sys.path.insert(0, str(ROOT))
from scripts.images.layers import BASE, Layer, from_line

SHARE = Budget("the SDK's own share of debian-slim, unpacked", "at most", 60, "MB")

INTRO = """
`scripts/build-images --no-cache`, by podman, from wheels that are there. *Base* is the image that a target is built on,
and is not built. *Python* is brought where the base has none, and its library compiled where the
base has not done that; neither counts as the SDK's share. Sizes are unpacked. `node` is `debian-slim`
and three layers more. The bases here are Debian by debootstrap, without a registry.
"""


def build(target: str, wheels: Path, options: Sequence[str]) -> list[Layer]:
    """Build a target anew and return its layers.

    Raises:
        subprocess.CalledProcessError: it could not be built.
    """
    with tempfile.TemporaryDirectory() as work:
        report = Path(work, "report")
        subprocess.run(
            [
                *(str(ROOT / "scripts" / "build-images"), target, "--no-cache"),
                *("--wheels", str(wheels), "--report", str(report)),
                *("--tag", "localhost/kagent-benchmark", *options),
            ],
            check=True,
            stdout=subprocess.DEVNULL,
        )
        return [from_line(line) for line in report.read_text().splitlines()]


def share_bytes(layers: Sequence[Layer]) -> int:
    """Return what the SDK adds to a base."""
    return sum(x.size_bytes for x in layers if x.name != BASE and "Python" not in x.name)


def row(layer: Layer) -> tuple[str, ...]:
    """Return a layer as a row of the table."""
    took = "" if layer.name == BASE else f"{layer.took_s:.1f}"
    return (f"{layer.target}: {layer.name}", f"{layer.size_bytes / 1e6:.1f}", took)


def rows(layers: Sequence[Layer]) -> list[tuple[str, ...]]:
    """Return the rows of a target, with its sum."""
    total = Layer(
        layers[0].target,
        "all",
        sum(layer.took_s for layer in layers),
        sum(layer.size_bytes for layer in layers),
    )
    return [row(layer) for layer in (*layers, total)]


def run(arguments: argparse.Namespace) -> Report:
    """Build the targets, one after the other."""
    base = ["--base", arguments.base] if arguments.base else []
    plain = ["--base", arguments.plain_base, "--python", "distribution"]
    options = {"debian-slim": base}
    if arguments.node or not base:
        options["node"] = [*base, *(["--node", arguments.node] if arguments.node else [])]
    if arguments.plain_base or not base:
        options["ubuntu"] = [*(plain if arguments.plain_base else []), "--network", "host"]
    with tempfile.TemporaryDirectory() as work:
        wheels = Path(work, "wheels")
        subprocess.run([ROOT / "scripts/build-images", "--wheels-only", wheels], check=True)
        found = {target: build(target, wheels, words) for target, words in options.items()}
    cells = tuple(cell for layers in found.values() for cell in rows(layers))
    table = Table("Layers", ("", "MB", "seconds"), cells)
    verdict = Verdict(SHARE, share_bytes(found["debian-slim"]) / 1e6)
    podman = subprocess.run(["podman", "--version"], capture_output=True, text=True, check=True)
    versions = {"engine": {"podman": podman.stdout.split()[-1]}}
    data = {target: [row(layer) for layer in layers] for target, layers in found.items()}
    return Report("images", "Images", INTRO, (table,), (verdict,), versions, data)


def main() -> int:
    """Build, show, and write the section of docs/benchmarks.md."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--base", help="a Debian with Python 3.11")
    parser.add_argument("--plain-base", help="a Debian or Ubuntu without Python")
    parser.add_argument("--node", help="an image with Node.js")
    parser.add_argument("--no-docs", action="store_true", help="leave docs/benchmarks.md alone")
    arguments = parser.parse_args()
    report = run(arguments)
    print(report.plain())
    if not arguments.no_docs:
        write_sections([report])
    return 0 if report.is_kept else 1


if __name__ == "__main__":
    sys.exit(main())
