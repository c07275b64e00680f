"""aiohttp's server without its client, which most agents' hosts never use.

``import aiohttp``, and so the import of any module in it, runs the package's ``__init__``. That one
loads the client, and the client reads the system's CA certificates while it is imported: 100 ms,
a third of the host's start, for a server that does not connect to anybody.

`put_off_client` registers the package before anyone imports it, without running its ``__init__``.
The modules in it are imported as always. Whoever asks the package for anything else, as in
``aiohttp.ClientSession``, makes ``__init__`` run then, and has the whole package from then on.
"""

from __future__ import annotations

import re
import sys
from importlib import import_module
from importlib.util import find_spec, module_from_spec
from pathlib import Path
from threading import RLock
from types import ModuleType
from typing import Any

PACKAGE = "aiohttp"

_find_version = re.compile(r'^__version__ = "([^"]+)"', re.MULTILINE).search


class _LeanPackage(ModuleType):
    """A package whose ``__init__`` runs when a name is asked for that is none of its modules."""

    # Of the thread that asks first; it asks again while ``__init__`` runs.
    _lock = RLock()
    _is_running = False

    def __getattr__(self, name: str) -> Any:
        # The import system and debuggers look for names like these everywhere.
        if name.startswith("__") and name != "__all__":
            raise AttributeError(f"module {PACKAGE!r} has no attribute {name!r}")
        if find_spec(f"{PACKAGE}.{name}") is not None:
            return import_module(f"{PACKAGE}.{name}")
        with _LeanPackage._lock:
            if type(self) is _LeanPackage and not _LeanPackage._is_running:
                self._complete()
        return ModuleType.__getattribute__(self, name)

    def _complete(self) -> None:
        spec = self.__spec__
        assert spec is not None
        assert spec.loader is not None
        _LeanPackage._is_running = True
        try:
            spec.loader.exec_module(self)
        finally:
            _LeanPackage._is_running = False
        self.__class__ = ModuleType  # type: ignore[assignment]


def put_off_client() -> bool:
    """Register aiohttp without running its ``__init__``, and tell whether that was done.

    Does nothing when aiohttp is imported already, or looks different from what is known of it.
    """
    if PACKAGE in sys.modules:
        return False
    spec = find_spec(PACKAGE)
    if spec is None or spec.origin is None or not spec.submodule_search_locations:
        return False
    version = _read_version(Path(spec.origin))
    if version is None:
        return False
    package = module_from_spec(spec)
    if type(package) is not ModuleType:
        return False
    package.__class__ = _LeanPackage
    # The one name that modules in the package take from it.
    package.__dict__["__version__"] = version
    sys.modules[PACKAGE] = package
    return True


def _read_version(path: Path) -> str | None:
    try:
        found = _find_version(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found and found[1]
