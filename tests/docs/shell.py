"""The shell that a page's commands are typed into: bash, in a folder of the page's own.

Agents and meshes that a page starts in the background (a command that ends with ``&``) listen on a free port.
The page says ``localhost:8080`` as a reader would; that is exchanged for the real address in
commands, and back in their output. On a `Machine` of its own a page is typed in as it stands.
"""

from __future__ import annotations

import json
import os
import re
import selectors
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from tests.agents import MARKER_NAME, agent_environment
from tests.docs.blocks import PageError

BASH = ("bash", "--noprofile", "--norc")
COMMAND_DEADLINE_S = 60.0
READY_DEADLINE_S = 30.0
STOP_DEADLINE_S = 40.0
POLL_S = 0.02

_JOB_NOTICE = re.compile(r"^bash: line \d+: +\d+ Killed .*\n", re.MULTILINE)
"""What bash says, at some later command, of an agent that a page has killed."""

_MESH = re.compile(r"kos-agent up\b")

_WRITTEN_ADDRESS = re.compile(r"\b(?:localhost|127\.0\.0\.1):8080\b")


@dataclass(frozen=True, slots=True)
class Machine:
    """Where a page has everything for itself: no command is changed, and no agent waited for.

    Attributes:
        command: what starts bash there.
        environment: all of it.
    """

    command: tuple[str, ...]
    environment: Mapping[str, str]


class PageShell:
    """A running bash; use it in a ``with`` block, whose end stops the agents.

    Args:
        folder: the page's own folder, which must exist; a ``log`` folder is made beside it.
        machine: where it runs; None: here, beside others.
    """

    def __init__(self, folder: Path, machine: Machine | None = None) -> None:
        self._folder = folder
        self._machine = machine
        self._logs = folder.with_name(f"{folder.name}-logs")
        self._status = 0
        self._address: str | None = None
        self._backgrounds = 0
        self._token = uuid.uuid4().hex
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        """Start bash."""
        self._logs.mkdir()
        if self._machine:
            self._logs.chmod(0o1777)  # whoever types there
        machine = self._machine or Machine(BASH, self._environment())
        self._process = subprocess.Popen(
            machine.command,
            cwd=self._folder,
            env=dict(machine.environment),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            bufsize=0,
        )
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Stop the agents with SIGTERM; one that does not end cleanly fails the page."""
        status = self._stop_agents()
        self._kill()
        if status != 0 and kind is None:
            raise PageError(f"an agent ended with {status}\n{self.log_text}")

    @property
    def log_text(self) -> str:
        """The end of what the agents wrote."""
        return "\n".join(path.read_text()[-4000:] for path in sorted(self._logs.iterdir()))

    def run(self, command: str, deadline_s: float = COMMAND_DEADLINE_S) -> tuple[int, str]:
        """Run a command in the shell; return its exit status and what it wrote.

        Raises:
            PageError: it did not end in time, or the shell itself is gone.
        """
        is_background = command.rstrip().endswith("&")
        if is_background:
            self._backgrounds += 1
            log = self._logs / f"{self._backgrounds}.log"
            port = " --port 0" if _MESH.match(command) and not self._machine else ""
            command = f"{command.rstrip()[:-1]}{port} >'{log}' 2>&1 &"
        if self._address:
            command = _WRITTEN_ADDRESS.sub(self._address, command)
        self._type(command)
        self._status, output = self._read_answer(deadline_s)
        if is_background and not self._machine:
            self._wait_mesh() if _MESH.match(command) else self._wait_ready()
        if self._address:
            output = output.replace(self._address, "127.0.0.1:8080")
        return self._status, _JOB_NOTICE.sub("", output)

    def _stop_agents(self) -> int:
        stop = 'for job in $(jobs -p); do kill "$job"; wait "$job" || exit; done'
        try:
            return self.run(stop, STOP_DEADLINE_S)[0]
        except (PageError, OSError, ValueError):
            return -1

    def _kill(self) -> None:
        """End the shell, and what is left in its process group; idempotent."""
        assert self._process is not None
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
        # Leaving Popen's own block closes the pipes and waits.
        with self._process:
            pass

    def _environment(self) -> dict[str, str]:
        marker = os.environ.get(MARKER_NAME, self._token)
        environment = agent_environment({"NO_COLOR": "1", "COLUMNS": "100"}, marker)
        scripts = str(Path(sys.executable).parent)
        environment["PATH"] = os.pathsep.join([scripts, environment.get("PATH", os.defpath)])
        environment["HOME"] = str(self._folder)
        return environment

    def _type(self, command: str) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        # $? must be the last command's for the page too, and no command may eat what we type.
        lines = f"{{ (exit {self._status})\n{command}\n}} </dev/null\nprintf '\\n%s %d\\n' "
        self._process.stdin.write(f"{lines}{self._token} $?\n".encode())

    def _read_answer(self, deadline_s: float) -> tuple[int, str]:
        assert self._process is not None
        assert self._process.stdout is not None
        end = re.compile(rb"\n%b (\d+)\n" % self._token.encode())
        give_up_at = time.monotonic() + deadline_s
        output = b""
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            while (found := end.search(output)) is None:
                if not selector.select(max(0.0, give_up_at - time.monotonic())):
                    self._kill()
                    raise PageError(f"no end after {deadline_s:.0f} s; so far:\n{output.decode()}")
                chunk = os.read(self._process.stdout.fileno(), 65536)
                if not chunk:
                    raise PageError(f"the shell ended; so far:\n{output.decode()}")
                output += chunk
        return int(found[1]), output[: found.start()].decode()

    def _wait_mesh(self) -> None:
        """Wait until all replicas are ready, and take the orchestrator's address for that of the page."""
        give_up_at = time.monotonic() + READY_DEADLINE_S
        while time.monotonic() < give_up_at:
            with suppress(OSError, ValueError):
                document = json.loads(
                    (self._folder / ".kos-mesh" / "orchestrator.json").read_bytes()
                )
                token = (self._folder / ".kos-mesh" / "operator-token").read_text()
                request = urllib.request.Request(
                    f"{document['url']}/v1/fleet", headers={"Authorization": f"Bearer {token}"}
                )
                with urllib.request.urlopen(request, timeout=5) as answer:
                    agents = json.load(answer)["agents"]
                if agents and all(one["ready"] == len(one["replicas"]) > 0 for one in agents):
                    self._address = document["url"].partition("://")[2]
                    return
            time.sleep(POLL_S)
        raise PageError(f"the mesh is not ready after {READY_DEADLINE_S:.0f} s\n{self.log_text}")

    def _wait_ready(self) -> None:
        give_up_at = time.monotonic() + READY_DEADLINE_S
        while time.monotonic() < give_up_at:
            for document in self._folder.rglob("runtime/host.json"):
                with suppress(OSError, ValueError):
                    url = json.loads(document.read_bytes())["url"].rstrip("/")
                    with urllib.request.urlopen(f"{url}/readyz", timeout=5):
                        self._address = url.partition("://")[2]
                        return
            time.sleep(POLL_S)
        raise PageError(f"no agent is ready after {READY_DEADLINE_S:.0f} s\n{self.log_text}")
