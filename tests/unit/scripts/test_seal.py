"""Same input, same digest: what a build writes of itself into an image is taken out."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from scripts.images.seal import seal, sealed


def make_config(number: int) -> dict[str, Any]:
    """Return the configuration of an image as a build writes it, another one in each."""
    return {
        "container": f"id{number}",
        "container_config": {"Hostname": f"host{number}"},
        "parent": f"sha256:{number}",
        "config": {"Hostname": f"host{number}", "User": "1000:1000", "Healthcheck": {"Test": []}},
        "history": [{"created_by": "RUN", "comment": f"FROM {number}"}, {"empty_layer": True}],
        "rootfs": {"diff_ids": ["sha256:aa"]},
    }


def test_two_builds_of_the_same_become_the_same() -> None:
    """What an image is and does is kept; whose build it was is not."""
    first, second = sealed(make_config(1)), sealed(make_config(2))

    assert first == second
    assert first == {
        "config": {"User": "1000:1000", "Healthcheck": {"Test": []}},
        "history": [{"created_by": "RUN"}, {"empty_layer": True}],
        "rootfs": {"diff_ids": ["sha256:aa"]},
    }


def test_what_an_image_has_not_is_not_missed() -> None:
    """A base may come without a history."""
    assert sealed({"os": "linux"}) == {"os": "linux"}


def test_the_manifest_names_the_new_configuration(tmp_path: Path) -> None:
    """An engine loads by digests, and refuses what does not match."""
    text = json.dumps(make_config(1)).encode()
    digest = hashlib.sha256(text).hexdigest()
    (tmp_path / digest).write_bytes(text)
    manifest = {"config": {"digest": f"sha256:{digest}", "size": len(text)}, "layers": []}
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))

    new = seal(tmp_path)

    written = (tmp_path / new).read_bytes()
    assert hashlib.sha256(written).hexdigest() == new
    assert json.loads((tmp_path / "manifest.json").read_text()) == {
        "config": {"digest": f"sha256:{new}", "size": len(written)},
        "layers": [],
    }
    assert not (tmp_path / digest).exists()
