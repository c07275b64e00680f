"""What programs of ``worker.command`` find on disk: the sockets to notify on, and their secrets."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from kagent_sdk.errors import KagentError, StartupError
from kagent_sdk.host.logs.pump import LogPump
from kagent_sdk.host.notify_socket import NotifySocket
from kagent_sdk.host.secret_folder import SecretFolder
from kagent_sdk.host.vault_keeper import VaultKeeper
from kagent_sdk.protocol.notify import MAX_ADDRESS_BYTES

SOCKETS = "runtime/notify"
"""In the agent's folder, which every sandbox shows to the worker, where it may write nothing:
whoever could move this folder could make the host bind and unlink elsewhere."""


class ProgramFiles:
    """Held by a host for all generations of its workers.

    Args:
        directory: the agent's folder.
        keeper: knows the secrets.
        pump: told of secrets that cannot be written.
    """

    def __init__(self, directory: Path, keeper: VaultKeeper, pump: LogPump) -> None:
        self._directory = directory
        self._keeper = keeper
        self._pump = pump
        self._folder = SecretFolder()
        self._secrets: Mapping[str, object] = {}
        self._sockets: Path | None = None
        self._count = 0

    @property
    def credentials(self) -> Path | None:
        """The folder of the secrets; None when there are none."""
        return self._folder.path

    def shared(self) -> tuple[str, ...]:
        """Return the folders that the programs need to see, wherever they are."""
        folders = (self._sockets, None if self.credentials is None else self.credentials.parent)
        return tuple(os.path.realpath(folder) for folder in folders if folder is not None)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keep the files in place for the time of the block.

        Raises:
            StartupError: there is no place for them.
            VaultError: a secret's name cannot be that of a file.
        """
        self._folder.clean()
        self._sockets = _make_socket_folder(self._directory)
        try:
            if self._secrets:
                self._folder.replace(self._secrets)
            yield
        finally:
            self._folder.remove()
            shutil.rmtree(self._sockets, ignore_errors=True)
            self._sockets = None

    def share(self, names: Sequence[str]) -> None:
        """Give the programs the secrets of these names, as a whole; those that run see them too.

        When their files cannot be made the earlier ones stay, and why is told.
        """
        secrets = self._keeper.vault.known(names)
        if secrets == self._secrets:
            return
        try:
            if self._sockets is not None:
                self._folder.replace(secrets)
            self._secrets = secrets
        except KagentError as exc:
            self._pump.log("error", "secrets_not_replaced", reason=str(exc))

    def make_socket(self) -> NotifySocket:
        """Return a new socket for one program.

        Raises:
            OSError: descriptors are used up.
        """
        assert self._sockets is not None
        self._sockets.mkdir(mode=0o700, exist_ok=True)  # a program may have removed it
        self._count += 1
        return NotifySocket(self._sockets / str(self._count))


def _make_socket_folder(directory: Path) -> Path:
    """Make a private folder for sockets: the agent's own, or where that cannot be, a temporary one.

    Raises:
        StartupError: it cannot be made.
    """
    folder = directory / SOCKETS
    shutil.rmtree(folder, ignore_errors=True)
    if len(os.fsencode(folder)) + len("/0123456789") <= MAX_ADDRESS_BYTES:
        try:
            folder.mkdir(mode=0o700)
            # Some mounts of other machines' folders have no sockets.
            NotifySocket(folder / "0").close()
        except OSError:
            shutil.rmtree(folder, ignore_errors=True)
        else:
            return folder
    try:
        return Path(tempfile.mkdtemp(prefix="kagent-"))
    except OSError as exc:
        raise StartupError(f"cannot make a folder for sockets: {exc.strerror}") from exc
