"""Print the agent's answers for a person.

``kos-agent call triage paths:='["/var/log"]' style=text | python show.py``
``kos-agent call follow path=/var/log/syslog --stream | python show.py``
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator
from typing import Any


def show(texts: Iterable[str]) -> Iterator[str]:
    """Return what to print for JSON documents, one to a line: a report, or lines that were followed."""
    for text in texts:
        document = json.loads(text)
        if "report" in document:
            yield document["report"].rstrip("\n")
        else:
            yield from show_line(document)


def show_line(item: dict[str, Any]) -> Iterator[str]:
    """Return the lines for one item of `follow`."""
    if item["kind"] != "line":
        yield f"  ({item['file']}: {item['kind']})"
        return
    level = "" if item["level"] == "unknown" else item["level"].upper()
    flag = "NEW" if item["is_new"] else f"#{item['count']}"
    yield f"  {level:<8} {flag:<4}  {item['text']}"
    for line in item["more"]:
        yield f"  {'':<13}  │ {line}"


if __name__ == "__main__":
    try:
        for shown in show(sys.stdin):
            print(shown, flush=True)
    except KeyboardInterrupt:
        sys.exit(130)
