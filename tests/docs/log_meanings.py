"""What the events of the logs mean, in a sentence for an operator."""

from __future__ import annotations

from collections.abc import Mapping

MEANINGS: Mapping[str, str] = {}
