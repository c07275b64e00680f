"""Which keys of the configuration are set, to what, and where."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kagent_sdk.config.document import parse_document
from kagent_sdk.config.environment import variable_of
from kagent_sdk.config.keys import dotted, known_keys, section_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from kagent_sdk.config import LoadedConfig


@dataclass(frozen=True, slots=True)
class Setting:
    """A key that is set.

    Attributes:
        key: with dots, such as ``http.port``.
        value: as JSON can say it.
        origin: ``config.yaml:3``, or the name of an environment variable.
    """

    key: str
    value: Any
    origin: str


def list_settings(loaded: LoadedConfig, environ: Mapping[str, str]) -> list[Setting]:
    """Return what is set, in the order of the published schema.

    Args:
        loaded: a configuration that is valid.
        environ: the environment that it was read with.
    """
    lines = _lines_of(loaded)
    values = loaded.config.model_dump(mode="json")
    settings = []
    for path, field in known_keys().items():
        origin = _origin(path, environ, lines)
        value = _find(values, path)
        is_filled_section = section_of(field) is not None and isinstance(value, dict)
        if origin is not None and not is_filled_section:
            settings.append(Setting(dotted(path), value, origin))
    return settings


def _origin(
    path: tuple[str, ...], environ: Mapping[str, str], lines: Mapping[tuple[str, ...], str]
) -> str | None:
    variable = variable_of(path)
    return variable if variable in environ else lines.get(path)


def _lines_of(loaded: LoadedConfig) -> dict[tuple[str, ...], str]:
    if loaded.path is None:
        return {}
    document = parse_document(loaded.path.read_text(encoding="utf-8-sig"))
    return {
        tuple(str(part) for part in path): f"{loaded.path.name}:{line}"
        for path, line in document.lines.items()
    }


def _find(values: Any, path: tuple[str, ...]) -> Any:
    for part in path:
        values = values.get(part) if isinstance(values, dict) else None
    return values
