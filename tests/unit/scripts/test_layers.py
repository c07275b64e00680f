"""What each layer of an image costs, read out of what the engine prints."""

from __future__ import annotations

import json
from pathlib import Path

from scripts.images.layers import Layer, Step, from_line, layers_of, main, read_steps, to_line

LOG = """\
10.0 [1/2] STEP 1/2: FROM localhost/python AS python-distribution
10.1 [1/2] STEP 2/2: RUN mkdir -p /opt/python
10.5 --> 123
10.6 [2/2] STEP 1/4: FROM localhost/plain AS debian-slim
10.7 [2/2] STEP 2/4: COPY --from=python /opt/python /opt/python
12.7 [2/2] STEP 3/4: RUN --mount=type=bind,source=x,target=/x sh /images/install.sh
13.0 Setting up STEP 1/2: something
16.7 [2/2] STEP 4/4: USER 1000:1000
16.8 [2/2] COMMIT localhost/kos/agent-base:debian-slim
17.0 Successfully tagged
"""
HISTORY = [{"size": size} for size in (0, 40_000_000, 10_000, 7, 130_000_000)]
ROWS = [
    Layer("debian-slim", "base", 0, 130_000_007),
    Layer("debian-slim", "Python, brought", 2.0, 10_000),
    Layer("debian-slim", "the SDK and its packages", 4.0, 40_000_000),
]


def rounded(steps: list[Step]) -> list[tuple[str, str, float]]:
    """Return steps with times that can be compared."""
    return [(step.stage, step.words[:12], round(step.took_s, 3)) for step in steps]


def test_instructions_come_with_their_stage_and_their_time() -> None:
    """A person asks first which step is slow."""
    assert rounded(read_steps(LOG.splitlines())) == [
        ("python-distribution", "RUN mkdir -p", 0.5),
        ("debian-slim", "COPY --from=", 2.0),
        ("debian-slim", "RUN --mount=", 4.0),
        ("debian-slim", "USER 1000:10", 0.1),
    ]


def test_stages_that_are_built_at_the_same_time_are_told_apart() -> None:
    """The engine prints what comes from its cache in any order."""
    mixed = """\
1.0 [1/3] STEP 1/2: FROM localhost/plain AS python-distribution
1.1 [1/3] STEP 2/2: RUN mkdir -p /opt/python
1.2 [3/3] STEP 1/3: FROM localhost/plain AS ubuntu
1.3 [3/3] STEP 2/3: COPY --from=python /opt/python /opt/python
1.4 [2/3] STEP 1/1: FROM 123 AS python
3.3 [3/3] STEP 3/3: RUN sh /images/install.sh
4.3 [3/3] COMMIT localhost/kos/agent-base:ubuntu
"""

    assert rounded(read_steps(mixed.splitlines())) == [
        ("python-distribution", "RUN mkdir -p", 0.1),
        ("ubuntu", "COPY --from=", 2.0),
        ("ubuntu", "RUN sh /imag", 1.0),
    ]


def test_layers_are_the_base_and_what_each_instruction_added() -> None:
    """The SDK's own share of an image is what stands behind the base."""
    steps = read_steps(LOG.splitlines())

    rows = layers_of("debian-slim", steps, HISTORY)

    assert [(row.name, round(row.took_s, 3), row.size_bytes) for row in rows] == [
        (row.name, row.took_s, row.size_bytes) for row in ROWS
    ]


def test_node_has_the_layers_of_debian_slim_too() -> None:
    """It begins with that target, so its history names both."""
    steps = [
        Step("debian-slim", "RUN sh /images/install.sh", 3),
        Step("node", "COPY --from=node-files /usr/local/bin/node /usr/local/bin/node", 1),
    ]

    rows = layers_of("node", steps, [{"size": 120_000_000}, {"size": 40_000_000}, {"size": 9}])

    assert [row.name for row in rows] == ["base", "the SDK and its packages", "Node.js"]


def test_an_instruction_without_a_name_is_shown_itself() -> None:
    """A row that says nothing would be left out of the sum in a reader's head."""
    rows = layers_of("alpine", [Step("alpine", "RUN something else", 1)], [{"size": 5}])

    assert [row.name for row in rows] == ["base", "RUN something else"]


def test_rows_are_written_and_read_back() -> None:
    """benchmarks/images.py reads what scripts/build-images writes."""
    assert [from_line(to_line(row) + "\n") for row in ROWS] == ROWS


def test_the_command_writes_lines_and_a_table(tmp_path: Path) -> None:
    """As scripts/build-images calls it."""
    log, history, lines = (tmp_path / name for name in ("log", "history", "lines"))
    log.write_text(LOG)
    history.write_text(json.dumps(HISTORY))

    lines.write_text(main(["debian-slim", str(log), str(history)]))
    table = main(["--table", str(lines)]).splitlines()

    assert lines.read_text().splitlines() == [to_line(row) for row in ROWS]
    assert table[0].split() == ["target", "layer", "seconds", "MB"]
    assert table[-1].split() == ["all", "6.0", "170.0"]
