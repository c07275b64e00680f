"""What is set in a configuration, as a table."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kagent_sdk.cli.screens.style import NAME, QUIET, indented, plain_table, word
from kagent_sdk.cli.text import safe_json

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.padding import Padding

    from kagent_sdk.cli.origins import Setting


def setting_table(settings: Sequence[Setting]) -> Padding:
    """Return the keys that are set, one to a line, each with the place where it is set."""
    table = plain_table("KEY", "VALUE", "SET IN", fold=("VALUE",))
    for setting in settings:
        is_text = isinstance(setting.value, str)
        shown = setting.value if is_text else safe_json(setting.value)
        table.add_row(word(setting.key, NAME), word(shown), word(setting.origin, QUIET))
    return indented(table)
