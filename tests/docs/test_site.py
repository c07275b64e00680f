"""The documentation as a site: what its builder refuses, and what it makes of a page."""

from __future__ import annotations

from pathlib import Path

import pytest

from scripts.build_docs import (
    REPOSITORY,
    FetchReader,
    SiteError,
    build,
    check_navigation,
    find_fetches,
    translate,
)

CONFIG = """\
[project]
site_name = "Trial"
docs_dir = "pages"
site_dir = "site"
nav = [{ "Start" = ["index.md"] }, { "More" = [{ "Deep" = ["guide.md"] }] }]
theme.font = false
"""


def lay_out(folder: Path, guide: str = "# Guide\n\nAll there is.\n") -> Path:
    """Write a repository with a README and one page; return its folder."""
    (folder / "docs").mkdir()
    (folder / "README.md").write_text("# Trial\n\n[More](docs/guide.md), [code](src/x.py).\n")
    (folder / "docs" / "guide.md").write_text(guide)
    (folder / "docs" / "zensical.toml").write_text(CONFIG)
    return folder


def test_a_site_is_built_of_the_readme_and_the_pages(tmp_path: Path) -> None:
    """The README is the first page, and its links into docs/ lead to the others."""
    output = tmp_path / "out"
    count = build(lay_out(tmp_path), output)
    home = (output / "index.html").read_text()

    assert count == 2
    assert (output / "guide").is_dir()
    assert 'href="guide/"' in home
    assert "src/x.py" not in home


@pytest.mark.parametrize(
    ("guide", "message"),
    [
        ("# Guide\n\n[There](#nowhere)\n", "anchor does not exist"),
        ("# Guide\n\n[There](gone.md)\n", "page does not exist"),
        (
            '# Guide\n\n<img src="https://elsewhere.example/x.png">\n',
            "fetches https://elsewhere.example/x.png",
        ),
    ],
)
def test_what_leads_nowhere_or_elsewhere_is_refused(
    tmp_path: Path, guide: str, message: str
) -> None:
    """A reader must not find it out first, and the old site stays until the new one is right."""
    output = tmp_path / "out"
    output.mkdir()
    with pytest.raises(SiteError, match=message):
        build(lay_out(tmp_path, guide), output)

    assert list(output.iterdir()) == []


def test_a_page_is_in_the_navigation_exactly_once(tmp_path: Path) -> None:
    """A page that no group names is one that nobody finds."""
    config = tmp_path / "zensical.toml"
    config.write_text(CONFIG.replace('"index.md"', '"index.md", "gone.md", "guide.md"'))

    assert check_navigation(config, {"index.md", "guide.md", "lost.md"}) == [
        "gone.md: in the nav, and not there",
        "guide.md: in the nav 2 times",
        "lost.md: not in the nav of docs/zensical.toml",
    ]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("```python file=hello/entrypoint.py", '```python title="hello/entrypoint.py"'),
        ("```console needs=engine", "```console"),
        ("```text", "```text"),
        ("[a](state.md#b) and [c](../CONTRIBUTING.md)", "[a](state.md#b) and c"),
        ("[a](#here), [b](https://b.example/x)", "[a](#here), [b](https://b.example/x)"),
        ("[home](../README.md)", "[home](index.md)"),
        ("![A picture](flow.svg)", "![A picture](flow.svg)"),
    ],
)
def test_a_line_is_translated(line: str, expected: str) -> None:
    """Pages are written for every reader of Markdown; the site's own needs are met on the way."""
    docs = REPOSITORY / "docs"
    text = f"{line}\n" + ("[a](../x)\n```\n" if line.startswith("```") else "")

    translated = translate(text, docs / "page.md", docs)

    assert translated.splitlines()[0] == expected
    # What stands in a block is left as it is.
    assert translated.splitlines()[1:] == text.splitlines()[1:]


@pytest.mark.parametrize(
    ("markup", "found"),
    [
        ('<script src="https://a.example/x.js"></script>', ["https://a.example/x.js"]),
        ('<link rel="stylesheet" href="//a.example/x.css">', ["//a.example/x.css"]),
        ('<link rel="canonical" href="https://a.example/">', []),
        ('<a href="https://a.example/">there</a>', []),
        ("<style>@import 'https://a.example/x.css';</style>", ["https://a.example/x.css"]),
        ('<p style="background: url(https://a.example/x)">', ["https://a.example/x"]),
        ('<pre class="mermaid">', ["https://unpkg.com/mermaid"]),
        ("<code>@import 'https://a.example/x.css'</code>", []),
    ],
)
def test_what_a_browser_would_fetch_is_found(markup: str, found: list[str]) -> None:
    """Whoever reads the site is nobody else's business."""
    reader = FetchReader()
    reader.feed(markup)

    assert reader.found == found


def test_style_sheets_and_pictures_are_looked_at(tmp_path: Path) -> None:
    """A font is fetched by a style sheet, wherever that stands."""
    (tmp_path / "x.css").write_text("@font-face { src: url('https://a.example/font') }")
    (tmp_path / "x.svg").write_text("<style>a { src: url(https://b.example/font) }</style>")

    assert list(find_fetches(tmp_path)) == [
        "x.css: fetches https://a.example/font",
        "x.svg: fetches https://b.example/font",
    ]
