"""Who may call: the token, the check of a request, and TLS.

Secure by default: without a token the control plane listens on loopback alone.
"""

from __future__ import annotations

import hmac
import ipaddress
import re
import ssl
import time
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Self

from kagent_sdk.errors import ConfigError
from kagent_sdk.host.secret_file import read_secret_file
from kagent_sdk.host.vault import TOKEN_KEY
from kagent_sdk.protocol.headers import parse_bearer
from kagent_sdk.protocol.problem import RequestError
from kagent_sdk.protocol.problems import foreign_origin, unauthenticated

if TYPE_CHECKING:
    from collections.abc import Mapping

    from kagent_sdk.config.models import HttpConfig, TlsConfig
    from kagent_sdk.host.vault import Vault

OPEN_ROUTES = frozenset({"/healthz", "/readyz"})
"""A kubelet has no token. What these answer is no secret; everything else needs one."""

TOKEN_FILE_VARIABLE = "AGENT_TOKEN_FILE"  # noqa: S105 - the name of a variable
MAX_TOKEN_FILE_BYTES = 4096
MIN_TOKEN_CHARS = 16
LINK_ROUTES = frozenset(
    {
        "/v1/tasks",
        "/v1/tasks/{id}",
        "/v1/tasks/{id}/events",
        "/v1/tasks/{id}/cancel",
        "/v1/capabilities",
        "/status",
    }
)
"""What the orchestrator may ask of an agent, with the token that it was given at the registration."""

TOKEN_OVERLAP_S = 60.0
"""How long the token before a rotation still opens the door."""

WAY_OUT = (
    f"put a token of {MIN_TOKEN_CHARS} characters or more into secrets/vault.json under "
    f"{TOKEN_KEY!r}, or name a file that holds it in {TOKEN_FILE_VARIABLE}"
)

# What can stand in a header as it is (RFC 6750, 2.1: b64token).
_is_token = re.compile(r"[A-Za-z0-9._~+/-]+=*").fullmatch


def load_token(vault: Vault, environ: Mapping[str, str]) -> str | None:
    """Return the agent's bearer token: from the file of AGENT_TOKEN_FILE, else from the vault.

    Raises:
        ConfigError: the file cannot be used, or the token is too short or cannot be sent.
    """
    name = environ.get(TOKEN_FILE_VARIABLE)
    if not name:
        return None if vault.token is None else check_token(vault.token.strip(), TOKEN_KEY)
    shown = f"the file of {TOKEN_FILE_VARIABLE}"
    content = read_secret_file(Path(name), shown, MAX_TOKEN_FILE_BYTES)
    if content is None:
        raise ConfigError(f"{shown} does not exist")
    return check_token(content.decode("utf-8", "replace").strip(), shown)


def check_token(token: str, where: str) -> str:
    """Return a bearer token that is long enough, and that can stand in a header.

    Raises:
        ConfigError: it is not.
    """
    if len(token) < MIN_TOKEN_CHARS:
        raise ConfigError(f"the token in {where} must have {MIN_TOKEN_CHARS} characters or more")
    if not _is_token(token):
        raise ConfigError(f"the token in {where} may hold letters, digits and . _ ~ + / - alone")
    return token


class Gatekeeper:
    """Checks the token of every request, in constant time.

    Args:
        token: what to demand; None lets everybody in.
        warnings: what the decision should tell the operator; empty when all is well.
        is_local: without a token, let only local programs in: a web page that the user visits can
            reach loopback too, directly (then it sends Origin) or by rebinding a name of its own
            to 127.0.0.1 (then Host is that name).
    """

    __slots__ = ("_expected", "_is_local", "_link", "_previous", "_previous_until_s", "warnings")

    def __init__(
        self, token: str | None, warnings: tuple[str, ...] = (), *, is_local: bool = False
    ) -> None:
        self._expected = None if token is None else token.encode()
        self._is_local = is_local
        self._previous: bytes | None = None
        self._previous_until_s = 0.0
        self._link: bytes | None = None
        self.warnings = warnings

    @classmethod
    def decide(cls, config: HttpConfig, *, address: str, token: str | None) -> Self:
        """Decide who may call a control plane that listens on ``address``.

        Raises:
            ConfigError: the agent must not start like this; the message says what to do.
        """
        is_local = is_loopback(address)
        if config.auth == "none":
            warning = f"http.auth is none: anyone who reaches {address} may use the agent"
            return cls(None, () if is_local else (warning,))
        if token is None:
            if config.auth == "token":
                raise ConfigError(f"http.auth is token, but there is none; {WAY_OUT}")
            if not is_local:
                raise ConfigError(
                    f"the control plane would listen on {address} without a token; {WAY_OUT}; or "
                    "set http.host to 127.0.0.1; or, if anyone may call, set http.auth to none"
                )
            return cls(None, is_local=True)
        warning = f"the token travels to {address} in clear text: set http.tls"
        return cls(token, (warning,) if config.tls is None and not is_local else ())

    def __repr__(self) -> str:
        return f"Gatekeeper(is_token_required={self.is_token_required})"

    @property
    def is_token_required(self) -> bool:
        """Whether a request without the token is refused."""
        return self._expected is not None

    def check(self, route: str, headers: Mapping[str, str]) -> None:
        """Let a request pass, or not.

        Args:
            route: of the request; the two probes are open.
            headers: of the request, looked up without regard to case.

        Raises:
            RequestError: 401, or 403 for a request that a web page made.
        """
        if route in OPEN_ROUTES:
            return
        if self._link is not None and route in LINK_ROUTES and self.is_link(headers):
            return
        if self._expected is None:
            if self._is_local and (
                "Origin" in headers or not _is_local_host(headers.get("Host", ""))
            ):
                raise RequestError(foreign_origin())
            return
        authorization = headers.get("Authorization")
        sent = parse_bearer(authorization)
        if sent is None or not self._knows(sent.encode(), self._expected):
            raise RequestError(unauthenticated(sent=authorization is not None))

    def let_link_in(self, token: str) -> None:
        """Let whoever shows this token in too, but to `LINK_ROUTES` alone."""
        self._link = token.encode()

    def is_link(self, headers: Mapping[str, str]) -> bool:
        """Whether a request comes from the orchestrator."""
        if self._link is None:
            return False
        sent = parse_bearer(headers.get("Authorization"))
        return sent is not None and hmac.compare_digest(sent.encode(), self._link)

    def take(self, token: str | None, now_s: float) -> None:
        """Demand another token from now on; the one before is good for `TOKEN_OVERLAP_S` more.

        Callers learn of a new token at different times: none is to be locked out in between. With
        ``http.auth: none`` nothing changes, and a token is never taken away.

        Args:
            token: the new one.
            now_s: on the clock of `time.monotonic`.
        """
        new = None if token is None else token.encode()
        is_open = self._expected is None and not self._is_local
        if new is None or new == self._expected or is_open:
            return
        self._previous, self._previous_until_s = self._expected, now_s + TOKEN_OVERLAP_S
        self._expected = new

    def _knows(self, sent: bytes, expected: bytes) -> bool:
        if hmac.compare_digest(sent, expected):
            return True
        return (
            self._previous is not None
            and hmac.compare_digest(sent, self._previous)
            and time.monotonic() < self._previous_until_s
        )

    def admits(self, headers: Mapping[str, str]) -> bool:
        """Whether a request may see more than the open routes tell everybody."""
        try:
            self.check("", headers)
        except RequestError:
            return False
        return True


@lru_cache(maxsize=64)
def _is_local_host(host: str) -> bool:
    """Whether the header Host names this machine's loopback, with or without a port."""
    if host.startswith("["):
        return is_loopback(host[1:].partition("]")[0])
    return not host or is_loopback(host.partition(":")[0])


def is_loopback(address: str) -> bool:
    """Whether an address to listen on can be reached from this machine alone."""
    if address.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(address.strip("[]")).is_loopback
    except ValueError:
        return False


def tls_context(config: TlsConfig, folder: Path) -> ssl.SSLContext:
    """Return the server's side of TLS 1.2 and 1.3.

    With ``client_ca`` a client must show a certificate that it signed.

    Raises:
        ConfigError: naming the key, the file and what is wrong with it.
    """
    certificate = _readable(folder, "certificate", config.certificate)
    key = _readable(folder, "key", config.key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    # The error of `load_cert_chain` does not say which file is at fault: try the first alone.
    _load_authorities(
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), certificate, "certificate", config.certificate
    )
    try:
        # Without the answer of a password OpenSSL would ask the terminal for one, and wait.
        context.load_cert_chain(certificate, key, password=lambda: "")
    except ssl.SSLError as exc:
        raise ConfigError(f"http.tls.key: {config.key} {_why_not_key(exc)}") from None
    if config.client_ca is not None:
        authority = _readable(folder, "client_ca", config.client_ca)
        _load_authorities(context, authority, "client_ca", config.client_ca)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def _readable(folder: Path, key: str, name: str) -> Path:
    path = folder / name
    try:
        with path.open("rb"):
            return path
    except OSError as exc:
        raise ConfigError(f"http.tls.{key}: {name} cannot be read: {exc.strerror}") from None


def _load_authorities(context: ssl.SSLContext, path: Path, key: str, name: str) -> None:
    try:
        context.load_verify_locations(path)
    except ssl.SSLError:
        raise ConfigError(f"http.tls.{key}: {name} holds no certificate in PEM form") from None


def _why_not_key(exc: ssl.SSLError) -> str:
    if exc.reason == "KEY_VALUES_MISMATCH":
        return "is not the key of the certificate"
    return f"is not a private key in PEM form without a password ({exc.reason})"
