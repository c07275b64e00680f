"""What every part of the configuration is."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

MEBIBYTE = 1024 * 1024


class Section(BaseModel):
    """A part of the configuration: frozen, and strict about unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, defer_build=True)
