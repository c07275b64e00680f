"""Which certificates a client trusts, and which it shows. Imported for https alone."""

from __future__ import annotations

import re
import ssl
from typing import TYPE_CHECKING

from kagent_sdk.cli.boundary import UsageError
from kagent_sdk.cli.text import clean_line
from kagent_sdk.config import read_config
from kagent_sdk.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from kagent_sdk.cli.target import Target

MAX_CERTIFICATE_BYTES = 1024 * 1024

_FIRST_CERTIFICATE = re.compile(
    r"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL
)


def client_context(target: Target) -> ssl.SSLContext:
    """Return the context for the connections to an agent: TLS 1.2 or later, always verified.

    An agent somewhere else must show a certificate for its name from an authority of the system
    or of ``SSL_CERT_FILE``. One that was found by its folder must show the very certificate that
    lies there, whatever name is in it.

    Raises:
        UsageError: the client's own certificate cannot be used.
    """
    context = ssl.create_default_context(cadata=target.certificate)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if target.certificate is not None:
        context.check_hostname = False
        # The agent's certificate is the anchor itself, not its authority (RFC 5280, 6.1).
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    if target.client_certificate is not None:
        _show_certificate(context, target.client_certificate)
    return context


def own_certificate(directory: Path, environ: Mapping[str, str]) -> str | None:
    """Return the certificate that the agent of a folder serves with, as PEM; None if not known."""
    try:
        tls = read_config(directory, environ=environ).config.http.tls
        if tls is None:
            return None
        with (directory / tls.certificate).open("rb") as file:
            text = file.read(MAX_CERTIFICATE_BYTES).decode("ascii", "replace")
    except (ConfigError, OSError):
        return None
    # The chain's first is the agent's own; those behind it sign for others too.
    found = _FIRST_CERTIFICATE.search(text)
    return found[0] if found else None


def _show_certificate(context: ssl.SSLContext, path: Path) -> None:
    try:
        # An encrypted key would be asked for on the terminal.
        context.load_cert_chain(path, password="")
    except (OSError, ValueError) as exc:
        reason = exc.strerror if type(exc) is FileNotFoundError else "not PEM with both parts"
        raise UsageError(
            f"cannot use the client certificate {clean_line(path)}: {reason}; it must hold a "
            "certificate and its unencrypted key"
        ) from None
