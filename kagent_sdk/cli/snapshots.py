"""Find the snapshot that a command is about: a file, an address, or a name in the destination."""

from __future__ import annotations

import os
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from kagent_sdk.cli.boundary import EXIT_FAILED, CommandError, UsageError
from kagent_sdk.cli.location import show_path
from kagent_sdk.cli.text import clean, clean_line, nearest
from kagent_sdk.config import load_config
from kagent_sdk.errors import SnapshotError
from kagent_sdk.snapshots.destination import open_destination
from kagent_sdk.snapshots.naming import parse_name
from kagent_sdk.snapshots.port import Destination, Stored

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from kagent_sdk.config.models import AgentConfig

MAX_PROBLEMS = 50
"""Damaged members that are listed."""


@dataclass(frozen=True, slots=True)
class Shelf:
    """An agent's folder, as far as snapshots are concerned.

    Attributes:
        directory: absolute.
    """

    directory: Path
    config: AgentConfig

    @property
    def max_bytes(self) -> int:
        """What a snapshot may unpack to."""
        return self.config.snapshots.max_bytes

    def open(self) -> Destination:
        """Return where its snapshots are.

        Raises:
            SnapshotError: ``snapshots.destination`` cannot be used.
        """
        return self._open(self.config.snapshots.destination)

    def _open(self, address: str) -> Destination:
        access = None
        if address.startswith(("nats://", "tls://")):
            # They go there by the agent's own token.
            from kagent_sdk.host.link_checks import load_link_token, nats_access  # noqa: PLC0415
            from kagent_sdk.host.vault import read_vault  # noqa: PLC0415

            vault = read_vault(self.directory, self.config.secrets)
            token = load_link_token(vault, self.config.orchestrator, os.environ)
            access = nats_access(self.config, self.directory, token)
        return open_destination(address, self.directory, access)

    def newest_first(self) -> list[Stored]:
        """Return its snapshots, those of other agents in the same place included.

        Raises:
            SnapshotError: it cannot be known.
        """
        stored = [(parse_name(one.name), one) for one in self.open().list()]
        known = [(name.created_at, one.name, one) for name, one in stored if name]
        return [one for _, _, one in sorted(known, key=lambda each: each[:2], reverse=True)]

    def fetch(self, wanted: str, on_bytes: Callable[[int], None]) -> AbstractContextManager[Path]:
        """Give the file of a snapshot.

        Args:
            wanted: a path, an address, or a name in the destination.
            on_bytes: told of what is downloaded.

        Raises:
            UsageError: there is none.
            SnapshotError: it cannot be read.
        """
        if "://" in wanted:
            address, _, name = wanted.rpartition("/")
            if parse_name(name) is None:
                raise UsageError(
                    f"'{clean_line(wanted)}' is not the address of a snapshot; "
                    "write SCHEME://BUCKET/PREFIX/NAME.tar.zst"
                )
            source = self._open(address)
            return source.fetch(name, self.max_bytes, on_bytes)
        if Path(wanted).exists():
            return nullcontext(Path(wanted))
        if "/" in wanted or parse_name(wanted) is None:
            raise self._unknown(wanted)
        return self._fetch_named(wanted, on_bytes)

    @contextmanager
    def _fetch_named(self, name: str, on_bytes: Callable[[int], None]) -> Iterator[Path]:
        destination = self.open()
        if name not in {stored.name for stored in destination.list()}:
            raise self._unknown(name)
        with destination.fetch(name, self.max_bytes, on_bytes) as path:
            yield path

    def _unknown(self, wanted: str) -> UsageError:
        near = nearest(wanted, [stored.name for stored in self.newest_first()])
        way_out = (
            f"did you mean '{clean_line(near)}'?"
            if near
            else "see what there is: kos-agent snapshot list"
        )
        return UsageError(
            f"there is no snapshot '{clean_line(wanted)}'; {way_out}", code="unknown_snapshot"
        )


def open_shelf(directory: Path) -> Shelf:
    """Read where the agent in a folder keeps its snapshots.

    Raises:
        UsageError: there is no such folder.
        ConfigError: its configuration is wrong.
    """
    if not directory.is_dir():
        raise UsageError(f"there is no folder {show_path(directory)}")
    return Shelf(directory.absolute(), load_config(directory, environ=os.environ))


@contextmanager
def told_plainly() -> Iterator[None]:
    """Show what is wrong with a snapshot line by line, as an error of the command line."""
    try:
        yield
    except SnapshotError as exc:
        shown = [f"  {clean_line(problem)}" for problem in exc.problems[:MAX_PROBLEMS]]
        if len(exc.problems) > MAX_PROBLEMS:
            shown.append(f"  and {len(exc.problems) - MAX_PROBLEMS} more")
        if exc.__cause__ is not None and str(exc.__cause__) not in str(exc):
            shown.append(f"  {clean(exc.__cause__, limit_chars=1000)}")
        raise CommandError(
            clean_line(exc),
            exit_code=EXIT_FAILED,
            code="snapshot_damaged" if exc.problems else "snapshot_failed",
            details={"problems": list(exc.problems)} if exc.problems else None,
            notes=tuple(shown),
        ) from exc
