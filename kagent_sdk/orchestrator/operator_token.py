"""The token of operators where nobody has configured one: a random one, which only its owner can read."""

from __future__ import annotations

import os
import secrets
from contextlib import suppress
from pathlib import Path

from kagent_sdk.errors import ConfigError, OrchestratorError
from kagent_sdk.host.http.auth import MAX_TOKEN_FILE_BYTES, check_token
from kagent_sdk.host.secret_file import read_secret_file

OPERATOR_TOKEN_NAME = "operator-token"  # noqa: S105 - the name of a file
TOKEN_BYTES = 32
FILE_MODE = 0o600


def keep_operator_token(data: Path, configured: str | None) -> str:
    """Return the token of operators; it blocks.

    What was made once stays, so that whoever has it keeps it over restarts. Who configures a token
    has no other one: a client that finds this folder would show one that opens nothing.

    Args:
        data: the orchestrator's folder; made if it is not there.
        configured: a token from elsewhere; None: the one in ``operator-token``, made if need be.

    Raises:
        ConfigError: others can read the file, or it holds no token.
        OrchestratorError: it cannot be written.
    """
    path = data / OPERATOR_TOKEN_NAME
    shown = f"the file {data.name}/{OPERATOR_TOKEN_NAME}"
    try:
        if configured is not None:
            _drop_other(path, shown, configured)
            return configured
        data.mkdir(parents=True, exist_ok=True, mode=0o700)
        found = read_secret_file(path, shown, MAX_TOKEN_FILE_BYTES)
        if found is None:
            _make(path)
            found = read_secret_file(path, shown, MAX_TOKEN_FILE_BYTES)
    except FileExistsError:
        raise OrchestratorError(
            f"the orchestrator cannot keep its data in {data}: it is no folder"
        ) from None
    except OSError as exc:
        raise OrchestratorError(f"cannot write {shown}: {exc.strerror}") from None
    return check_token((found or b"").decode("utf-8", "replace").strip(), shown)


def _drop_other(path: Path, shown: str, configured: str) -> None:
    try:
        found = read_secret_file(path, shown, MAX_TOKEN_FILE_BYTES)
    except ConfigError:
        return  # whatever it is, nobody is let in by it
    if found is not None and found.decode("utf-8", "replace").strip() != configured:
        path.unlink(missing_ok=True)


def _make(path: Path) -> None:
    """Put a new token there, whole or not at all; one that another process was faster with stays."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(temporary, flags, FILE_MODE)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(secrets.token_urlsafe(TOKEN_BYTES).encode())
        with suppress(FileExistsError):
            os.link(temporary, path, follow_symlinks=False)
    finally:
        temporary.unlink(missing_ok=True)
