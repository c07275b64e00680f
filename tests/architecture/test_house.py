"""The real tree keeps the house rules, and what is imported at run time is as cheap as promised."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

import kagent_sdk
from tests.architecture.rules import (
    KAGENT_HOUSE,
    find_big_files,
    find_broken_rules,
    find_long_functions,
)
from tests.architecture.source import read_modules

REPOSITORY = Path(__file__).resolve().parents[2]
PACKAGE = REPOSITORY / "kagent_sdk"

HEAVY = frozenset(
    {
        "aiohttp",
        "aiomonitor",
        "anthropic",
        "click",
        "kagent_sdk.link",
        "kagent_sdk.protocol.link",
        "nats",
        "prometheus_client",
        "psutil",
        "pydantic",
        "rich",
        "stamina",
        "structlog",
        "uvloop",
        "yaml",
    }
)
"""What costs milliseconds and megabytes; design.md, section 7, has the measurements."""


def imported_by(*names: str) -> frozenset[str]:
    """Import modules in a fresh interpreter; return the heavy packages that came along."""
    statement = f"import json, sys, {', '.join(names)}; print(json.dumps(sorted(sys.modules)))"
    result = subprocess.run(
        [sys.executable, "-c", statement], capture_output=True, check=True, cwd=REPOSITORY
    )
    return HEAVY.intersection(json.loads(result.stdout))


def test_the_house_rules_hold() -> None:
    """Layers that nothing enforces do not stay layers."""
    broken = find_broken_rules(read_modules(PACKAGE), KAGENT_HOUSE)

    assert not broken, "\n".join(broken)


@pytest.mark.parametrize("folder", ["tests", "examples", "benchmarks", "scripts"])
def test_what_is_not_shipped_keeps_the_sizes_too(folder: str) -> None:
    """Tests and examples are read more often than the code that they are about."""
    modules = list(read_modules(REPOSITORY / folder).values())

    broken = [*find_big_files(modules), *find_long_functions(modules)]

    assert not broken, "\n".join(broken)


def test_every_public_name_can_be_imported() -> None:
    """Lazy names fail late: a typo in a home would reach a user first."""
    for name in kagent_sdk.__all__:
        assert getattr(kagent_sdk, name) is not None
    assert dir(kagent_sdk) == sorted(kagent_sdk.__all__)
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = kagent_sdk.no_such_name


def test_importing_the_package_imports_nothing_heavy() -> None:
    """`import kagent_sdk` must cost next to nothing, in any process."""
    assert imported_by("kagent_sdk") == frozenset()


def test_the_worker_and_the_agent_import_nothing_of_the_host() -> None:
    """The author's code shares its process, its start-up and its memory with what we import."""
    modules = read_modules(PACKAGE)
    worker = [name for name in modules if name.startswith("kagent_sdk.worker")]

    assert imported_by("kagent_sdk.agent", *worker) <= {"pydantic"}


def test_the_host_imports_only_what_every_start_needs() -> None:
    """/healthz must answer fast after a start: what only some use comes when it is used."""
    assert imported_by("kagent_sdk.host.main").isdisjoint(
        {"aiomonitor", "anthropic", "click", "prometheus_client", "rich"}
    )


def test_the_host_of_an_agent_without_an_orchestrator_imports_nothing_of_a_link() -> None:
    """Most agents have none, and start as fast as before."""
    assert imported_by("kagent_sdk.host.parts", "kagent_sdk.host.http.setup").isdisjoint(
        {"kagent_sdk.link", "kagent_sdk.protocol.link", "nats", "stamina"}
    )


def test_the_command_line_answers_without_importing_an_agent_s_parts() -> None:
    """`kos-agent --help` is typed by people: it must not wait for aiohttp."""
    assert imported_by("kagent_sdk.cli.main").isdisjoint({"aiohttp", "aiomonitor", "psutil"})


def test_a_link_loads_its_client_when_it_sends() -> None:
    """The client of aiohttp takes 100 ms: they are spent in a thread, after the agent is ready."""
    assert imported_by("kagent_sdk.link.http") <= {
        "pydantic",
        "kagent_sdk.link",
        "kagent_sdk.protocol.link",
    }
