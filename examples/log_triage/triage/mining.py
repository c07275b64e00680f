"""Find the templates of log messages with drain3 and keep, for each, what a report needs."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from drain3 import TemplateMiner
from drain3.masking import MaskingInstruction
from drain3.template_miner_config import TemplateMinerConfig

from .levels import Level
from .parsing import Record
from .timeline import Timeline

MAX_MESSAGE_CHARS = 2000
MAX_TOKENS = 40
"""Words of a message that count: Drain never joins messages of different length."""

MAX_EXAMPLES = 3
MAX_EXAMPLE_CHARS = 400
MAX_EXTRA_LINES = 12
OTHER_ID = 0
"""The template that takes what comes after `max_templates`."""

# What varies from line to line, most specific first: each becomes <NAME> before the mining.
_MASKS = (
    (r"\b[a-z][a-z0-9+.-]*://[^\s\"'<>)\]]+", "URL"),
    (r"\b[\w.+-]+@[\w-]+(?:\.[\w-]+)+\b", "EMAIL"),
    (r"\b[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}\b", "UUID"),
    (r"\b\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d:\d\d(?:[.,]\d+)?(?:Z|[+-]\d\d:?\d\d)?)?\b", "TIME"),
    (r"(?<![\w:.])\d\d:\d\d:\d\d(?:[.,]\d+)?(?![\w:])", "TIME"),
    (r"(?<![\w.])\d{1,3}(?:\.\d{1,3}){3}(?::\d{1,5}|/\d{1,2})?(?![\w.])", "IP"),
    (r"(?<![\w:])(?:[0-9a-fA-F]{1,4}:){4,7}[0-9a-fA-F]{1,4}(?![\w:])", "IP"),
    (r"(?<![\w.+-])[a-z0-9][a-z0-9+.-]+:(?:amd64|arm64|armhf|i386|all|any|riscv64|s390x)\b", "PKG"),
    (r"\b(?:0x[0-9a-fA-F]+|(?=[a-f]*\d)(?=\d*[a-f])[0-9a-f]{7,64})\b", "HEX"),
    (r"(?<=\()\d[\w.:]*[-.+~:][\w.+~:-]*(?=[,)])", "VER"),
    (r"(?<![\w./-])(?:\d+:)?\d+(?:\.\d+)+(?:[-+~.][\w.+~-]+)?(?:-\d[\w.+~]*)?", "VER"),
    (
        r"(?<![\w:.-])(?<!GET )(?<!POST )(?<!PUT )(?<!HEAD )(?<!PATCH )(?<!DELETE )/(?:[^\s/'\",:;()\]]+/)+[^\s'\",:;()\]]*",
        "PATH",
    ),
    (r"(?<![\w.-])[+-]?\d+(?:\.\d+)?(?=(?:[kKMGT]i?B?|B|ms|us|µs|ns|s|m|h|%)?(?![\w-]))", "NUM"),
    (r"(?<=[_=#/:-])(?<!HTTP-)(?<!UTF-)(?<!sha-)\d+(?![\w.-])", "NUM"),
)

# Arguments and lists differ in length from line to line, which Drain cannot join.
_ARGUMENTS = re.compile(
    r"^(Commandline: \S+|run with|(?:Install|Reinstall|Upgrade|Downgrade|Remove|Purge):) .*",
    re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class Sighting:
    """Where and when a line was seen."""

    file: str
    line_number: int
    at: float | None
    message: str
    text: str
    extra: tuple[str, ...] = ()


@dataclass(slots=True)
class Template:
    """A message with its variable parts taken out, and what is known of its lines.

    Attributes:
        number: unique in its `TemplateMine`; stable for its life.
        text: such as ``Failed password for <*> from <IP> port <NUM>``; may grow more general.
        level: the level of all of its lines (lines of different levels never share a template).
        is_guess: whether that level is only suggested by the words.
        source: the program of all of its lines.
        count: how many lines.
        first: where it was seen first.
        last: where it was seen last.
        examples: the first few lines that differ.
        timeline: how many, when.
        files: how many lines in which file.
    """

    number: int
    text: str
    level: Level
    is_guess: bool
    source: str
    first: Sighting
    last: Sighting
    count: int = 0
    examples: list[Sighting] = field(default_factory=list)
    timeline: Timeline = field(default_factory=Timeline)
    files: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Mined:
    """What became of one record."""

    template: Template
    is_new: bool


class TemplateMine:
    """Templates and their statistics; memory is bounded by ``max_templates``.

    Not thread-safe.

    Args:
        max_templates: further messages that fit no template are counted in one of number
            `OTHER_ID`.
    """

    def __init__(self, max_templates: int) -> None:
        self._miner = TemplateMiner(config=_drain_config())
        self._max_templates = max_templates
        self._templates: dict[int, Template] = {}
        self.timeline = Timeline()
        self.problems = Timeline()
        self.total = 0

    @property
    def templates(self) -> list[Template]:
        """Every template, oldest first."""
        return list(self._templates.values())

    @property
    def is_full(self) -> bool:
        """Whether new templates are no longer kept apart."""
        return len(self._templates) >= self._max_templates

    def add(self, record: Record, file: str) -> Mined:
        """Count a record and return its template."""
        number, text = self._mine(record)
        seen = _sighting(record, file)
        template = self._templates.get(number)
        is_new = template is None
        if template is None:
            template = Template(
                number, text, record.level, record.is_guess, record.source, seen, seen
            )
            self._templates[number] = template
        elif number != OTHER_ID:
            template.text = text
        self._count(template, seen)
        return Mined(template, is_new)

    def _mine(self, record: Record) -> tuple[int, str]:
        content = self._content(record)
        drain = self._miner.drain
        if self.is_full:
            match = drain.match(content)
            if match is None:
                return OTHER_ID, "(more templates than are kept apart)"
            return match.cluster_id, _readable(match.log_template_tokens)
        cluster, _ = drain.add_log_message(content)
        return cluster.cluster_id, _readable(cluster.log_template_tokens)

    def _content(self, record: Record) -> str:
        message = _ARGUMENTS.sub(r"\1 <ARGS>", record.message[:MAX_MESSAGE_CHARS])
        masked = self._miner.masker.mask(message)
        tokens = masked.split()[:MAX_TOKENS]
        # The first word of what Drain sees: it never generalises over level and program.
        stated = "?" if record.is_guess else "!"
        head = f"{record.level.label}{stated}{'_'.join(record.source.split())}"
        return " ".join([head, *tokens])

    def _count(self, template: Template, seen: Sighting) -> None:
        self.total += 1
        template.count += 1
        template.files[seen.file] = template.files.get(seen.file, 0) + 1
        if _is_before(seen, template.first):
            template.first = seen
        if not _is_before(seen, template.last):
            template.last = seen
        if len(template.examples) < MAX_EXAMPLES and all(
            seen.text != example.text for example in template.examples
        ):
            template.examples.append(seen)
        if seen.at is not None:
            template.timeline.add(seen.at)
            self.timeline.add(seen.at)
            if template.level >= Level.WARNING:
                self.problems.add(seen.at)


def _is_before(one: Sighting, other: Sighting) -> bool:
    return one.at is not None and other.at is not None and one.at < other.at


def _sighting(record: Record, file: str) -> Sighting:
    extra = record.extra
    if len(extra) > MAX_EXTRA_LINES:  # the frames next to the failure stand at the end
        extra = ["…", *extra[-MAX_EXTRA_LINES:]]
    return Sighting(
        file,
        record.line_number,
        record.at,
        record.message[:MAX_EXAMPLE_CHARS],
        record.text[:MAX_EXAMPLE_CHARS],
        tuple(line[:MAX_EXAMPLE_CHARS] for line in extra),
    )


def _readable(tokens: tuple[str, ...]) -> str:
    return " ".join(tokens[1:])


def _drain_config() -> TemplateMinerConfig:
    config = TemplateMinerConfig()
    config.drain_depth = 5  # the head that `_content` adds, and the first word
    config.drain_sim_th = 0.55  # the added head agrees always: two words must not be enough
    config.drain_max_children = 500
    config.parametrize_numeric_tokens = False  # the masks have done it, and HTTP-500 must stay
    config.masking_instructions = [MaskingInstruction(pattern, name) for pattern, name in _MASKS]
    return config
