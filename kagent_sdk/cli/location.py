"""Find the agent or orchestrator that a command talks to: by its folder, or by its address.

A host writes ``runtime/host.json`` into its folder (pid, url), and an orchestrator
``.kos-mesh/orchestrator.json``, so that nobody types ports.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from kagent_sdk.cli.boundary import UnreachableError, UsageError
from kagent_sdk.cli.target import Credentials, Target
from kagent_sdk.cli.text import clean_line

if TYPE_CHECKING:
    from collections.abc import Mapping

HOST_FILE = Path("runtime", "host.json")
MESH_FILE = Path(".kos-mesh", "orchestrator.json")
VAULT_FILE = Path("secrets", "vault.json")
OPERATOR_TOKEN_FILE = Path(".kos-mesh", "operator-token")
TOKEN_KEY = "agent_token"  # noqa: S105 - the name of a key of the vault, not its value
TOKEN_FILE_VARIABLE = "AGENT_TOKEN_FILE"  # noqa: S105 - the name of a variable
MAX_FILE_BYTES = 1024 * 1024
"""Over any real host.json, token or vault; a file beyond it is another kind of file."""

# A host that listens everywhere is reached here (host addresses: RFC 1122 3.2.1.3, RFC 4291 2.5.2).
_REACHABLE = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}  # noqa: S104 - compared, never bound


def remote_target(url: str, credentials: Credentials, environ: Mapping[str, str]) -> Target:
    """Return the agent at an address; its token comes from a file that the caller names.

    Raises:
        UsageError: the address or the token file cannot be used.
    """
    return Target(
        check_url(url),
        named_token(credentials.token_file, environ),
        client_certificate=credentials.client_certificate,
    )


def local_target(directory: Path, credentials: Credentials, environ: Mapping[str, str]) -> Target:
    """Return the agent that runs in a folder, or else the orchestrator that does.

    Without a token file its own vault has the token of an agent, which is reached by way of its
    engine when it runs in a container.

    Raises:
        UnreachableError: none runs there.
        UsageError: the token file cannot be used.
    """
    try:
        document = find_host(directory)
    except UnreachableError:
        if (mesh := mesh_target(directory, credentials, environ)) is not None:
            return mesh
        raise
    url = reachable_url(check_url(document["url"]))
    relay: tuple[str, ...] = ()
    if is_elsewhere(document):
        from kagent_sdk.cli.containers import find_relay  # noqa: PLC0415 - starts an engine

        relay = find_relay(directory, url)
    token = named_token(credentials.token_file, environ) or vault_token(directory)
    certificate = None
    if url.startswith("https:"):
        from kagent_sdk.cli.tls import own_certificate  # noqa: PLC0415 - ssl, pydantic and yaml

        certificate = own_certificate(directory, environ)
    return Target(url, token, certificate, credentials.client_certificate, relay)


def mesh_target(
    directory: Path, credentials: Credentials, environ: Mapping[str, str]
) -> Target | None:
    """Return the orchestrator that keeps its data in a folder; None when there never was one.

    Raises:
        UnreachableError: it does not run.
        UsageError: the token file cannot be used.
    """
    document = read_note(directory, MESH_FILE)
    if document is None:
        return None
    shown = show_path(directory)
    pid, url = document.get("pid"), document.get("url")
    if type(pid) is not int or not isinstance(url, str) or not url:
        raise UnreachableError(
            f"{shown}/{MESH_FILE} is damaged; restart the orchestrator, or name its address with "
            "--url URL"
        )
    if not is_elsewhere(document) and not is_alive(pid):
        raise UnreachableError(
            f"no orchestrator is running in {shown} (the last one, process {pid}, is gone); "
            "start it with: kos-agent up",
            code="not_running",
        )
    token = named_token(credentials.token_file, environ) or operator_token(directory)
    return Target(
        reachable_url(check_url(url)), token, client_certificate=credentials.client_certificate
    )


def operator_token(directory: Path) -> str | None:
    """Return the token of the orchestrator's operators, or None when there is none to read."""
    try:
        token = _read_bounded(directory / OPERATOR_TOKEN_FILE).decode().strip()
    except (OSError, ValueError):
        return None
    return _check_token(token, str(OPERATOR_TOKEN_FILE)) if token else None


def check_url(url: str) -> str:
    """Return a base address without a slash at the end.

    Raises:
        UsageError: it is no address of an agent, or holds a password.
    """
    try:
        parts = urlsplit(url)
        has_host = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        has_host = False
        parts = urlsplit("")
    if parts.scheme in {"nats", "tls"}:
        raise UsageError(
            "call, capabilities, status and tasks go through NATS, and this does not; name an agent's folder "
            "with -C DIR, or its address: http://HOST:PORT"
        )
    if not has_host or not url.isascii() or not url.isprintable() or " " in url:
        raise UsageError(
            f"'{clean_line(url)}' is not an address of an agent; write http://HOST:PORT"
        )
    if parts.username is not None or parts.query or parts.fragment:
        raise UsageError(
            "the address of an agent has no user, query or fragment; "
            "put the token into a file and name it with --token-file FILE"
        )
    return url.rstrip("/")


def find_host(directory: Path) -> dict[str, Any]:
    """Return what the host of the agent that runs in a folder says of itself.

    Raises:
        UnreachableError: none runs there.
    """
    shown = show_path(directory)
    start = f"start it with: kos-agent run {shown}"
    document = read_note(directory, HOST_FILE)
    if document is None:
        if not directory.is_dir():
            raise UnreachableError(f"there is no folder {shown}", code="not_running")
        raise UnreachableError(f"no agent is running in {shown}; {_way_out(directory, start)}")
    pid, url = document.get("pid"), document.get("url")
    if type(pid) is not int or not isinstance(url, str) or not url:
        raise UnreachableError(
            f"{shown}/{HOST_FILE} is damaged; restart the agent, or name its address with --url URL"
        )
    if not is_elsewhere(document) and not is_alive(pid):
        raise UnreachableError(
            f"no agent is running in {shown} (the last one, process {pid}, is gone); {start}",
            code="not_running",
        )
    return document


def is_elsewhere(document: dict[str, Any]) -> bool:
    """Tell whether a host is in another container than this process: its numbers mean nothing here."""
    from kagent_sdk.host.announcement import pid_namespace  # noqa: PLC0415 - for a running agent

    theirs, ours = document.get("pid_namespace"), pid_namespace()
    return theirs is not None and ours is not None and theirs != ours


def show_path(path: Path) -> str:
    """Return a path for a message; the current folder by its whole name."""
    return clean_line(path.absolute() if path == Path() else path)


def is_alive(pid: int) -> bool:
    """Return whether a process of that id exists."""
    if pid <= 0:
        return False
    try:
        os.kill(pid, 0)
    except PermissionError:
        return True
    except (ProcessLookupError, OverflowError):
        return False
    return True


def reachable_url(url: str) -> str:
    """Return the address with which to reach a host on this machine that listens everywhere."""
    parts = urlsplit(url)
    instead = _REACHABLE.get(parts.hostname or "")
    if instead is None:
        return url
    port = f":{parts.port}" if parts.port else ""
    return f"{parts.scheme}://{instead}{port}{parts.path}"


def named_token(token_file: Path | None, environ: Mapping[str, str]) -> str | None:
    """Return the token from the file that the option or the environment names.

    Raises:
        UsageError: the file cannot be read or holds no token.
    """
    name = token_file or environ.get(TOKEN_FILE_VARIABLE)
    if not name:
        return None
    try:
        token = _read_bounded(Path(name)).decode().strip()
    except (OSError, ValueError) as exc:
        reason = exc.strerror if isinstance(exc, OSError) else "it is not a text file"
        raise UsageError(f"cannot read the token file {clean_line(name)}: {reason}") from None
    return _check_token(token, f"the token file {clean_line(name)}")


def vault_token(directory: Path) -> str | None:
    """Return the token from an agent's own vault, or None when there is none to read."""
    try:
        vault = json.loads(_read_bounded(directory / VAULT_FILE))
    except (OSError, ValueError, RecursionError):
        return None
    token = vault.get(TOKEN_KEY) if isinstance(vault, dict) else None
    return _check_token(token, TOKEN_KEY) if isinstance(token, str) and token else None


def _check_token(token: str, where: str) -> str:
    # RFC 6750 2.1: a token is printable ASCII; anything else would break out of the header.
    if not token or not token.isascii() or not token.isprintable() or " " in token:
        raise UsageError(f"{where} holds no usable token: it must be one line of printable ASCII")
    return token


def _way_out(directory: Path, start: str) -> str:
    if (directory / "config.yaml").exists() or (directory / "entrypoint.py").exists():
        return start
    return "name an agent's folder with -C DIR, or an address with --url URL"


def read_note(directory: Path, name: Path) -> dict[str, Any] | None:
    """Return what a host or an orchestrator says of itself; None when there is no such file."""
    try:
        document = json.loads(_read_bounded(directory / name))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except PermissionError:
        raise UnreachableError(
            f"{show_path(directory)}/{name} may only be read by the user that runs the "
            f"{'agent' if name == HOST_FILE else 'orchestrator'}; become that user, or name the "
            "address with --url URL"
        ) from None
    except (OSError, ValueError, RecursionError):
        return {}
    return document if isinstance(document, dict) else {}


def _read_bounded(path: Path) -> bytes:
    with path.open("rb") as file:
        content = file.read(MAX_FILE_BYTES + 1)
    if len(content) > MAX_FILE_BYTES:
        raise ValueError("too large")
    return content
