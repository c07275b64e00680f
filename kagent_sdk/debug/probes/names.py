"""What types, files and words are called in the output of a debug session."""

from __future__ import annotations

import os
import sysconfig
from functools import lru_cache
from pathlib import Path

MAX_WORD_CHARS = 200

_OUR_PACKAGE = str(Path(__file__).parents[2]) + os.sep
_OUR_PARENT = str(Path(__file__).parents[3]) + os.sep


def type_name(cls: type) -> str:
    """Return ``module.Class``, without the module for a builtin; no code of the class runs."""
    name = _read_text(cls, "__qualname__") or "?"
    module = _read_text(cls, "__module__")
    return clean(name if module in {"builtins", ""} else f"{module}.{name}")


def type_module(cls: type) -> str:
    """Return the name of the module that a class says it is from; empty when it says nothing."""
    return _read_text(cls, "__module__")


def clean(text: str, limit_chars: int = MAX_WORD_CHARS) -> str:
    r"""Return text on one line that a terminal shows and does not obey, cut to a length.

    What is unsafe becomes visible: an escape is shown as ``\x1b``.
    """
    if len(text) > limit_chars:
        text = text[: limit_chars - 1] + "…"
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode() for char in text
    )


@lru_cache(maxsize=4096)
def is_author_file(filename: str) -> bool:
    """Return whether a file is the author's: of no library, and not ours."""
    if filename.startswith("<"):
        return False
    return not filename.startswith((_OUR_PACKAGE, *_library_folders())) and not any(
        part in {"site-packages", "dist-packages"} for part in Path(filename).parts
    )


def short_file(filename: str) -> str:
    """Return a file's name as a person looks for it: from the agent's folder, or from its library."""
    here = os.getcwd() + os.sep  # noqa: PTH109 - compared as text
    for folder in (here, *_library_folders(), _OUR_PARENT):
        if filename.startswith(folder):
            filename = filename[len(folder) :]
            break
    return clean(filename)


@lru_cache(maxsize=1)
def _library_folders() -> tuple[str, ...]:
    paths = sysconfig.get_paths()
    names = ("purelib", "platlib", "stdlib", "platstdlib")  # those inside of others first
    return tuple(dict.fromkeys(paths[name] + os.sep for name in names))


def _read_text(cls: type, name: str) -> str:
    try:
        value = type.__getattribute__(cls, name)
    except Exception:  # noqa: BLE001 - a metaclass may have a property of that name
        return ""
    return value if type(value) is str else ""
