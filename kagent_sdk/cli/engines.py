"""Container engines on this machine: which is there, and what it has."""

from __future__ import annotations

import json
import shutil
import subprocess
from typing import TYPE_CHECKING

from kagent_sdk.cli.boundary import CommandError, UsageError
from kagent_sdk.cli.text import clean_line

if TYPE_CHECKING:
    from collections.abc import Sequence

BUILDERS = ("podman", "buildah", "docker")
RUNNERS = ("podman", "docker")
ASK_TIMEOUT_S = 60.0


def find_engine(wanted: str | None, among: Sequence[str]) -> str:
    """Return the name of an engine that is installed: the one that is wanted, or the first there is.

    Raises:
        UsageError: it is not there.
    """
    found = next((name for name in ([wanted] if wanted else among) if shutil.which(name)), None)
    if found is None:
        what = f"{wanted} is not installed" if wanted else "there is no container engine"
        raise UsageError(f"{what}; install one of {', '.join(among)}")
    return found


def find_image(engine: str, image: str) -> dict[str, object] | None:
    """Return what an engine knows of an image; None when it has none of that name.

    Raises:
        CommandError: the engine does not work.
    """
    done = ask(engine, "inspect", "--type=image", image)
    if done.returncode == 0:
        try:
            document = json.loads(done.stdout)
        except ValueError:
            document = None
        first = document[0] if isinstance(document, list) and document else document
        return first if isinstance(first, dict) else {}
    said = done.stderr.strip().rpartition("\n")[2]
    if "no such" in said.lower() or "not known" in said.lower() or "not find" in said.lower():
        return None
    raise CommandError(f"{engine} does not work: {clean_line(said)}")


def size_of(engine: str, image: str) -> int | None:
    """Return the bytes of an image, unpacked; None where an engine does not tell."""
    size = (find_image(engine, image) or {}).get("Size")
    return size if isinstance(size, int) and not isinstance(size, bool) and size > 0 else None


def ask(*words: str) -> subprocess.CompletedProcess[str]:
    """Run an engine's command that only tells something, and return what it said.

    Raises:
        CommandError: it does not answer.
    """
    try:
        return subprocess.run(
            words,
            capture_output=True,
            check=False,
            encoding="utf-8",
            errors="replace",
            stdin=subprocess.DEVNULL,
            timeout=ASK_TIMEOUT_S,
        )
    except subprocess.TimeoutExpired:
        raise CommandError(f"{words[0]} has not answered for {ASK_TIMEOUT_S:.0f} s") from None
    except OSError as exc:
        raise CommandError(f"cannot run {words[0]}: {exc.strerror}") from exc
