"""What a snapshot says of itself, and which members it may have. Pure.

::

    manifest.json    this
    state.jsonl      one key of the state per line
    tasks.jsonl      open tasks, what their capabilities were, and their events
    cache/…          files of runtime/cache, if they were asked for
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from kagent_sdk.errors import SnapshotError

FORMAT = 1
"""Of the file. One that this release does not know is refused whatever is forced."""

MANIFEST = "manifest.json"
STATE = "state.jsonl"
TASKS = "tasks.jsonl"
CACHE = "cache/"

MAX_MANIFEST_BYTES = 16 * 1024 * 1024
MAX_CACHE_FILES = 20_000
MAX_PATH_BYTES = 1024
MAX_PART_BYTES = 255
"""NAME_MAX of Linux (limits.h)."""
MAX_PATH_DEPTH = 32
MAX_MEMBER_BYTES = 8**11 - 1
"""What the size field of a tar header can say (POSIX, ustar interchange format)."""

MAX_COUNT = 2**53 - 1
"""What every JSON reader gets right (RFC 8259, 6)."""

_MAX_SHOWN_CHARS = 100
_LAST_YEAR = 2200


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Member(_Part):
    """One file in the archive."""

    name: str
    size_bytes: int = Field(ge=0, le=MAX_MEMBER_BYTES)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")


class Manifest(_Part):
    """The first member of every snapshot. It holds no value of the state and nothing of a task."""

    format: Literal[1] = 1
    schema_version: int = Field(ge=1, le=1_000_000, description="Of the database it was made from.")
    agent: str = Field(pattern=r"^[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?$")
    agent_version: str = Field(max_length=100)
    sdk_version: str = Field(max_length=100)
    created_at: AwareDatetime = Field(description="The moment that it shows; whole seconds.")
    state_version: int = Field(ge=0, le=MAX_COUNT, description="Of the state's last change.")
    state_keys: int = Field(ge=0, le=MAX_COUNT)
    state_bytes: int = Field(ge=0, le=MAX_COUNT, description="Of all keys and values.")
    open_tasks: int = Field(ge=0, le=MAX_COUNT)
    members: Annotated[tuple[Member, ...], Field(max_length=MAX_CACHE_FILES + 2)]

    @field_validator("created_at")
    @classmethod
    def _be_a_second(cls, created_at: datetime) -> datetime:
        if created_at.microsecond or not 1970 <= created_at.year < _LAST_YEAR:
            raise ValueError("should be a whole second of this age")
        return created_at.astimezone(UTC)

    @model_validator(mode="after")
    def _know_its_members(self) -> Self:
        names = [member.name for member in self.members]
        if names[:2] != [STATE, TASKS]:
            raise ValueError(f"the members should begin with {STATE} and {TASKS}")
        _check_cache_names(names[2:])
        return self

    @property
    def has_cache(self) -> bool:
        """Whether files of ``runtime/cache`` are in it."""
        return len(self.members) > 2

    @property
    def created_s(self) -> int:
        """When it was made, in seconds since the epoch."""
        return int(self.created_at.timestamp())

    def to_bytes(self) -> bytes:
        """Return the member ``manifest.json``, for people too.

        Raises:
            SnapshotError: it names so many files that nobody would read it.
        """
        text = self.model_dump_json(indent=1).encode() + b"\n"
        if len(text) > MAX_MANIFEST_BYTES:
            raise SnapshotError("the cache has too many files; make the snapshot without it")
        return text


def parse_manifest(raw: bytes) -> Manifest:
    """Read ``manifest.json``, trusting nothing in it.

    Raises:
        SnapshotError: it is none, or of a format that this release does not know.
    """
    try:
        version = _Versioned.model_validate_json(raw).format
    except ValidationError as exc:
        raise SnapshotError(f"{MANIFEST} is damaged: {_explain(exc)}") from None
    if version != FORMAT:
        raise SnapshotError(
            f"the snapshot has format {version}, and this release knows {FORMAT} alone: "
            "install a newer kagent-sdk"
        )
    try:
        return Manifest.model_validate_json(raw)
    except ValidationError as exc:
        raise SnapshotError(f"{MANIFEST} is damaged: {_explain(exc)}") from None


class _Versioned(BaseModel):
    model_config = ConfigDict(strict=True, extra="ignore")

    format: int = Field(ge=1, le=MAX_COUNT)


def _explain(exc: ValidationError) -> str:
    first: Any = exc.errors(include_url=False, include_input=False)[0]
    where = ".".join(str(part) for part in first["loc"])
    return show(f"{where}: {first['msg']}" if where else str(first["msg"]), 200)


def show(text: str, limit_chars: int = _MAX_SHOWN_CHARS) -> str:
    """Return what a file says of itself as one short line of printable ASCII."""
    cut = text if len(text) <= limit_chars else f"{text[:limit_chars]}..."
    return json.dumps(cut)[1:-1]


def is_cache_path(path: str) -> bool:
    """Tell whether a path below the cache may be in a snapshot: relative, plain and not too long."""
    try:
        parts = path.encode().split(b"/")
    except UnicodeEncodeError:
        return False
    return (
        len(path.encode()) <= MAX_PATH_BYTES
        and len(parts) <= MAX_PATH_DEPTH
        and all(0 < len(part) <= MAX_PART_BYTES for part in parts)
        and not {b".", b".."} & set(parts)
        and not any(char < " " or "\x7f" <= char <= "\x9f" or char == "\\" for char in path)
    )


def _check_cache_names(names: list[str]) -> None:
    folders: set[str] = set()
    before = b""
    for name in names:
        if not name.startswith(CACHE) or not is_cache_path(name.removeprefix(CACHE)):
            raise ValueError(f"'{show(name)}' is no name of a member")
        raw = name.encode()
        if raw <= before:
            raise ValueError(f"'{show(name)}' comes twice or out of order")
        before = raw
        parts = name.split("/")
        folders.update("/".join(parts[:count]) for count in range(1, len(parts)))
    for name in names:
        if name in folders:
            raise ValueError(f"'{show(name)}' is a file and a folder")
