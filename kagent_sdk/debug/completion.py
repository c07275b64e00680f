"""Completion of a command line: commands, options, and what they take."""

from __future__ import annotations

import builtins
import inspect
import keyword
import re
import shlex
from collections.abc import Iterable
from typing import Any

import click
from click.shell_completion import ShellComplete
from prompt_toolkit.completion import CompleteEvent, Completer, Completion
from prompt_toolkit.document import Document

from kagent_sdk.debug.port import Session

MAX_COMPLETIONS = 100

_DOTTED = re.compile(r"[A-Za-z_][A-Za-z_0-9.]*$")


class CommandCompleter(Completer):
    """Asks click, as a shell would.

    Args:
        session: ``ctx.obj`` for the commands that complete their arguments themselves.
    """

    def __init__(self, group: click.Group, session: Session) -> None:
        self._click = ShellComplete(group, {"obj": session}, "debug", "")

    def get_completions(
        self, document: Document, complete_event: CompleteEvent
    ) -> Iterable[Completion]:
        """Yield what may stand where the cursor is."""
        del complete_event
        text = document.text_before_cursor
        begun = document.get_word_before_cursor(WORD=True)
        try:
            words = shlex.split(text[: len(text) - len(begun)])
            items = self._click.get_completions(words, begun)
        except Exception:  # noqa: BLE001 - half a line, or a command's own fault: nothing is offered
            return
        for item in items[:MAX_COMPLETIONS]:
            yield Completion(item.value, start_position=-len(begun))


class NameCompleter(Completer):
    """Completes names of the console, and attributes, without running a property of the author's."""

    def __init__(self, variables: dict[str, Any]) -> None:
        self._variables = variables

    def get_completions(
        self, document: Document, complete_event: CompleteEvent
    ) -> Iterable[Completion]:
        """Yield the names that may stand where the cursor is."""
        del complete_event
        found = _DOTTED.search(document.text_before_cursor)
        if found is None:
            return
        *owners, begun = found[0].split(".")
        try:
            names = sorted(self._names(owners, begun))
        except Exception:  # noqa: BLE001 - no such attribute, or the author's __dir__ fails
            return
        for name in names[:MAX_COMPLETIONS]:
            yield Completion(name, start_position=-len(begun))

    def _names(self, owners: list[str], begun: str) -> set[str]:
        if not owners:
            names = {*self._variables, *vars(builtins), *keyword.kwlist}
        else:
            owner = self._variables[owners[0]]
            for name in owners[1:]:
                owner = inspect.getattr_static(owner, name)
            names = set(dir(owner))
        is_private = begun.startswith("_")
        return {
            name
            for name in names
            if name.startswith(begun) and (is_private or not name.startswith("_"))
        }
