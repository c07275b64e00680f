"""Settings of the whole test run; how tests behave is in `tests.conduct`."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

pytest_plugins = ["tests.conduct"]

settings.register_profile(
    "ci",
    derandomize=True,  # the same tree gets the same verdict
    max_examples=50,
    deadline=None,  # two noisy cores: the time of one example says nothing
    suppress_health_check=[HealthCheck.too_slow],
    print_blob=True,
)
settings.register_profile("long", settings.get_profile("ci"), derandomize=False, max_examples=2000)
settings.load_profile("long" if os.environ.get("KOS_TEST_LONG") == "1" else "ci")
