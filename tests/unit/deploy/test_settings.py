"""What differs per environment is read strictly: a setting that is misspelt is no setting."""

from __future__ import annotations

import pytest

from kagent_sdk.deploy.settings import Settings, read_settings
from kagent_sdk.errors import DeployError


def test_without_words_the_defaults_count() -> None:
    """Most people set nothing."""
    assert read_settings([]) == Settings()


def test_the_last_word_on_a_key_counts() -> None:
    """A script appends what it knows better."""
    settings = read_settings(["replicas=2", "image=one:1", "image=two:2"])

    assert settings.image == "two:2"
    assert settings.replicas == 2


def test_an_empty_value_is_the_default() -> None:
    """A variable of the shell that is not set leaves nothing behind the sign."""
    assert read_settings(["image="]).image is None


def test_everything_that_is_wrong_is_told_at_once() -> None:
    """Nobody wants to find three mistakes in three runs."""
    with pytest.raises(DeployError) as caught:
        read_settings(["imag=x", "nonsense", "zzz=1", "replicas=0", "namespace=Not_A_Label"])

    lines = str(caught.value).splitlines()
    assert lines[0] == 'there is no setting "imag"; did you mean "image"?'
    assert lines[1] == '"nonsense" should be KEY=VALUE'
    assert lines[2].startswith('there is no setting "zzz"; they are image, namespace')
    assert [line.partition(":")[0] for line in lines[3:]] == ["namespace", "replicas"]


def test_a_right_setting_beside_a_wrong_one_does_not_count() -> None:
    """Half of what was asked for would be deployed."""
    with pytest.raises(DeployError, match="there is no setting"):
        read_settings(["replicas=2", "imag=x"])
