"""Tests of `kagent_sdk.cli.failures`."""

from __future__ import annotations

import http.client
import socket
import ssl

import pytest

from kagent_sdk.cli.failures import explain_failure

URL = "http://h:1"


def tls_error(reason: str | None) -> ssl.SSLError:
    """Return an error as OpenSSL's bindings raise it."""
    error = ssl.SSLError(1, "[SSL] it failed")
    error.reason = reason or ""
    return error


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (TimeoutError(), "the agent at http://h:1 does not answer in time; see: kos-agent health"),
        (
            ConnectionRefusedError(),
            "no agent listens at http://h:1; start one with: kos-agent run DIR",
        ),
        (
            ConnectionResetError(),
            "the agent at http://h:1 ended the connection before its answer was whole",
        ),
        (
            http.client.IncompleteRead(b""),
            "the agent at http://h:1 ended the connection before its",
        ),
        (
            http.client.BadStatusLine("x"),
            "what listens at http://h:1 does not speak HTTP; is the address",
        ),
        (
            socket.gaierror(-2, "Name or service not known"),
            "cannot talk to the agent at http://h:1: name or service not known",
        ),
        (OSError(), "cannot talk to the agent at http://h:1: OSError"),
        (
            tls_error("TLSV13_ALERT_CERTIFICATE_REQUIRED"),
            "the agent at http://h:1 asks for a certificate",
        ),
        (
            tls_error("WRONG_VERSION_NUMBER"),
            "what listens at http://h:1 does not speak TLS; try http://",
        ),
        (tls_error("UNEXPECTED_EOF"), "no TLS with the agent at http://h:1: unexpected eof"),
        (tls_error(None), "no TLS with the agent at http://h:1: tls failed"),
    ],
)
def test_every_failure_is_one_line_with_a_way_out(
    error: OSError | http.client.HTTPException, line: str
) -> None:
    """The errors of sockets are for people who write servers."""
    assert explain_failure(error, URL).startswith(line)


def test_a_certificate_that_cannot_be_trusted_says_why() -> None:
    """And how to trust an authority of one's own; never how to trust everybody."""
    error = ssl.SSLCertVerificationError(1, "failed")
    error.verify_message = "self-signed certificate"

    line = explain_failure(error, URL)

    assert "cannot be trusted (self-signed certificate)" in line
    assert "SSL_CERT_FILE" in line


def test_a_tls_server_that_just_leaves_may_want_a_certificate() -> None:
    """With TLS 1.3 the handshake is over when the server finds none."""
    line = explain_failure(ConnectionResetError(), "https://h")

    assert line.endswith("if it asks for a certificate, name yours with --client-cert FILE")
