"""Cut a shell script into commands and words, without running any of it. Pure.

What matters is understood: quotes, comments, continued lines, variables with plain values, and positional
parameters that ``set --`` collects. What only running would tell stays as it is written, with its dollar
sign, and never counts as known.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from kagent_sdk.errors import DeployError

MAX_WORDS = 5_000
MAX_WORD = 10_000

_NAME = re.compile(r"\$(?:(?P<plain>[A-Za-z_][A-Za-z0-9_]*|[@*0-9#?])|\{(?P<braced>[^{}]*)\})")
_ASSIGNMENT = re.compile(r"^(?P<name>[A-Za-z_][A-Za-z0-9_]*)=(?P<value>.*)$", re.DOTALL)
_SEPARATORS = "\n;&|()<>"


@dataclass(frozen=True, slots=True)
class Word:
    """One word of a command.

    Attributes:
        text: without quotes, with the values of variables that are known.
        line: where it begins, from 1 on.
    """

    text: str
    line: int


@dataclass(slots=True)
class Script:
    """A text that is being cut; `commands` walks through it once."""

    text: str
    variables: dict[str, str] = field(default_factory=dict)
    parameters: list[Word] = field(default_factory=list)
    _at: int = 0
    _line: int = 1
    _count: int = 0

    def commands(self) -> Iterator[list[Word]]:
        """Yield the commands, with what stands before them put to use.

        Raises:
            DeployError: a quote is never closed, or it is too much of everything.
        """
        while self._at < len(self.text):
            words = self._command()
            if not words:
                continue
            assigned = [_ASSIGNMENT.match(word.text) for word in words]
            if all(assigned):
                self.variables.update((one["name"], one["value"]) for one in assigned if one)
            elif [word.text for word in words[:2]] == ["set", "--"]:
                self.parameters = words[2:]
            else:
                yield words

    def _command(self) -> list[Word]:
        words: list[Word] = []
        while self._at < len(self.text):
            char = self.text[self._at]
            if char in _SEPARATORS:
                self._step()
                break
            if char == "#":
                self._skip_comment()
            elif char in " \t\r" or self.text.startswith("\\\n", self._at):
                self._step(2 if char == "\\" else 1)
            else:
                words += self._word()
                self._bound(len(words))
        return words

    def _step(self, count: int = 1) -> None:
        self._line += self.text.count("\n", self._at, self._at + count)
        self._at += count

    def _skip_comment(self) -> None:
        end = self.text.find("\n", self._at)
        self._at = len(self.text) if end < 0 else end

    def _bound(self, count: int) -> None:
        self._count += 1
        if count > MAX_WORDS or self._count > 4 * MAX_WORDS:
            raise DeployError(f"line {self._line}: more than {MAX_WORDS} words")

    def _word(self) -> list[Word]:
        line, text = self._line, ""
        for quoted in ('"$@"', "$@", '"$*"', "$*"):
            if self.text.startswith(quoted, self._at):
                self._step(len(quoted))
                return list(self.parameters)
        while (
            self._at < len(self.text) and (char := self.text[self._at]) not in " \t\r" + _SEPARATORS
        ):
            if char == "'":
                text += self._single(line)
            elif char == '"':
                text += self._double(line)
            elif char == "\\":
                text += self.text[self._at + 1 : self._at + 2].replace("\n", "")
                self._step(2)
            elif char in "$`":
                text += self._expansion(is_quoted=False)
            else:
                text += char
                self._step()
            if len(text) > MAX_WORD:
                raise DeployError(f"line {line}: a word of more than {MAX_WORD} characters")
        return [Word(text, line)]

    def _single(self, line: int) -> str:
        end = self.text.find("'", self._at + 1)
        if end < 0:
            raise DeployError(f"line {line}: this quote is never closed")
        text = self.text[self._at + 1 : end]
        self._step(end + 1 - self._at)
        return text

    def _double(self, line: int) -> str:
        self._step()
        text = ""
        while self._at < len(self.text) and len(text) <= MAX_WORD:
            char = self.text[self._at]
            if char == '"':
                self._step()
                return text
            if char == "\\" and self.text[self._at + 1 : self._at + 2] in set('$`"\\\n'):
                text += self.text[self._at + 1].replace("\n", "")
                self._step(2)
            elif char in "$`":
                text += self._expansion(is_quoted=True)
            else:
                text += char
                self._step()
        raise DeployError(f"line {line}: this quote is never closed")

    def _expansion(self, *, is_quoted: bool) -> str:
        start = self._at
        if self.text.startswith("$(", start) or self.text[start] == "`":
            self._step(self._substitution_end() - start)
        elif found := _NAME.match(self.text, start):
            self._step(found.end() - start)
            value = self.variables.get(found["plain"] or found["braced"])
            # Without quotes the shell would cut the value into words.
            if value is not None and (is_quoted or not re.search(r"[\s*?\[]", value)):
                return value
        else:
            self._step()
        return self.text[start : self._at]

    def _substitution_end(self) -> int:
        if self.text[self._at] == "`":
            end = self.text.find("`", self._at + 1)
            return len(self.text) if end < 0 else end + 1
        depth = 0
        for position in range(self._at + 1, len(self.text)):
            depth += {"(": 1, ")": -1}.get(self.text[position], 0)
            if depth == 0:
                return position + 1
        return len(self.text)
