"""Tests of the section ``sandbox``: a policy that cannot be meant is refused, with the line and the reason."""

from __future__ import annotations

from pathlib import Path

import pytest

from kagent_sdk.config import read_config, read_sandbox_file
from kagent_sdk.config.sandbox import SandboxConfig, parse_destination
from kagent_sdk.errors import ConfigError


def read(folder: Path, text: str) -> SandboxConfig:
    """Return the section that a text is."""
    (folder / "policy.yaml").write_text(text)
    return read_sandbox_file(folder / "policy.yaml").sandbox


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("api.example.com:443", ("api.example.com", 443)),
        (" API.Example.COM:443 ", ("api.example.com", 443)),
        ("*.internal:8443", ("*.internal", 8443)),
        ("*.api.example.com:1", ("*.api.example.com", 1)),
        ("10.0.0.1:65535", ("10.0.0.1", 65535)),
        ("[2001:DB8::1]:443", ("2001:db8::1", 443)),
        ("localhost:80", ("localhost", 80)),
    ],
)
def test_a_destination_is_a_host_and_a_port(text: str, expected: tuple[str, int]) -> None:
    """What the proxy compares is read once, in one place."""
    assert parse_destination(text) == expected


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("example.com", "has no port"),
        ("example.com:", "has no port"),
        ("example.com:https", "has no port"),
        ("example.com:\u0664\u0664\u0663", "has no port"),
        ("example.com:0", "has a port outside 1 to 65535"),
        ("example.com:65536", "has a port outside 1 to 65535"),
        ("example.com:0000443", "has a port outside 1 to 65535"),
        ("*:443", "would allow every host"),
        (":443", "would allow every host"),
        ("*.com:443", "would allow a whole top-level domain"),
        ("a..b:443", "is no host and port"),
        ("*.*.example.com:443", "is no host and port"),
        ("https://example.com:443", "is no host and port"),
        ("user@example.com:443", "is no host and port"),
        ("::1:443", "is no host and port"),
        (f"{'a.' * 127}example:443", "is no host and port"),
    ],
)
def test_what_is_no_destination_says_why(text: str, reason: str) -> None:
    """An allow-list that is read differently than it was meant is none."""
    with pytest.raises(ValueError, match=reason):
        parse_destination(text)


def test_destinations_stand_in_one_form(tmp_path: Path) -> None:
    """So that the entries of allow and inject can be compared."""
    config = read(tmp_path, 'network: {allow: ["API.example.com:443", "[2001:DB8::1]:443"]}')

    assert config.network.allow == ("api.example.com:443", "[2001:db8::1]:443")


def test_a_secret_is_added_for_a_host_that_is_allowed(tmp_path: Path) -> None:
    """The header goes to that host, and to no other."""
    inject = '{to: "API.example.com:443", header: x-api-key, secret: key}'
    config = read(tmp_path, f'network: {{allow: ["api.example.com:443"], inject: [{inject}]}}')

    assert config.network.inject[0].to == "api.example.com:443"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (
            "network:\n  allow:\n    - a.example.com",
            '3: network.allow[0]: "a.example.com" has no port',
        ),
        ('network: {allow: ["*:443"]}', "1: network.allow[0]: "),
        ("mode: on\nlimits:\n  cpu: -1", "3: limits.cpu: should be greater than 0"),
        ("limits: {memory_bytes: 1}", "1: limits.memory_bytes: "),
        ("limits: {open_files: -5}", "1: limits.open_files: "),
        ("\nread: [../other]", '2: read[0]: "../other" should be a path without ".."'),
        ('write: [""]', '1: write[0]: "" should be a path'),
        ('execute: ["/a/*"]', '1: execute[0]: "/a/*" is a pattern'),
        (
            "network: {inject: [{to: 'a.example.com:443', header: x, secret: key}]}",
            '1: network: inject is for "a.example.com:443", which is not in allow',
        ),
        (
            "network: {inject: [{to: '*.example.com:443', header: x, secret: key}]}",
            '1: network.inject[0].to: "*.example.com:443" is a pattern',
        ),
    ],
)
def test_a_policy_that_cannot_be_meant_names_line_and_reason(
    tmp_path: Path, text: str, problem: str
) -> None:
    """It is found when the agent starts, and not when the sandbox turns out to have a hole."""
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, text)

    assert f"policy.yaml:{problem}" in str(caught.value)


def test_a_problem_that_is_found_later_can_name_its_line_too(tmp_path: Path) -> None:
    """Which paths lie where only the machine knows."""
    (tmp_path / "config.yaml").write_text("sandbox:\n  write:\n    - lib\n")
    loaded = read_config(tmp_path, environ={})

    assert loaded.describe(("sandbox", "write", 0), "covers code") == (
        "config.yaml:3: sandbox.write[0]: covers code"
    )


def test_the_proxy_on_the_way_has_one_name(tmp_path: Path) -> None:
    """It is dialled without a check: config.yaml alone says who it is."""
    config = read(tmp_path, 'network: {upstream: "Shop-egress:3128"}')

    assert config.network.upstream == "shop-egress:3128"
    assert read(tmp_path, "network: {}").network.upstream is None
    with pytest.raises(ConfigError, match="is a pattern; a proxy has one name"):
        read(tmp_path, 'network: {upstream: "*.example.com:3128"}')
