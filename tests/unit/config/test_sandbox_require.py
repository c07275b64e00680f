"""``sandbox.require``: names of controls, and the right one for a wrong one."""

from __future__ import annotations

from pathlib import Path

import pytest

from kagent_sdk.config import load_config
from kagent_sdk.config.sandbox import CONTROLS
from kagent_sdk.errors import ConfigError
from kagent_sdk.sandbox.controls import Control


def complaint(folder: Path, names: str) -> str:
    """Return what is said of a list of names."""
    (folder / "config.yaml").write_text(f"sandbox:\n  require: {names}\n")
    with pytest.raises(ConfigError) as caught:
        load_config(folder, environ={})
    return str(caught.value)


def test_the_names_are_those_of_the_controls() -> None:
    """The configuration lies below the sandbox and cannot import them."""
    assert set(CONTROLS) == {control.value for control in Control}
    assert len(CONTROLS) == len(Control)


def test_every_control_may_be_required(tmp_path: Path) -> None:
    """All of them at once too."""
    (tmp_path / "config.yaml").write_text(f"sandbox:\n  require: [{', '.join(CONTROLS)}]\n")

    assert load_config(tmp_path, environ={}).sandbox.require == CONTROLS


def test_a_wrong_name_is_refused_with_the_nearest(tmp_path: Path) -> None:
    """An agent that requires a control that does not exist would require nothing."""
    text = complaint(tmp_path, "[files, syscall]")

    assert text.startswith("config.yaml:2: sandbox.require[1]: ")
    assert '"syscall" is no control of the sandbox; did you mean "syscalls"?' in text
    assert 'did you mean "read_only_root"?' in complaint(tmp_path, "[Read-Only-Root]")


def test_a_name_like_no_other_is_refused_with_all(tmp_path: Path) -> None:
    """Whoever knows none of them finds them there."""
    text = complaint(tmp_path, "[moat]")

    assert "they are user, descriptors" in text
