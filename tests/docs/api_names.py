"""Which names stand on the API page, and below which heading."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib import import_module
from types import ModuleType
from typing import Any


@dataclass(frozen=True, slots=True)
class Group:
    """Names that belong together.

    Attributes:
        title: the heading.
        names: of the package, in the order of the page.
        met: ``module:Name`` of classes that users meet and do not make, such as what a method returns:
            their constructors are not shown.
        intro: a sentence below the heading.
    """

    title: str
    names: tuple[str, ...] = ()
    met: tuple[str, ...] = ()
    intro: str = ""


@dataclass(frozen=True, slots=True)
class Package:
    """A package whose public names are described.

    Attributes:
        name: what one imports from; its ``__all__`` says what is public.
        title: the heading of the names that are in no group.
        groups: the others.
    """

    name: str
    title: str
    groups: tuple[Group, ...] = field(default=())

    @property
    def module(self) -> ModuleType:
        """The package itself."""
        return import_module(self.name)

    @property
    def public(self) -> list[str]:
        """All its public names."""
        return list(self.module.__all__)

    def grouped(self) -> Iterator[Group]:
        """Yield the groups, and at the end one with all public names that are in none."""
        yield from self.groups
        known = {name for group in self.groups for name in group.names}
        known |= {place.partition(":")[2] for group in self.groups for place in group.met}
        if rest := tuple(name for name in self.public if name not in known):
            yield Group(self.title, rest)


@dataclass(frozen=True, slots=True)
class Entry:
    """One name of the page.

    Attributes:
        name: as it is written.
        value: what it stands for.
        home: where it is imported from.
    """

    name: str
    value: Any
    home: str


def read_group(package: Package, group: Group) -> list[Entry]:
    """Return the entries of a group in order."""
    module = package.module
    entries = [Entry(name, getattr(module, name), package.name) for name in group.names]
    for place in group.met:
        home, _, name = place.partition(":")
        entries.append(Entry(name, getattr(import_module(home), name), home))
    return entries


PACKAGES = (
    Package(
        "kagent_sdk",
        "Other names",
        (
            Group("Declaring an agent", ("Agent",)),
            Group("Contexts", ("TaskContext", "LoopContext")),
            Group("The agent's memory", ("State",)),
            Group(
                "What the contexts give",
                met=(
                    "kagent_sdk.context:Secrets",
                    "kagent_sdk.context:Flag",
                    "kagent_sdk.context.pending:Pending",
                    "kagent_sdk.context:PendingCall",
                    "kagent_sdk.context:PendingItems",
                ),
                intro=(
                    "You are given these and never make one; the modules that they are from matter for type "
                    "hints alone."
                ),
            ),
            Group("Webhooks", ("verify_webhook", "sign_webhook")),
            Group(
                "Errors",
                (
                    "KagentError",
                    "TaskError",
                    "CallError",
                    "TaskInterrupted",
                    "DeclarationError",
                    "ConfigError",
                    "VaultError",
                    "WebhookSecretError",
                    "SecretMissingError",
                    "SecretMismatchError",
                    "StartupError",
                    "StateError",
                    "StateConflictError",
                    "StateQuotaError",
                    "StateKeyError",
                    "StateValueError",
                    "WebhookSignatureError",
                ),
            ),
            Group("Version", ("__version__",)),
        ),
    ),
    Package(
        "kagent_sdk.testing",
        "Testing: other names",
        (
            Group(
                "Testing",
                (
                    "AgentHarness",
                    "HarnessTask",
                    "Progress",
                    "MadeCall",
                    "Clock",
                    "AgentProcess",
                    "ProcessTasks",
                    "FakeOrchestrator",
                    "load_agent",
                    "AgentFailedError",
                ),
                (
                    "kagent_sdk.testing.process_faults:ProcessFaults",
                    "kagent_sdk.testing.host_process:HostProcess",
                ),
            ),
        ),
    ),
)
"""What is described; a package without groups stands below its title, in the order of ``__all__``."""
