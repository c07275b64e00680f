"""The vault: the secrets of ``secrets/vault.json``, which the host alone reads.

Nothing here writes a value anywhere: neither ``repr`` nor an error shows one.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic_core import from_json

from kagent_sdk.errors import VaultError
from kagent_sdk.host.secret_file import read_secret_file, refuse_own_writes

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from kagent_sdk.config.models import SecretsConfig

TOKEN_KEY = "agent_token"  # noqa: S105 - the name of a key, not its value
MAX_VAULT_BYTES = 1024 * 1024
MAX_VALUES = 2000
"""A search for the values of more would take seconds to build and a gigabyte to hold."""

IMAGE_FOLDER = Path("/agent")
"""Where the images have the agent; its vault is mounted there, read-only."""

_ABSENT = object()


class Vault:
    """Secrets by name. A name is a key of the file, or a path into it such as ``db.password``.

    Args:
        values: the content of the file.
        file: how messages call the file.
        is_present: whether there is a file at all.
    """

    __slots__ = ("_file", "_values", "is_present")

    def __init__(
        self, values: Mapping[str, Any], *, file: str = "the vault", is_present: bool = True
    ) -> None:
        self._values = values
        self._file = file
        self.is_present = is_present

    def __repr__(self) -> str:
        return f"Vault({len(self._values)} keys)"

    def __eq__(self, other: object) -> bool:
        """Tell whether the other has the same content."""
        # As texts: 1, 1.0 and true are equal in Python.
        return (
            isinstance(other, Vault)
            and self.is_present == other.is_present
            and json.dumps(self._values) == json.dumps(other._values)
        )

    __hash__ = None  # type: ignore[assignment]  # it holds dictionaries

    def __reduce__(self) -> str:
        raise TypeError("a vault is not to be copied or pickled")

    @property
    def token(self) -> str | None:
        """The agent's own bearer token, under the key ``agent_token``; None when there is none.

        Raises:
            VaultError: it is not a string.
        """
        value = self._values.get(TOKEN_KEY)
        if value is not None and not isinstance(value, str):
            raise VaultError(f"{TOKEN_KEY} in {self._file} must be a string")
        return value

    def exposed(self, names: Iterable[str]) -> dict[str, Any]:
        """Return the secrets of these names, for the worker.

        Raises:
            VaultError: the vault has no secret of one of the names, or the name is that of the
                agent's own token.
        """
        wanted = list(dict.fromkeys(names))
        if TOKEN_KEY in wanted:
            raise VaultError(f"secrets.expose must not name {TOKEN_KEY}: it is the host's own")
        self.require(wanted, "secrets.expose")
        return {name: self._find(name) for name in wanted}

    def known(self, names: Iterable[str]) -> dict[str, Any]:
        """Return the secrets of those names that are there, but not the agent's own token."""
        found = {name: self._find(name) for name in names if name != TOKEN_KEY}
        return {name: value for name, value in found.items() if value is not _ABSENT}

    def require(self, names: Iterable[str], key: str) -> None:
        """See that secrets of these names are there.

        Args:
            names: as in `exposed`.
            key: the configuration's that asks for them.

        Raises:
            VaultError: naming those that are missing.
        """
        missing = [name for name in names if self._find(name) is _ABSENT]
        if missing:
            raise VaultError(self._describe_missing(missing, key))

    def texts(self) -> dict[str, str]:
        """Return every value by its path, as the text that it would be printed as.

        The members of objects and lists each count (``db.password``, ``hosts.0``); true, false and
        null do not. Of two values of one path (``{"a.b": …, "a": {"b": …}}``) one is called ``a.b_``.
        """
        texts: dict[str, str] = {}
        for path, text in _iter_texts("", self._values):
            name = path
            while texts.get(name, text) != text:
                name += "_"
            texts[name] = text
        return texts

    def _find(self, name: str) -> Any:
        if name in self._values:
            return self._values[name]
        value: Any = self._values
        for part in name.split("."):
            value = value.get(part, _ABSENT) if isinstance(value, dict) else _ABSENT
        return value

    def _describe_missing(self, missing: list[str], key: str) -> str:
        names = ", ".join(missing)
        if not self.is_present:
            return f"{key} names {names}, but there is no {self._file}; create it, chmod 600"
        return f"{key} names what {self._file} does not have: {names}"


def _iter_texts(path: str, value: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, dict | list):
        members = value.items() if isinstance(value, dict) else enumerate(value)
        for key, member in members:
            yield from _iter_texts(f"{path}.{key}" if path else str(key), member)
    elif isinstance(value, str):
        yield path, value
    elif value is not None and not isinstance(value, bool):
        yield path, json.dumps(value)


def read_vault(folder: Path, config: SecretsConfig) -> Vault:
    """Read the vault of an agent's folder, and see that what the worker needs is there.

    Without a file the vault is empty.

    Raises:
        VaultError: the file is unsafe, is not one strict JSON object, or lacks a key that
            ``secrets.expose`` or ``secrets.required`` names.
    """
    path = folder / config.file
    content = read_secret_file(path, config.file, MAX_VAULT_BYTES, VaultError)
    if content is not None and _must_be_read_only(folder, config):
        refuse_own_writes(path, config.file, VaultError)
    if content is None:
        vault = Vault({}, file=config.file, is_present=False)
    else:
        vault = Vault(_parse(content, config.file), file=config.file)
    vault.exposed(config.expose)
    vault.require(config.required, "secrets.required")
    if len(vault.texts()) > MAX_VALUES:
        raise VaultError(f"{config.file} holds more than {MAX_VALUES} values")
    return vault


def _must_be_read_only(folder: Path, config: SecretsConfig) -> bool:
    if config.read_only_mount is None:
        return folder == IMAGE_FOLDER
    return config.read_only_mount


def _parse(content: bytes, shown: str) -> dict[str, Any]:
    try:
        # Its errors say what and where, but quote nothing; those of `json` hold the whole text.
        from_json(content, allow_inf_nan=False)
    except ValueError as exc:
        raise VaultError(f"{shown} is not valid JSON: {exc}") from None
    try:
        values = json.loads(content, object_pairs_hook=_refuse_twins, parse_float=_finite)
    except _TwinKeyError:
        raise VaultError(f"{shown} has a key twice in one object") from None
    except OverflowError:
        raise VaultError(f"{shown} holds a number that is too large") from None
    if not isinstance(values, dict):
        raise VaultError(f"{shown} must be a JSON object")
    return values


class _TwinKeyError(Exception):
    """A key comes twice; carries nothing, for it may be a secret in the wrong place."""


def _refuse_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise _TwinKeyError
    return members


def _finite(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise OverflowError
    return number
