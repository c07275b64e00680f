"""Whoever follows a page, typing what it shows, gets what it shows."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path

import pytest

from kagent_sdk.config import load_config
from kagent_sdk.config.mesh import MESH_FILE, read_mesh
from tests.docs.blocks import Block, PageError, matches, read_blocks, read_commands
from tests.docs.shell import PageShell

REPOSITORY = Path(__file__).resolve().parents[2]
PAGES = [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").rglob("*.md"))]
TUTORIAL = REPOSITORY / "docs" / "tutorial.md"
"""Followed as a whole, on a fresh machine, by tests/images/test_tutorial.py."""

ALL_PAGES = sorted(
    path
    for path in REPOSITORY.rglob("*.md")
    if not any(part.startswith(".") for part in path.relative_to(REPOSITORY).parts)
)

_LINK = re.compile(r"\[[^\]]*\]\((?P<target>[^)\s]+)\)")
_HEADING = re.compile(r"^#{1,6} +(?P<title>.+?) *$", re.MULTILINE)


def name_of(page: Path) -> str:
    """Return the page's name as it stands in a test's id."""
    return str(page.relative_to(REPOSITORY))


@pytest.mark.timeout(300)
@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_block_of_a_page_does_what_the_page_says(page: Path, tmp_path: Path) -> None:
    """A sample that fails for its first reader costs more trust than a missing one."""
    folder = tmp_path / "page"
    folder.mkdir()
    with PageShell(folder) as shell:
        for block in read_blocks(page):
            if block.needs:
                assert page == TUTORIAL, f"{block.where}: nobody runs it"
                continue
            follow_block(block, shell, folder)


def follow_block(block: Block, shell: PageShell, folder: Path) -> None:
    """Do with a block what a reader does with it."""
    if block.file:
        write_block(block, folder)
    run_block(block, shell, folder)


def write_block(block: Block, folder: Path) -> None:
    """Write a block to the file of the page's folder that it names."""
    assert block.file
    target = folder / block.file
    assert target.resolve().is_relative_to(folder.resolve()), f"{block.where}: leaves the folder"
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(block.text)


def run_block(block: Block, shell: PageShell, folder: Path) -> None:
    """Do with a block what its language asks for."""
    match block.language:
        case "python":
            run_python(block, shell, folder)
        case "console":
            run_console(block, shell)
        case "yaml":
            validate_config(block, folder)
        case "json":
            json.loads(block.text)
        case "pyi":
            compile(block.text, block.where, "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        case "text":
            pass
        case other:
            raise AssertionError(f"{block.where}: nothing is done with {other!r}")


def run_python(block: Block, shell: PageShell, folder: Path) -> None:
    """Run a script; one that is written to a file is run by a command of the page."""
    compile(block.text, block.where, "exec")
    if block.file:
        return
    script = folder.with_name(f"{folder.name}-logs") / f"line{block.line}.py"
    script.write_text(block.text)
    status, output = shell.run(f"python '{script}'")
    script.unlink()
    assert status == 0, f"{block.where}: exit status {status}\n{output}"


def run_console(block: Block, shell: PageShell) -> None:
    """Type the commands; each must write what is shown and succeed.

    A command may fail if the next one is ``echo $?``, which shows that it does.
    """
    commands = read_commands(block)
    for number, command in enumerate(commands):
        where = f"{block.page}:{command.line}: {command.text}"
        try:
            status, output = shell.run(command.text)
        except PageError as exc:
            raise PageError(f"{where}\n{exc}") from None
        following = commands[number + 1].text if number + 1 < len(commands) else ""
        if status and following != "echo $?":
            raise PageError(f"{where}\nexit status {status}\n{output}\n{shell.log_text}")
        if not matches(command.output, output):
            shown = "\n".join(command.output)
            raise PageError(f"{where}\nthe page shows:\n{shown}\nthe command wrote:\n{output}")


def validate_config(block: Block, folder: Path) -> None:
    """Hold a YAML block against the models of config.yaml, or of mesh.yaml where it is that file."""
    if block.file is not None and Path(block.file).name == MESH_FILE:
        read_mesh(folder / block.file)
        return
    directory = folder.with_name(f"{folder.name}-config-{block.line}")
    directory.mkdir()
    (directory / "config.yaml").write_text(block.text)
    load_config(directory, environ={})


@pytest.mark.parametrize("page", ALL_PAGES, ids=name_of)
def test_every_link_inside_the_project_leads_somewhere(page: Path) -> None:
    """Pages move; a reader must not find out first."""
    text = re.sub(r"^(`{3,}).*?^\1", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    broken = []
    for match in _LINK.finditer(text):
        path, _, anchor = match["target"].partition("#")
        target = page if not path else page.parent / path
        if "://" in match["target"] or match["target"].startswith("mailto:"):
            continue
        if not target.exists() or (anchor and anchor not in anchors_of(target)):
            broken.append(match["target"])

    assert broken == []


def anchors_of(page: Path) -> set[str]:
    """Return the anchors that GitHub makes of a page's headings."""
    titles = (match["title"] for match in _HEADING.finditer(page.read_text()))
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}
