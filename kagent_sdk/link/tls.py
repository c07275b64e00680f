"""TLS towards an orchestrator, whatever the protocol."""

from __future__ import annotations

import ssl

from kagent_sdk.link.settings import LinkTls


def client_context(files: LinkTls | None) -> ssl.SSLContext:
    """Read the files of TLS; blocks, so call it in a thread.

    Args:
        files: authorities and certificate; None for the system's and none.

    Raises:
        OSError, ValueError: they cannot be read, or are no certificates and key; the text may hold paths.
    """
    files = files or LinkTls()
    context = ssl.create_default_context(cafile=files.ca)
    if files.certificate is not None:
        context.load_cert_chain(files.certificate, files.key, _no_password)
    return context


def _no_password() -> str:
    # Else OpenSSL would ask on the terminal, and wait.
    raise ValueError("the key must not need a password")
