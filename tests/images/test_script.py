"""The exported script of an agent with an allow-list: two containers, one way out, peers by name."""

from __future__ import annotations

import random
import subprocess
from pathlib import Path

from kagent_sdk.config import read_config
from kagent_sdk.deploy.deployment import describe
from kagent_sdk.deploy.docker_run import SCRIPT, render
from kagent_sdk.deploy.settings import read_settings
from tests.images.podman import Container, Podman, most_processes
from tests.images.sites import COURIER, PORT, Site, address_of
from tests.images.test_lockdown import FINE
from tests.integration.waiting import wait_until


def test_nothing_leaves_but_through_the_second_container(site: Site, tmp_path: Path) -> None:
    """A shell and an engine are enough for an agent that must reach one host, and no other."""
    name, podman = site.name, site.podman
    # No one's private addresses: to the rules they are of the internet.
    subnet = f"11.{random.randrange(256)}.{random.randrange(256)}.0/24"  # noqa: S311 - no secret
    podman.run("network", "create", f"--subnet={subnet}", f"{name}-outside")
    podman.run("network", "create", "--internal", f"{name}-mesh")
    outside = site.serve(f"{name}-outside", "dest.example.com")
    site.serve(f"{name}-mesh", "peer.internal")
    run_script(podman, write_script(site, tmp_path / "deploy"))
    agent, egress = Container(podman, name), Container(podman, f"{name}-egress")
    egress.wait_logged("egress_listening")
    agent.wait_ready()
    wait_until(lambda: bool(agent.status()["sandbox"]["controls"]))
    loose = [each for each in agent.status()["sandbox"]["controls"] if each["verdict"] not in FINE]
    allowed = agent.call("fetch", f"url=http://dest.example.com:{PORT}/")
    peer = agent.call("fetch", f"url=http://peer.internal:{PORT}/")
    refused = agent.call("fetch", "url=http://dest.example.com:8081/")
    past = agent.call("reach", f"host={address_of(outside)}", f"port:={PORT}")
    through = [record["destination"] for record in egress.records("egress_closed")]

    assert loose == []
    assert (allowed, peer) == ("page", "page")
    assert refused == "403 not_listed"
    assert past.startswith("PermissionError")
    assert through == [f"dest.example.com:{PORT}"]


def write_script(site: Site, folder: Path) -> Path:
    """Export the courier's script into a folder, with what this machine has to say besides."""
    folder.mkdir()
    config = read_config(COURIER, environ={}).config.model_copy(update={"name": site.name})
    vault = site.agent_folder / "secrets"
    words = (f"image={site.image}", f"network={site.name}-mesh", f"vault={vault}")
    rendering = render(describe(config, "", read_settings(words)))
    most = most_processes()
    for name, text in rendering.files.items():
        flag, more = "--pids-limit=", ""
        if most is not None and name == SCRIPT:
            assert text.count(flag) == 2
            more = f"--ulimit=nproc={most}:{most} \\\n  "
        (folder / name).write_text(text.replace(flag, f"{more}{flag}"))
    (folder / SCRIPT).chmod(0o755)
    return folder / SCRIPT


def run_script(podman: Podman, script: Path) -> None:
    """Start both containers, and return when the engine has."""
    subprocess.run(
        [script, "--detach"], check=True, env=dict(podman.environment), stdin=subprocess.DEVNULL
    )
