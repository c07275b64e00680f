"""Take out of a saved image what is another one in each build: same input, same digest.

    podman save --format docker-dir -o FOLDER IMAGE
    python3 seal.py FOLDER
    podman load -i FOLDER

buildah 1.28 writes the build container's id and host name into an image of Docker's format (the only
one with a HEALTHCHECK), and the ids of the images between into its history.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_OF_THE_BUILD = frozenset({"container", "container_config", "parent"})


def sealed(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the configuration of an image without what belongs to its build alone."""
    kept = {key: value for key, value in config.items() if key not in _OF_THE_BUILD}
    if "config" in kept:
        kept["config"] = {key: value for key, value in kept["config"].items() if key != "Hostname"}
    if "history" in kept:
        kept["history"] = [
            {key: value for key, value in entry.items() if key != "comment"}
            for entry in kept["history"]
        ]
    return kept


def seal(folder: Path) -> str:
    """Rewrite the configuration in the folder of a saved image; return the image's id."""
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text("utf-8"))
    before = folder / manifest["config"]["digest"].removeprefix("sha256:")
    text = json.dumps(
        sealed(json.loads(before.read_text("utf-8"))), sort_keys=True, separators=(",", ":")
    ).encode()
    digest = hashlib.sha256(text).hexdigest()
    before.unlink()
    (folder / digest).write_bytes(text)
    manifest["config"] |= {"digest": f"sha256:{digest}", "size": len(text)}
    path.write_text(json.dumps(manifest, separators=(",", ":")), "utf-8")
    return digest


if __name__ == "__main__":
    print(seal(Path(sys.argv[1])))
