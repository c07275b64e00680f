"""The examples in the image."""

from __future__ import annotations
