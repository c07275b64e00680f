"""An agent out of its folder, for tests that have the folder and not the module."""

from __future__ import annotations

import sys
from hashlib import sha256
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

from kagent_sdk.agent import Agent
from kagent_sdk.errors import StartupError


def load_agent(folder: Path, entrypoint: str = "entrypoint.py") -> Agent:
    """Import the entrypoint of an agent's folder, once, and return its `Agent`.

    The module has a name of its own, so that the agents of several folders can be tested in one run.
    The folder stays on ``sys.path`` for the modules beside it, as it is in the agent's worker.

    Raises:
        StartupError: there is no such file, or not exactly one agent in it.
        Exception: what the file raises.
    """
    path = (folder / entrypoint).resolve()
    name = f"agent_{sha256(str(path).encode()).hexdigest()[:16]}"
    module = sys.modules.get(name) or _load(path, name)
    agents = {id(value): value for value in vars(module).values() if isinstance(value, Agent)}
    if len(agents) != 1:
        raise StartupError(f"{path.name} has {len(agents)} agents in its variables, not one")
    return next(iter(agents.values()))


def _load(path: Path, name: str) -> ModuleType:
    spec = spec_from_file_location(name, path)
    if not path.is_file() or spec is None or spec.loader is None:
        raise StartupError(f"there is no {path.name} in {path.parent}")
    module = module_from_spec(spec)
    if str(path.parent) not in sys.path:
        sys.path.insert(0, str(path.parent))
    # Before it runs: models resolve the hints of their module through it.
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module
