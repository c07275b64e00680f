"""From inside a container that is started by the generated flags: nothing is loose, nothing leaves."""

from __future__ import annotations

import socket

from tests.images.podman import Container, Podman
from tests.integration.waiting import wait_until

FINE = {"in_force", "not_asked_for"}

CONNECT = """
import socket, sys
try:
    socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=10).close()
except OSError as exc:
    sys.exit(f"blocked: {exc}")
print("reached")
"""


def test_every_control_is_in_force(standing_trial: Container) -> None:
    """An operator looks at one place, and it is green: no finding has to be explained away."""
    container = standing_trial
    wait_until(lambda: bool(container.status()["sandbox"]["controls"]))
    sandbox = container.status()["sandbox"]
    loose = {
        each["control"]: each["actual"]
        for each in sandbox["controls"]
        if each["verdict"] not in FINE
    }

    assert loose == {}
    assert sandbox["holds"]
    assert container.exec("kos-agent", "doctor").returncode == 0


def test_nothing_outside_is_reached(
    podman: Podman, python_base: str, standing_trial: Container, unique: str
) -> None:
    """Without a network there is no way for data to leave, whatever the code does."""
    container = standing_trial
    podman.run("network", "create", unique)
    gateway = podman.run(
        "network", "inspect", "--format={{(index .Subnets 0).Gateway}}", unique
    ).stdout.strip()
    with socket.create_server(("0.0.0.0", 0)) as server:  # noqa: S104 - the bridge comes and goes
        where = (gateway, str(server.getsockname()[1]))
        free = podman.run(
            "run", "--rm", f"--network={unique}", python_base, "python3", "-c", CONNECT, *where
        )
        held = container.exec("python3", "-c", CONNECT, *where, check=False)
        worker = container.call("reach", f"host={where[0]}", f"port:={where[1]}")

    assert free.stdout.strip() == "reached"
    assert (held.returncode, held.stderr.strip()) == (
        1,
        "blocked: [Errno 101] Network is unreachable",
    )
    assert worker.startswith("PermissionError")
    assert container.exec("ls", "/sys/class/net").stdout.split() == ["lo"]
