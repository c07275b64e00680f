"""What the tests of debug sessions share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.unit.debug.rig import Rig


@pytest.fixture
def rig() -> Iterator[Rig]:
    """A server with a fake worker; ended with the test."""
    made = Rig()
    yield made
    made.close()
