"""Whether the paths of ``sandbox:`` can be meant: what the configuration alone cannot tell."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kagent_sdk.config.sandbox import WRITABLE
from kagent_sdk.errors import ConfigError
from kagent_sdk.host.confinement import Confinement, find_secluded
from kagent_sdk.host.grounds import resolve
from kagent_sdk.sandbox.paths import is_within

if TYPE_CHECKING:
    from kagent_sdk.config import LoadedConfig
    from kagent_sdk.config.keys import KeyPath

CODE_SUFFIXES = (".py", ".pyc", ".so", ".pth")
MAX_LOOKED_AT = 2000
"""Files and folders of one ``write`` path: code lies near the top, and data can be a million files."""

SYSTEM = ("/boot", "/etc", "/proc", "/run/secrets", "/sys")
DEVICES = "/dev"
SHARED_MEMORY = "/dev/shm"  # noqa: S108 - of the kernel's


@dataclass(frozen=True, slots=True)
class Guarded:
    """Something that no worker may write: ``what`` it is, for people, and where."""

    what: str
    path: str
    is_tree: bool = True


def check_policy(loaded: LoadedConfig, confinement: Confinement) -> None:
    """Refuse a configuration whose ``sandbox:`` cannot be meant on this machine.

    Raises:
        ConfigError: has a line for everything that is wrong.
    """
    problems = [
        loaded.describe(path, reason) for path, reason in PathChecks(loaded, confinement).find()
    ]
    if problems:
        raise ConfigError("\n".join(problems))


class PathChecks:
    """Finds what is wrong with the paths of one configuration.

    Args:
        loaded: the agent's configuration, and where it stands.
        confinement: of its workers.
    """

    def __init__(self, loaded: LoadedConfig, confinement: Confinement) -> None:
        self._config = config = loaded.config
        self._file = loaded.path
        self._directory = confinement.directory
        self._own = resolve(os.path.join(confinement.directory, name) for name in WRITABLE)
        secluded = find_secluded(confinement.directory, config, confinement.token_files)
        self._hidden = (*secluded.folders, *secluded.files)
        self._guarded = tuple(self._find_guarded(confinement))

    def find(self) -> Iterator[tuple[KeyPath, str]]:
        """Return each wrong entry's path in the configuration, and the reason."""
        sandbox = self._config.sandbox
        checks = {"read": self._read, "write": self._write, "execute": self._execute}
        for kind, check in checks.items():
            for number, text in enumerate(getattr(sandbox, kind)):
                real = os.path.realpath(os.path.join(self._directory, text))
                is_there = os.path.exists(real)
                reason = check(text, real) if is_there else f'there is no "{text}"; make it first'
                if reason:
                    yield ("sandbox", kind, number), reason

    def _read(self, text: str, real: str) -> str | None:
        for hidden in self._hidden:
            if is_within(real, hidden) and not self._is_own(real):
                return f'"{text}" is for the host alone{self._name(hidden)}; {_way_out(hidden)}'
        return None

    def _write(self, text: str, real: str) -> str | None:
        if self._is_own(real):
            return None
        for guarded in self._guarded:
            if is_within(guarded.path, real):
                return f'"{text}" covers {guarded.what}; name a folder that holds data alone'
            if guarded.is_tree and is_within(real, guarded.path):
                return f'"{text}" is in {guarded.what}; name a folder that holds data alone'
        if is_within(real, self._directory) and (code := _find_code(real)):
            name = os.path.relpath(code, self._directory)
            return f'"{text}" covers code ({name}); name a folder that holds data alone'
        return None

    def _execute(self, text: str, real: str) -> str | None:
        write = [
            os.path.realpath(os.path.join(self._directory, p)) for p in self._config.sandbox.write
        ]
        for path in (*self._own, SHARED_MEMORY, *write):
            if is_within(path, real) or is_within(real, path):
                return f'"{text}" could be written as well; what is written is never executed'
        return self._read(text, real)

    def _find_guarded(self, confinement: Confinement) -> Iterator[Guarded]:
        config, directory = self._config, self._directory

        def inside(name: str) -> str:
            return os.path.realpath(os.path.join(directory, name))

        yield Guarded("the entrypoint", inside(config.entrypoint), is_tree=False)
        # Another one where AGENT_CONFIG names it, and config.yaml is read without that.
        for file in ("config.yaml", *([] if self._file is None else [str(self._file)])):
            yield Guarded("the configuration", inside(file), is_tree=False)
        yield Guarded("the requirements", inside("requirements.txt"), is_tree=False)
        yield Guarded("the journal", inside("runtime"))
        yield Guarded("the logs", inside("logs"))
        for path in self._hidden:
            yield Guarded("secrets or snapshots of the host", path)
        for path in confinement.grounds.code:
            # Where the agent's folder is in it, as with a package that is being developed, its
            # folders of data are no code.
            yield Guarded("code that the worker imports", path, not is_within(directory, path))
        for path in (*confinement.grounds.execute, *SYSTEM):
            if path not in confinement.grounds.code:
                yield Guarded("the system", path)
        yield Guarded("the devices", DEVICES, is_tree=False)

    def _is_own(self, real: str) -> bool:
        return any(is_within(real, path) for path in self._own)

    def _name(self, hidden: str) -> str:
        inside = is_within(hidden, self._directory)
        return f" (it is in {os.path.relpath(hidden, self._directory)})" if inside else ""


def _way_out(hidden: str) -> str:
    if os.path.basename(hidden) in {"runtime", "logs"}:
        return "keep what workers share in runtime/data"
    return "give secrets to the worker with secrets.expose"


def _find_code(path: str) -> str | None:
    """Return a file of code at a path or in it, among the first that there are."""
    if path.endswith(CODE_SUFFIXES):
        return path
    left, looked = [path], 0
    while left and looked < MAX_LOOKED_AT:
        folder = left.pop(0)
        try:
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except OSError:
            continue
        for entry in entries:
            looked += 1
            if entry.is_dir(follow_symlinks=False):
                left.append(entry.path)
            elif entry.name.endswith(CODE_SUFFIXES):
                return entry.path
    return None
