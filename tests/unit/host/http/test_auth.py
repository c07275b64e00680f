"""Who may call: refuse to start rather than to be open, and never show the token."""

from __future__ import annotations

import ssl
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kagent_sdk.config.models import HttpConfig, TlsConfig
from kagent_sdk.errors import ConfigError, VaultError
from kagent_sdk.host.http.auth import (
    LINK_ROUTES,
    OPEN_ROUTES,
    TOKEN_OVERLAP_S,
    Gatekeeper,
    is_loopback,
    load_token,
    tls_context,
)
from kagent_sdk.host.vault import Vault
from kagent_sdk.protocol.problem import Problem, RequestError
from tests.unit.host.http.certificates import write_certificates

if TYPE_CHECKING:
    from pathlib import Path

TOKEN = "0123456789-a.b_c~d+e/f=="  # noqa: S105 - of these tests
LOCAL = {"Host": "localhost:8080"}


def decide(address: str = "127.0.0.1", token: str | None = None, **config: object) -> Gatekeeper:
    """Decide as the host does at its start."""
    return Gatekeeper.decide(HttpConfig.model_validate(config), address=address, token=token)


def refusal_of(gatekeeper: Gatekeeper, route: str, headers: dict[str, str]) -> Problem:
    """Return the answer to a request that is refused."""
    with pytest.raises(RequestError) as caught:
        gatekeeper.check(route, headers)
    return caught.value.problem


@pytest.mark.parametrize(
    ("address", "is_local"),
    [
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("[::1]", True),
        ("localhost", True),
        ("LocalHost", True),
        ("0.0.0.0", False),  # noqa: S104 - judged, never bound
        ("::", False),
        ("10.0.0.1", False),
        ("::ffff:10.0.0.1", False),
        ("example.com", False),
        ("localhost.example.com", False),
        ("", False),
    ],
)
def test_what_is_loopback(address: str, is_local: bool) -> None:
    """The decision to start without a token rests on it."""
    assert is_loopback(address) is is_local


def test_a_rotated_token_has_an_overlap_that_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """Callers learn of it at different times; the one that leaked must not stay good for ever."""
    clock = [100.0]
    monkeypatch.setattr("kagent_sdk.host.http.auth.time.monotonic", lambda: clock[0])
    gatekeeper = decide(token=TOKEN)
    old, new = ({"Authorization": f"Bearer {token}"} for token in (TOKEN, f"new{TOKEN}"))

    gatekeeper.take(f"new{TOKEN}", clock[0])
    gatekeeper.take(f"new{TOKEN}", clock[0] + 50)
    gatekeeper.check("/status", old)
    gatekeeper.check("/status", new)

    clock[0] += TOKEN_OVERLAP_S
    gatekeeper.check("/status", new)
    assert refusal_of(gatekeeper, "/status", old).status == 401
    gatekeeper.take(None, clock[0])
    assert gatekeeper.is_token_required


def test_a_token_that_appears_is_demanded_at_once() -> None:
    """Whoever adds one to the vault wants the door closed."""
    gatekeeper = decide()
    gatekeeper.take(TOKEN, 0.0)

    assert refusal_of(gatekeeper, "/status", LOCAL).status == 401
    gatekeeper.check("/status", {"Authorization": f"Bearer {TOKEN}"})


def test_an_agent_that_is_open_stays_open() -> None:
    """With `http.auth: none` a token in the vault means nothing, at the start and later."""
    gatekeeper = decide(auth="none")
    gatekeeper.take(TOKEN, 0.0)

    gatekeeper.check("/status", {})


@pytest.mark.parametrize("address", ["0.0.0.0", "::", "10.0.0.1", "example.com"])  # noqa: S104
def test_it_refuses_to_listen_to_the_network_without_a_token(address: str) -> None:
    """An agent runs code on request: open by accident is a shell for everyone."""
    with pytest.raises(ConfigError, match="without a token") as caught:
        decide(address)
    for way_out in ("agent_token", "AGENT_TOKEN_FILE", "127.0.0.1", "http.auth to none"):
        assert way_out in str(caught.value)


def test_it_refuses_to_start_when_the_token_that_is_demanded_is_missing() -> None:
    """`http.auth: token` must never silently mean none."""
    with pytest.raises(ConfigError, match=r"http.auth is token, but there is none"):
        decide(auth="token")


@pytest.mark.parametrize(
    ("address", "token", "config", "is_required", "warning"),
    [
        ("127.0.0.1", None, {}, False, ""),
        ("127.0.0.1", TOKEN, {}, True, ""),
        ("127.0.0.1", TOKEN, {"auth": "none"}, False, ""),
        ("10.0.0.1", TOKEN, {}, True, "in clear text"),
        ("10.0.0.1", TOKEN, {"tls": {"certificate": "c", "key": "k"}}, True, ""),
        ("10.0.0.1", None, {"auth": "none"}, False, "anyone who reaches 10.0.0.1"),
        ("10.0.0.1", TOKEN, {"auth": "token"}, True, "in clear text"),
    ],
)
def test_when_a_token_is_required(
    address: str, token: str | None, config: dict[str, object], is_required: bool, warning: str
) -> None:
    """A token that is there is used; what is risky but asked for is at least said."""
    gatekeeper = decide(address, token, **config)

    assert gatekeeper.is_token_required is is_required
    assert [warning in each for each in gatekeeper.warnings] == ([True] if warning else [])
    assert TOKEN not in repr(gatekeeper)


@pytest.mark.parametrize("route", ["/status", "/v1/tasks", "/openapi.json", "/metrics", "none"])
def test_every_route_but_the_probes_needs_the_token(route: str) -> None:
    """A kubelet has no token; everybody else needs one."""
    gatekeeper = decide(token=TOKEN)

    gatekeeper.check(route, {"Authorization": f"Bearer {TOKEN}"})
    assert refusal_of(gatekeeper, route, {}).status == 401
    for probe in OPEN_ROUTES:
        gatekeeper.check(probe, {})


@pytest.mark.parametrize(
    "value",
    ["", "Bearer", f"Basic {TOKEN}", f"Bearer {TOKEN}x", f"Bearer {TOKEN[:-1]}", "Bearer é"],
)
def test_a_wrong_token_is_refused_with_a_challenge(value: str) -> None:
    """RFC 6750: the client learns that its token is wrong, and nothing else."""
    problem = refusal_of(decide(token=TOKEN), "/status", {"Authorization": value})

    assert problem.status == 401
    assert 'error="invalid_token"' in problem.headers["WWW-Authenticate"]
    assert TOKEN not in problem.to_bytes().decode()


@given(st.text(st.characters(exclude_categories=[])))
def test_no_authorization_causes_anything_but_an_answer(value: str) -> None:
    """Bytes that are no text arrive from aiohttp as lone surrogates."""
    for sent in (value, f"Bearer {value}"):
        assert refusal_of(decide(token=TOKEN), "/status", {"Authorization": sent}).status == 401


@pytest.mark.parametrize(
    "headers",
    [
        LOCAL,
        {"Host": "127.0.0.1"},
        {"Host": "[::1]:80"},
        {"Host": "LOCALHOST"},
        {"Host": "127.1.1.1:1"},
    ],
)
def test_local_programs_need_no_token_on_loopback(headers: dict[str, str]) -> None:
    """`kos-agent init` and `run` must work at once."""
    decide().check("/status", headers)


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "localhost:8080", "Origin": "https://evil.example"},
        {"Host": "localhost:8080", "Origin": "null"},
        {"Host": "evil.example"},
        {"Host": "evil.example:8080"},
        {"Host": "localhost.evil.example"},
        {"Host": "10.0.0.1"},
        {"Host": "[::2]:80"},
    ],
)
def test_web_pages_do_not_get_in_on_loopback(headers: dict[str, str]) -> None:
    """A page that its user happens to visit can send requests to 127.0.0.1, and rebind its name."""
    problem = refusal_of(decide(), "/v1/tasks", headers)

    assert (problem.status, problem.code) == (403, "foreign_origin")
    decide().check("/healthz", headers)
    decide(token=TOKEN).check("/status", {**headers, "Authorization": f"Bearer {TOKEN}"})
    decide(auth="none").check("/status", headers)


def write_token(path: Path, text: str, mode: int = 0o600) -> dict[str, str]:
    """Write a token file and return the environment that names it."""
    path.write_text(text)
    path.chmod(mode)
    return {"AGENT_TOKEN_FILE": str(path)}


def test_the_token_comes_from_its_file_or_else_from_the_vault(tmp_path: Path) -> None:
    """An orchestrator mounts a token without touching the author's vault."""
    environ = write_token(tmp_path / "token", f"  {TOKEN}\n")
    vault = Vault({"agent_token": f"{TOKEN}vault\n".replace("==", "")})

    assert load_token(vault, environ) == TOKEN
    assert load_token(vault, {}) == f"{TOKEN}vault".replace("==", "")
    assert load_token(vault, {"AGENT_TOKEN_FILE": ""}) is not None
    assert load_token(Vault({}), {}) is None


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "must have 16 characters or more"),
        ("secret-secret-1", "must have 16 characters or more"),
        ("secret secret secret", "letters, digits and"),
        ("secret-sécret-secret", "letters, digits and"),
        ("secret\nsecret-secret-secret", "letters, digits and"),
        ("secret-secret-secret\udcff", "letters, digits and"),
        ("s" * 5000, "over 4096 bytes"),
    ],
)
def test_a_token_that_cannot_serve_is_refused_without_showing_it(
    tmp_path: Path, text: str, reason: str
) -> None:
    """A weak or garbled token is found at the start, not by an attacker or at the first call."""
    environ = write_token(tmp_path / "token", "")
    (tmp_path / "token").write_bytes(text.encode("utf-8", "surrogateescape"))

    with pytest.raises(ConfigError, match=reason) as caught:
        load_token(Vault({}), environ)
    assert "secret-" not in str(caught.value)
    assert str(tmp_path) not in str(caught.value)


def test_a_token_file_that_is_open_or_missing_is_refused(tmp_path: Path) -> None:
    """Whoever can read it can use the agent."""
    with pytest.raises(ConfigError, match=r"AGENT_TOKEN_FILE is open to every user.*chmod 600"):
        load_token(Vault({}), write_token(tmp_path / "token", TOKEN, 0o644))
    with pytest.raises(ConfigError, match="AGENT_TOKEN_FILE does not exist"):
        load_token(Vault({}), {"AGENT_TOKEN_FILE": str(tmp_path / "none")})
    with pytest.raises(VaultError, match="agent_token"):
        load_token(Vault({"agent_token": 7}), {})


def shake_hands(server: ssl.SSLContext, client: ssl.SSLContext) -> str | None:
    """Connect the two in memory; return the version that they agree on."""
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = (
        client.wrap_bio(to_client, to_server, server_hostname="localhost"),
        server.wrap_bio(to_server, to_client, server_side=True),
    )
    for _ in range(5):
        for end in ends:
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
    # In TLS 1.3 the client is content before the server has seen its certificate.
    with suppress(ssl.SSLWantReadError):
        ends[1].read(1)
    return ends[1].version()


def client_context(folder: Path, *, with_certificate: bool) -> ssl.SSLContext:
    """Return a client that trusts the test's CA."""
    context = ssl.create_default_context(cafile=str(folder / "ca.pem"))
    if with_certificate:
        context.load_cert_chain(folder / "client.pem", folder / "client.key")
    return context


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a CA, and certificates of a server and a client."""
    folder = tmp_path_factory.mktemp("certificates")
    write_certificates(folder)
    return folder


def test_tls_serves_with_the_given_certificate(certificates: Path) -> None:
    """Modern versions only."""
    config = TlsConfig(certificate="server.pem", key="server.key")
    server = tls_context(config, certificates)
    client = client_context(certificates, with_certificate=False)

    assert shake_hands(server, client) == "TLSv1.3"
    client.maximum_version = ssl.TLSVersion.TLSv1_2
    assert shake_hands(server, client) == "TLSv1.2"
    assert server.minimum_version is ssl.TLSVersion.TLSv1_2


def test_with_a_client_ca_a_client_must_show_its_certificate(certificates: Path) -> None:
    """Mutual TLS is what replaces the token between machines."""
    config = TlsConfig(certificate="server.pem", key="server.key", client_ca="ca.pem")
    server = tls_context(config, certificates)

    assert shake_hands(server, client_context(certificates, with_certificate=True)) == "TLSv1.3"
    with pytest.raises(ssl.SSLError, match=r"(?i)did not return a certificate"):
        shake_hands(server, client_context(certificates, with_certificate=False))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (
            {"certificate": "none.pem"},
            "http.tls.certificate: none.pem cannot be read: No such file",
        ),
        ({"key": "none.key"}, "http.tls.key: none.key cannot be read: No such file"),
        ({"client_ca": "none.pem"}, "http.tls.client_ca: none.pem cannot be read: No such file"),
        ({"certificate": "garbage"}, "http.tls.certificate: garbage holds no certificate in PEM"),
        ({"certificate": "server.key"}, "http.tls.certificate: server.key holds no certificate"),
        ({"client_ca": "garbage"}, "http.tls.client_ca: garbage holds no certificate in PEM form"),
        ({"key": "client.key"}, "http.tls.key: client.key is not the key of the certificate"),
        ({"key": "garbage"}, "http.tls.key: garbage is not a private key in PEM form"),
        ({"key": "locked.key"}, "http.tls.key: locked.key is not a private key in PEM form"),
    ],
)
def test_a_tls_file_that_cannot_serve_is_named(
    certificates: Path, changed: dict[str, str], message: str
) -> None:
    """OpenSSL's own words are "PEM lib", for any of three files; and it asks for passwords."""
    files = {"certificate": "server.pem", "key": "server.key", **changed}

    with pytest.raises(ConfigError) as caught:
        tls_context(TlsConfig.model_validate(files), certificates)
    assert message in str(caught.value)


LINK_TOKEN = "a-token-for-one-start-of-the-agent"  # noqa: S105 - of these tests


@pytest.mark.parametrize("token", [TOKEN, None])
def test_the_token_of_the_link_opens_what_the_orchestrator_needs_and_nothing_else(
    token: str | None,
) -> None:
    """Whoever gets hold of it can give the agent tasks, but not stop it."""
    gatekeeper = decide(token=token)
    gatekeeper.let_link_in(LINK_TOKEN)
    shown = {"Authorization": f"Bearer {LINK_TOKEN}", "Host": "elsewhere.example"}
    for route in LINK_ROUTES:
        gatekeeper.check(route, shown)

    assert gatekeeper.is_link(shown)
    for route in ("/v1/shutdown", "/metrics", "/v1/capabilities/{name}", "/v1/snapshots"):
        assert refusal_of(gatekeeper, route, shown).status in {401, 403}


def test_nobody_else_is_the_link() -> None:
    """A forged lease would let anybody answer for the agent."""
    gatekeeper = decide(token=TOKEN)
    shown = {"Authorization": f"Bearer {LINK_TOKEN}"}
    assert not gatekeeper.is_link(shown)
    gatekeeper.let_link_in(LINK_TOKEN)

    assert not gatekeeper.is_link({"Authorization": f"Bearer {TOKEN}"})
    assert not gatekeeper.is_link({})
    assert refusal_of(gatekeeper, "/v1/tasks", {"Authorization": "Bearer nobody"}).status == 401
    gatekeeper.check("/v1/shutdown", {"Authorization": f"Bearer {TOKEN}"})
    assert LINK_TOKEN not in repr(gatekeeper)
