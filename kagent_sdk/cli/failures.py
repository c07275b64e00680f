"""Why an agent could not be talked to, as one line with a way out. Pure."""

from __future__ import annotations

import http.client
import ssl

from kagent_sdk.cli.text import clean_line


def explain_failure(error: OSError | http.client.HTTPException, url: str) -> str:
    """Return what went wrong on the way to the agent at an address, or back."""
    if isinstance(error, ssl.SSLError):
        return _explain_tls(error, url)
    if isinstance(error, TimeoutError):
        return f"the agent at {url} does not answer in time; see: kos-agent health"
    if isinstance(error, ConnectionRefusedError):
        return f"no agent listens at {url}; start one with: kos-agent run DIR"
    if isinstance(error, http.client.IncompleteRead | ConnectionResetError):
        return f"the agent at {url} ended the connection before its answer was whole{_hint(url)}"
    if isinstance(error, http.client.HTTPException):
        return f"what listens at {url} does not speak HTTP; is the address right?"
    said = clean_line(error.strerror) if error.strerror else ""
    reason = f"{said[0].lower()}{said[1:]}" if said else type(error).__name__
    return f"cannot talk to the agent at {url}: {reason}"


def _hint(url: str) -> str:
    # With TLS 1.3 a server learns of a missing certificate after the handshake, and just leaves.
    if url.startswith("https:"):
        return "; if it asks for a certificate, name yours with --client-cert FILE"
    return ""


def _explain_tls(error: ssl.SSLError, url: str) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return (
            f"the certificate of {url} cannot be trusted ({clean_line(error.verify_message).rstrip('.')}); "
            "for an authority of your own set SSL_CERT_FILE to its certificate"
        )
    reason = error.reason or "TLS failed"
    if "CERTIFICATE_REQUIRED" in reason:
        return f"the agent at {url} asks for a certificate; name yours with --client-cert FILE"
    if reason == "WRONG_VERSION_NUMBER":
        return f"what listens at {url} does not speak TLS; try http:// in place of https://"
    return f"no TLS with the agent at {url}: {clean_line(reason).replace('_', ' ').lower()}"
