"""Build the documentation as a site, with every warning an error.

    python scripts/build_docs.py [--output FOLDER]

Reads README.md and ``docs/``, and writes the site to ``build/site``, which works without a network and
without a server. What zensical does not look for is looked for here: a page that the navigation does
not name, or names twice or in vain, and anything that a browser would fetch from elsewhere.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections import Counter
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[1]
OUTPUT = REPOSITORY / "build" / "site"
HOME = "index.md"
"""README.md's name in the site."""

_FENCE = re.compile(r"^( {0,3})(`{3,}|~{3,})(\w*)(?: +([^`]*?))? *$")
_FILE = re.compile(r"\bfile=(\S+)")
_LINK = re.compile(r"(?P<bang>!?)\[(?P<text>[^\]]*)\]\((?P<target>[^)\s]+)\)")
_CSS_URL = re.compile(r"""(?:url\(|@import\s)\s*["']?\s*((?:https?:)?//[^"')\s]+)""")
_ELSEWHERE = re.compile(r"(?:https?:)?//")

_FETCHED_LINKS = {"stylesheet", "icon", "preload", "prefetch", "modulepreload", "manifest"}
_FETCHING_ATTRIBUTES = {"src", "srcset", "data", "poster"}


class SiteError(Exception):
    """The site cannot be built, or is not as it should be; the message has a line for each reason."""


def build(source: Path, output: Path) -> int:
    """Build the site of a repository; return how many pages it has.

    Args:
        source: the folder with README.md and ``docs/``.
        output: made anew.

    Raises:
        SiteError: something is wrong with the pages.
    """
    with tempfile.TemporaryDirectory(prefix="kagent-docs-") as folder:
        work = Path(folder)
        pages = stage(source, work)
        refuse(check_navigation(work / "zensical.toml", pages))
        run_zensical(work)
        refuse(list(find_fetches(work / "site")))
        shutil.rmtree(output, ignore_errors=True)
        shutil.copytree(work / "site", output)
    return len(pages)


def refuse(faults: list[str]) -> None:
    """Raise `SiteError` if there are faults."""
    if faults:
        raise SiteError("\n".join(faults))


def stage(source: Path, work: Path) -> set[str]:
    """Lay out what zensical reads; return the names of the pages."""
    pages = work / "pages"
    pages.mkdir()
    docs = source / "docs"
    for path in sorted(docs.iterdir()):
        if path.suffix == ".md":
            (pages / path.name).write_text(translate(path.read_text(), path, docs))
        elif path.suffix == ".svg":
            shutil.copy(path, pages)
    readme = source / "README.md"
    (pages / HOME).write_text(translate(readme.read_text(), readme, docs))
    shutil.copy(docs / "zensical.toml", work)
    return {path.name for path in pages.glob("*.md")}


def translate(text: str, page: Path, docs: Path) -> str:
    """Return a page as the site has it.

    A block's ``file=NAME`` becomes its title, and what else stands there, for the tests, goes. A link
    into ``docs/`` leads to the page there; one to another file of the repository, which is not in the
    site, leaves its text.
    """
    lines = []
    closing: str | None = None
    for line in text.splitlines():
        fence = _FENCE.match(line)
        if closing is not None:
            closing = None if line.strip() == closing else closing
            lines.append(line)
        elif fence:
            closing = fence[2]
            lines.append(fence[1] + fence[2] + fence[3] + _title_of(fence[4] or ""))
        else:
            lines.append(_LINK.sub(lambda match: _translate_link(match, page, docs), line))
    return "\n".join(lines) + "\n"


def _title_of(options: str) -> str:
    named = _FILE.search(options)
    return f' title="{named[1]}"' if named else ""


def _translate_link(match: re.Match[str], page: Path, docs: Path) -> str:
    path, hash_, anchor = match["target"].partition("#")
    if "://" in match["target"] or not path:
        return match[0]
    target = (page.parent / path).resolve()
    if target == docs.parent / "README.md":
        return f"{match['bang']}[{match['text']}]({HOME}{hash_}{anchor})"
    if target.parent == docs:
        return f"{match['bang']}[{match['text']}]({target.name}{hash_}{anchor})"
    return match["text"]


def check_navigation(config: Path, pages: set[str]) -> list[str]:
    """Return what is wrong with the navigation of a zensical.toml for these pages."""
    named = Counter(_names_in(tomllib.loads(config.read_text())["project"]["nav"]))
    faults = [f"{name}: not in the nav of docs/zensical.toml" for name in pages - named.keys()]
    faults += [f"{name}: in the nav, and not there" for name in named.keys() - pages]
    faults += [f"{name}: in the nav {count} times" for name, count in named.items() if count > 1]
    return sorted(faults)


def _names_in(nav: Any) -> Iterator[str]:
    if isinstance(nav, str):
        yield nav
    else:
        for entry in nav.values() if isinstance(nav, dict) else nav:
            yield from _names_in(entry)


def run_zensical(work: Path) -> None:
    """Build the site in ``work``.

    Raises:
        SiteError: a link or an anchor leads nowhere, or the build failed otherwise.
    """
    done = subprocess.run(
        [sys.executable, "-m", "zensical", "build", "--strict"],
        cwd=work,
        env={**os.environ, "NO_COLOR": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        # What it says of itself, after the warnings, is a traceback.
        raise SiteError((done.stdout + done.stderr).partition("Traceback")[0].strip())


def find_fetches(site: Path) -> Iterator[str]:
    """Find what a browser would fetch from another host, in all pages and style sheets of a site."""
    for path in sorted(site.rglob("*")):
        name = path.relative_to(site)
        if path.suffix == ".html":
            reader = FetchReader()
            reader.feed(path.read_text())
            yield from (f"{name}: fetches {address}" for address in reader.found)
        elif path.suffix in {".css", ".svg"}:
            for address in _CSS_URL.findall(path.read_text()):
                yield f"{name}: fetches {address}"


class FetchReader(HTMLParser):
    """Collects what a page has a browser fetch from elsewhere, in `found`."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Look at the addresses of an element."""
        values = {name: value or "" for name, value in attrs}
        fetched = {values[name] for name in _FETCHING_ATTRIBUTES & values.keys()}
        if tag == "link" and _FETCHED_LINKS & set(values.get("rel", "").split()):
            fetched.add(values.get("href", ""))
        if tag in {"use", "image"}:
            fetched.add(values.get("href", values.get("xlink:href", "")))
        # The one component of the theme that brings a library from elsewhere.
        if "mermaid" in values.get("class", "").split():
            fetched.add("https://unpkg.com/mermaid")
        self.found += sorted(address for address in fetched if _ELSEWHERE.match(address.strip()))
        self.found += _CSS_URL.findall(values.get("style", ""))

    def handle_data(self, data: str) -> None:
        """Look at a style sheet that stands in the page."""
        if self.cdata_elem == "style":
            self.found += _CSS_URL.findall(data)


def main() -> int:
    """Build the site of this repository."""
    parser = argparse.ArgumentParser(description="Build the documentation as a site.")
    parser.add_argument("--output", type=Path, default=OUTPUT, help="default: build/site")
    output = parser.parse_args().output
    try:
        count = build(REPOSITORY, output)
    except SiteError as exc:
        print(exc, file=sys.stderr)
        return 1
    print(f"{count} pages in {output}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
