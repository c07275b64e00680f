"""Find the NATS server that a call goes through: by its address, or by the mesh that links to it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from kagent_sdk.cli.boundary import UsageError
from kagent_sdk.cli.location import HOST_FILE, named_token, read_note
from kagent_sdk.cli.target import Credentials, Target
from kagent_sdk.cli.text import clean_line

if TYPE_CHECKING:
    from collections.abc import Mapping

FLEET_FILE = Path(".kos-mesh", "fleet.json")
NATS_SCHEMES = frozenset({"nats", "tls"})


def find_nats(
    url: str | None, directory: Path, credentials: Credentials, environ: Mapping[str, str]
) -> Target | None:
    """Return the NATS server at an address, or else the one of the mesh in a folder; None: there is none.

    Raises:
        UsageError: the address or the token file cannot be used.
    """
    found = url
    if url is None and read_note(directory, HOST_FILE) is None:
        link = (read_note(directory, FLEET_FILE) or {}).get("link")
        found = link if isinstance(link, str) else None
    if found is None or not is_nats(found):
        return None
    return Target(
        _check(found),
        named_token(credentials.token_file, environ),
        client_certificate=credentials.client_certificate,
    )


def is_nats(url: str) -> bool:
    """Tell whether an address is meant for NATS."""
    return url.partition("://")[0].lower() in NATS_SCHEMES


def _check(url: str) -> str:
    try:
        parts = urlsplit(url)
        is_whole = bool(parts.hostname) and parts.port != 0 and parts.path in {"", "/"}
    except ValueError:
        is_whole, parts = False, urlsplit("")
    if parts.username is not None or parts.query or parts.fragment:
        raise UsageError(
            "the address of NATS has no user, query or fragment; put the token into a file and name "
            "it with --token-file FILE"
        )
    if not is_whole or not url.isascii() or not url.isprintable() or " " in url:
        raise UsageError(f"'{clean_line(url)}' is not an address of NATS; write nats://HOST:PORT")
    return url.rstrip("/")
