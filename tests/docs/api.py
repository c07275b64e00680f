"""The API page: every public name with its signature and what its docstring says."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from kagent_sdk import errors
from tests.docs.api_names import PACKAGES, Entry, Group, Package, read_group
from tests.docs.docstrings import Link, inline, read_sections, to_markdown
from tests.docs.signatures import show_attribute, show_class, show_functions, show_member, write
from tests.docs.sources import (
    PRIVATE_WORDS,
    Function,
    Member,
    find_class,
    find_functions,
    read_members,
)
from tests.docs.tables import make_table

OPERATORS = {
    "__await__": "await {}",
    "__bool__": "if {}:",
    "__getitem__": "{}[key]",
    "__aiter__": "async for each in {}:",
    "__iter__": "for each in {}:",
    "__aenter__": "async with {}:",
    "__enter__": "with {}:",
    "__call__": "{}(...)",
}
"""How the methods behind operators are written by who uses them."""

SELF_RETURNED = "Return itself"
"""Of operators whose use the class's own docstring describes."""

HIDDEN_BASES = frozenset({"ABC", "Protocol"})

TREE_GROUP = "Errors"


@dataclass(slots=True)
class Page:
    """What is known of the page while it is written.

    Attributes:
        addresses: of every name that has a heading, as it may be written in a docstring.
        described: the headings of members by the class that defines them.
    """

    addresses: dict[str, str] = field(default_factory=dict)
    described: dict[tuple[type, str], str] = field(default_factory=dict)

    def enter(self, entry: Entry) -> None:
        """Note which headings an entry will have."""
        self.addresses[entry.name] = f"#{anchor_of(entry.name)}"
        if not inspect.isclass(entry.value):
            return
        for member in methods_of(entry.value):
            title = self.described.setdefault(
                (member.owner, member.name), f"{entry.name}.{member.name}"
            )
            self.addresses[f"{entry.name}.{member.name}"] = f"#{anchor_of(title)}"

    def link_in(self, name: str | None) -> Link:
        """Return where names lead to that are written in the docstring of ``name``."""

        def find(text: str) -> str | None:
            text = text.removeprefix("kagent_sdk.").removesuffix("()")
            inside = None if name is None else self.addresses.get(f"{name}.{text}")
            return inside or self.addresses.get(text)

        return find


def api_page() -> str:
    """Return the reference of all public names."""
    page = Page()
    groups = [
        (package, group, read_group(package, group))
        for package in PACKAGES
        for group in package.grouped()
    ]
    for _, _, entries in groups:
        for entry in entries:
            page.enter(entry)
    parts = [_overview([entry for *_, entries in groups for entry in entries], page)]
    parts += [_show_group(*each, page) for each in groups]
    return "\n\n".join(parts) + "\n"


def _overview(entries: list[Entry], page: Page) -> str:
    rows = [
        (
            f"[`{entry.name}`]({page.addresses[entry.name]})",
            inline(_summary(entry), page.link_in(None)),
        )
        for entry in entries
        if _summary(entry)
    ]
    return make_table(("name", "what it is"), rows).rstrip()


def _summary(entry: Entry) -> str:
    """Return the first paragraph of a name's docstring; nothing for a plain value."""
    if not inspect.isclass(entry.value) and not inspect.isroutine(entry.value):
        return ""
    return (inspect.getdoc(entry.value) or "").partition("\n\n")[0]


def anchor_of(title: str) -> str:
    """Return the anchor of a heading, as GitHub and Python-Markdown make it."""
    return re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")


def methods_of(owner: type) -> list[Member]:
    """Return the members of a class that have headings of their own: methods and properties."""
    return [member for member in _members_of(owner) if member.stubs]


def _members_of(owner: type) -> list[Member]:
    return list(read_members(owner, owner.__module__.partition(".")[0]))


def _show_group(package: Package, group: Group, entries: list[Entry], page: Page) -> str:
    parts = [f"## {group.title}"]
    if group.intro:
        parts.append(group.intro)
    if group.title == TREE_GROUP and package.name == "kagent_sdk":
        parts.append(f"```text\n{_error_tree()}\n```")
    parts += [_show_entry(entry, group, page) for entry in entries]
    return "\n\n".join(parts)


def _error_tree() -> str:
    """Return the drawing of the tree in the docstring of `kagent_sdk.errors`."""
    lines = (inspect.getdoc(errors) or "").splitlines()
    drawing = "\n".join(line for line in lines if line.startswith("    ") or not line)
    return inspect.cleandoc(drawing)


def _show_entry(entry: Entry, group: Group, page: Page) -> str:
    title = f"### `{entry.name}`"
    if inspect.isclass(entry.value):
        return f"{title}\n\n{_show_class(entry, page, is_made=entry.name in group.names)}"
    if inspect.isroutine(entry.value):
        stubs = show_functions(find_functions(entry.value), is_method=False)
        docstring = to_markdown(inspect.getdoc(entry.value) or "", page.link_in(None))
        return f"{title}\n\n{_stub(stubs)}\n\n{docstring}"
    return f"{title}\n\n{_stub(f'{entry.name}: {type(entry.value).__name__}')}"


def _show_class(entry: Entry, page: Page, *, is_made: bool) -> str:
    owner, node = entry.value, find_class(entry.value)
    link = page.link_in(entry.name)
    docstring = ast.get_docstring(node) or ""
    arguments = next((each.text for each in read_sections(docstring) if each.title == "Args"), "")
    is_made = is_made and bool(arguments) and PRIVATE_WORDS not in arguments
    stub = show_class(
        entry.name,
        list(_bases(node, owner, page)),
        list(_attributes(owner, docstring)),
        _constructor(node) if is_made else None,
    )
    parts = [
        f"From `{entry.home}`." if entry.home != "kagent_sdk" else "",
        _stub(stub),
        to_markdown(docstring, link, without=frozenset() if is_made else frozenset({"Args"})),
        _operators(node, entry.name, link),
        _elsewhere(owner, entry.name, page),
        *_own_methods(owner, entry.name, page),
    ]
    return "\n\n".join(part for part in parts if part)


def _stub(text: str) -> str:
    return f"```pyi\n{text}\n```"


def _bases(node: ast.ClassDef, owner: type, page: Page) -> Iterator[str]:
    """Yield the bases that mean something to a reader: those of the page, and those of others."""
    home = owner.__module__.partition(".")[0]
    ours = {each.__name__ for each in owner.__mro__ if each.__module__.partition(".")[0] == home}
    for base in map(ast.unparse, node.bases):
        name = base.partition("[")[0]
        if name not in HIDDEN_BASES and (name in page.addresses or name not in ours):
            yield base


def _constructor(node: ast.ClassDef) -> Function | None:
    for each in node.body:
        if isinstance(each, ast.FunctionDef) and each.name == "__init__":
            return each
    return None


def _attributes(owner: type, docstring: str) -> Iterator[str]:
    """Yield the attributes as annotations: of the class, and those that ``__init__`` makes."""
    members = _members_of(owner)
    yield from (show_attribute(each.attribute) for each in members if each.attribute is not None)
    constructor = _constructor(find_class(owner))
    if constructor is None:
        return
    hints = dict(_made_in(constructor))
    known = {member.name for member in members}
    for section in read_sections(docstring):
        for name in section.names if section.title == "Attributes" else ():
            if name not in known and (hint := hints.get(name)) is not None:
                yield f"{name}: {write(hint)}"


def _made_in(constructor: Function) -> Iterator[tuple[str, ast.expr]]:
    """Yield the attributes that a constructor makes, with their types where these are plain to see."""
    arguments = constructor.args
    for argument in [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]:
        if argument.annotation is not None:
            yield argument.arg, argument.annotation
    for node in ast.walk(constructor):
        match node:
            case ast.AnnAssign(target=ast.Attribute(attr=name)):
                yield name, node.annotation
            case ast.Assign(
                targets=[ast.Attribute(attr=name)], value=ast.Call(func=ast.Name(id=kind) as made)
            ) if kind[:1].isupper():
                yield name, made
            case _:
                pass


def _operators(node: ast.ClassDef, name: str, link: Link) -> str:
    """Return what of a class is used without a method's name."""
    variable = re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()
    lines = []
    for each in node.body:
        if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef) and each.name in OPERATORS:
            docstring = ast.get_docstring(each) or SELF_RETURNED
            if not docstring.startswith(SELF_RETURNED):
                text = inline(docstring.partition("\n\n")[0], link)
                lines.append(f"- `{OPERATORS[each.name].format(variable)}` {text}")
    return "\n".join(["**Operators:**", "", *lines]) if lines else ""


def _elsewhere(owner: type, name: str, page: Page) -> str:
    """Return the members that are described where another class has them too."""
    links = [
        f"[`{member.name}`]({page.addresses[f'{name}.{member.name}']})"
        for member in methods_of(owner)
        if page.described[member.owner, member.name] != f"{name}.{member.name}"
    ]
    return f"**As in other classes:** {', '.join(links)}" if links else ""


def _own_methods(owner: type, name: str, page: Page) -> Iterable[str]:
    for member in methods_of(owner):
        title = f"{name}.{member.name}"
        if page.described[member.owner, member.name] == title:
            docstring = to_markdown(member.docstring, page.link_in(name))
            yield f"#### `{title}`\n\n{_stub(show_member(member))}\n\n{docstring}"
