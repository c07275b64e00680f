"""Find config.yaml, read it, override it, check it."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from pydantic_core import to_json

from kagent_sdk.config.draft import Draft, Source
from kagent_sdk.config.environment import apply_environment
from kagent_sdk.config.keys import KeyPath, known_keys, suggest
from kagent_sdk.config.models import AgentConfig
from kagent_sdk.errors import ConfigError

CONFIG_VARIABLE = "AGENT_CONFIG"
DEFAULT_FILE = "config.yaml"
MAX_FILE_BYTES = 1024 * 1024
MAX_NAME_CHARS = 63
DEFAULT_NAME = "agent"

_SANDBOX = ("sandbox",)
_NO_OVERRIDES: Mapping[str, Any] = MappingProxyType({})
_NOT_IN_A_NAME = re.compile(r"[^A-Za-z0-9_.-]+")


@dataclass(frozen=True, slots=True)
class LoadedConfig:
    """A configuration and where it came from.

    Attributes:
        config: the configuration; ``name`` is set.
        path: the file that was read; None if there is none.
        directory: the agent's folder.
        describe: returns one line on a problem with the value at a path, such as
            ``config.yaml:7: sandbox.write[0]: …``.
    """

    config: AgentConfig
    path: Path | None
    directory: Path
    describe: Callable[[KeyPath, str], str]


def load_config(
    directory: Path,
    *,
    environ: Mapping[str, str],
    overrides: Mapping[str, Any] = _NO_OVERRIDES,
) -> AgentConfig:
    """Return the configuration of the agent in a folder; see `read_config`."""
    return read_config(directory, environ=environ, overrides=overrides).config


def read_config(
    directory: Path,
    *,
    environ: Mapping[str, str],
    overrides: Mapping[str, Any] = _NO_OVERRIDES,
) -> LoadedConfig:
    """Read the configuration of the agent in a folder.

    The file is ``config.yaml``, which may be absent, or the one that ``AGENT_CONFIG`` names
    (relative to the folder), which may not. ``AGENT_<SECTION>__<KEY>`` goes over the file, and
    ``overrides`` over both.

    Args:
        directory: the agent's folder.
        environ: the environment variables.
        overrides: values by dotted key, such as ``{"http.port": 0}``.

    Raises:
        ConfigError: something is wrong; the message has a line for everything that is.
    """
    label = environ.get(CONFIG_VARIABLE) or DEFAULT_FILE
    draft = Draft(label)
    reason = f"{CONFIG_VARIABLE} names it" if environ.get(CONFIG_VARIABLE) else ""
    path = _apply_file(draft, directory / label, label, reason=reason)
    apply_environment(draft, environ)
    _apply_overrides(draft, overrides)
    config = draft.finish()
    if config.name is None:
        config = config.model_copy(update={"name": fit_name(directory.resolve().name)})
    return LoadedConfig(config, path, directory, draft.describe)


def read_sandbox_file(path: Path) -> AgentConfig:
    """Read a file that holds the section ``sandbox`` alone, with that key above it or without.

    Returns:
        A configuration with that section, and everything else by default.

    Raises:
        ConfigError: something is wrong; the message has a line for everything that is.
    """
    draft = Draft(path.name)
    _apply_file(draft, path, path.name, reason="it is named", section=_SANDBOX)
    return draft.finish()


def fit_name(text: str) -> str:
    """Return the text with everything removed that an agent's name may not have."""
    joined = _NOT_IN_A_NAME.sub("-", text).strip("-_.")
    return joined[:MAX_NAME_CHARS].strip("-_.") or DEFAULT_NAME


def _apply_file(
    draft: Draft, path: Path, label: str, *, reason: str, section: KeyPath = ()
) -> Path | None:
    root = Source(0, 0, 0, label, section)
    try:
        text = read_text(path)
    except FileNotFoundError:
        if reason or path.is_symlink():
            draft.report(root, (), f"does not exist, but {reason or 'it is a broken link'}")
        return None
    except OSError as exc:
        draft.report(root, (), f"cannot be read: {exc.strerror}")
        return path
    except ConfigError as exc:
        draft.report(root, (), str(exc))
        return path
    _apply_text(draft, root, text)
    return path


def read_text(path: Path) -> str:
    """Return the text of a file, if it has at most `MAX_FILE_BYTES`.

    Raises:
        OSError: it cannot be read.
        ConfigError: it is not a file of text of a sensible size.
    """
    with open(path, "rb", opener=_open_at_once) as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise ConfigError("is not a regular file")
        raw = file.read(MAX_FILE_BYTES + 1)
    if len(raw) > MAX_FILE_BYTES:
        raise ConfigError(f"has more than {MAX_FILE_BYTES} bytes")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as exc:
        line = raw.count(b"\n", 0, exc.start) + 1
        raise ConfigError(f"is not UTF-8 (line {line})") from None


def _open_at_once(path: str, flags: int) -> int:
    """Open a file, or a named pipe that nobody writes to, without waiting."""
    return os.open(path, flags | os.O_NONBLOCK)


def _apply_text(draft: Draft, root: Source, text: str) -> None:
    # PyYAML takes 30 ms to import: an agent without a file does not pay.
    from kagent_sdk.config.document import parse_document  # noqa: PLC0415

    document = parse_document(text)
    above = root.path
    if isinstance(document.value, dict) and (*document.value,) == above:
        above = ()  # the section stands below its key

    def source(line: int, column: int = 0) -> Source:
        return Source(0, line, column, root.label, above)

    for fault in document.faults:
        draft.report(source(fault.line, fault.column), (*above, *fault.path), fault.text)
    if isinstance(document.value, dict):
        for key, value in document.value.items():
            draft.put((*above, key), value, root)
        for path, line in document.lines.items():
            draft.locate((*above, *path), source(line))
    elif document.value is not None:
        text = "should be a mapping of keys, such as `name: my-agent`"
        draft.report(source(document.lines[()]), (), text)


def _apply_overrides(draft: Draft, overrides: Mapping[str, Any]) -> None:
    keys = known_keys()
    for name, value in overrides.items():
        path = tuple(name.split("."))
        source = Source(2, 0, 0, f"override {name}", path)
        if path not in keys:
            draft.report(source, path, f"unknown key; {suggest(path)}")
        elif not _can_be_json(value):
            draft.report(source, path, "is nothing that config.yaml can hold")
        else:
            draft.put(path, value, source)


def _can_be_json(value: object) -> bool:
    try:
        to_json(value)
    except ValueError:
        return False
    return True
