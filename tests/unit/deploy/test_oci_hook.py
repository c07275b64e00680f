"""kos-agent export oci-hook: a program of its own, and the JSON that makes engines run it."""

from __future__ import annotations

import ast
import json
import sys
from typing import Any

import pytest

from kagent_sdk.deploy.oci_hook import CONFIGURATION, PROGRAM, render, wanted_of
from kagent_sdk.deploy.settings import read_settings
from kagent_sdk.errors import DeployError
from tests.unit.deploy.bundles import deploy


def namespace_of(program: str) -> dict[str, Any]:
    """Return what a program defines, as another one would import it."""
    names: dict[str, Any] = {"__name__": "hook"}
    exec(compile(program, PROGRAM, "exec"), names)  # noqa: S102 - our own text
    return names


def test_the_json_names_the_program_the_stage_and_the_annotation() -> None:
    """It is what podman and CRI-O read (oci-hooks(5), schema 1.0.0)."""
    rendering = render(deploy(hook_path="/opt/kos/hook"))

    assert json.loads(rendering.files[CONFIGURATION]) == {
        "version": "1.0.0",
        "hook": {"path": "/opt/kos/hook", "timeout": 10},
        "when": {"annotations": {r"^io\.kos\.agent$": "^true$"}},
        "stages": ["createRuntime"],
    }
    assert rendering.main == CONFIGURATION
    assert rendering.programs == {PROGRAM}
    assert any("/opt/kos/hook" in note for note in rendering.notes)


def test_the_program_is_python_3_9_and_imports_the_standard_library_alone() -> None:
    """It runs on machines that have no more than their distribution's Python."""
    program = render(deploy()).files[PROGRAM]
    tree = ast.parse(program, feature_version=(3, 9))
    imported = {
        (node.module or "") if isinstance(node, ast.ImportFrom) else node.names[0].name
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
    }

    assert program.startswith("#!/usr/bin/python3 -I\n")
    assert {name.partition(".")[0] for name in imported} <= sys.stdlib_module_names


def test_the_program_holds_what_the_deployment_wants() -> None:
    """The machine has neither config.yaml nor this package."""
    deployment = deploy({"sandbox": {"limits": {"cpu": 2.5}}, "limits": {"gpus": 1}})
    names = namespace_of(render(deployment).files[PROGRAM])

    assert names["WANTED"] == wanted_of(deployment)
    assert names["WANTED"]["cpu_cores"] == 2.5
    assert callable(names["main"])


def test_no_two_parts_of_the_program_use_one_name() -> None:
    """They are joined into one file: a second definition would replace the first."""
    tree = ast.parse(render(deploy()).files[PROGRAM])
    names = [node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)]
    names += [
        target.id
        for node in tree.body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    ]

    assert len(names) == len(set(names))


def test_the_same_deployment_is_the_same_bytes() -> None:
    """A manifest that changes by itself cannot be reviewed."""
    assert render(deploy()) == render(deploy())


@pytest.mark.parametrize("path", ["hook", "/a/../b", "/a b", "/a/", "/"])
def test_a_path_that_an_engine_would_not_find_is_refused(path: str) -> None:
    """The engine runs it as root: it must be plain where it is."""
    with pytest.raises(DeployError):
        read_settings([f"hook_path={path}"])
