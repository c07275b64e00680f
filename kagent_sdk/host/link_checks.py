"""What must be in order for a link: its token, its files, and the library that it needs."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from kagent_sdk.errors import ConfigError, VaultError
from kagent_sdk.host.http.auth import MAX_TOKEN_FILE_BYTES, TOKEN_FILE_VARIABLE, check_token
from kagent_sdk.host.secret_file import read_secret_file

if TYPE_CHECKING:
    from collections.abc import Mapping

    from kagent_sdk.config.models import AgentConfig
    from kagent_sdk.config.orchestrator import OrchestratorConfig
    from kagent_sdk.host.vault import Vault
    from kagent_sdk.link.settings import LinkSettings, LinkTls
    from kagent_sdk.snapshots.nats_store import NatsAccess

LINK_TOKEN_FILE_VARIABLE = "AGENT_ORCHESTRATOR_TOKEN_FILE"  # noqa: S105 - the name of a variable
NATS_SCHEMES = ("nats", "tls")


def load_link_token(
    vault: Vault, config: OrchestratorConfig, environ: Mapping[str, str]
) -> str | None:
    """Return the bearer token for the orchestrator: from the file, else from the vault; None for none.

    Raises:
        ConfigError: the file cannot be used, or the token is too short or cannot be sent.
    """
    if config.url is None:
        return None
    name = environ.get(LINK_TOKEN_FILE_VARIABLE)
    if name:
        shown = f"the file of {LINK_TOKEN_FILE_VARIABLE}"
        content = read_secret_file(Path(name), shown, MAX_TOKEN_FILE_BYTES)
        if content is None:
            raise ConfigError(f"{shown} does not exist")
        return check_token(content.decode("utf-8", "replace").strip(), shown)
    value = vault.known((config.token,)).get(config.token)
    if value is None:
        return None
    if not isinstance(value, str):
        raise VaultError(f"{config.token} in the vault must be a string")
    return check_token(value.strip(), config.token)


def token_files(config: OrchestratorConfig, environ: Mapping[str, str]) -> list[str]:
    """Return the files of the host's own tokens, which may change while it runs."""
    names = (
        [TOKEN_FILE_VARIABLE]
        if config.url is None
        else [TOKEN_FILE_VARIABLE, LINK_TOKEN_FILE_VARIABLE]
    )
    return [environ[name] for name in names if environ.get(name)]


def check_link(config: AgentConfig, folder: Path) -> None:
    """See that a link can be made by a configuration; the orchestrator is not asked.

    Raises:
        ConfigError: it cannot; the message names the key and says what to do.
    """
    link = config.orchestrator
    if link.url is None:
        return
    if link.token in config.secrets.expose:
        raise ConfigError(
            f"secrets.expose must not name {link.token}: the token of the orchestrator is the host's own"
        )
    if urlsplit(link.url).scheme in NATS_SCHEMES and find_spec("nats") is None:
        raise ConfigError(
            f"orchestrator.url: {link.url} needs NATS' client: pip install 'kagent-sdk[nats]'"
        )
    if link.tls is not None:
        for key in ("ca", "certificate", "key"):
            _check_file(folder, key, getattr(link.tls, key))


def _check_file(folder: Path, key: str, name: str | None) -> None:
    if name is None:
        return
    try:
        with (folder / name).open("rb"):
            return
    except OSError as exc:
        raise ConfigError(
            f"orchestrator.tls.{key}: {name} cannot be read: {exc.strerror}"
        ) from None


def link_settings(config: AgentConfig, folder: Path) -> LinkSettings:
    """Return what the link is built from; `orchestrator.url` is set."""
    from kagent_sdk.link.settings import LinkSettings  # noqa: PLC0415 - few agents have a link

    link = config.orchestrator
    assert link.url is not None
    return LinkSettings(
        link.url,
        link.delivery,
        heartbeat_s=link.heartbeat_s,
        timeout_s=link.timeout_s,
        tls=_tls_files(link, folder),
        max_body_bytes=config.http.max_body_bytes,
    )


def _tls_files(link: OrchestratorConfig, folder: Path) -> LinkTls | None:
    from kagent_sdk.link.settings import LinkTls  # noqa: PLC0415 - as above

    if link.tls is None:
        return None
    paths = (
        None if name is None else folder / name
        for name in (link.tls.ca, link.tls.certificate, link.tls.key)
    )
    return LinkTls(*paths)


def nats_access(config: AgentConfig, folder: Path, token: str | None) -> NatsAccess:
    """Return as whom snapshots go to NATS: as the link, if that is one of NATS; else as nobody.

    The token of another kind of orchestrator is none of NATS' business.
    """
    from kagent_sdk.snapshots.nats_store import NatsAccess  # noqa: PLC0415 - rare

    link = config.orchestrator
    if link.url is None or urlsplit(link.url).scheme not in NATS_SCHEMES:
        return NatsAccess()
    return NatsAccess(lambda: token, _tls_files(link, folder))
