"""Samples of processes, and whether we run in a container."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import psutil
import pytest

from kagent_sdk.host.processes import (
    ContainerFacts,
    ProcessReader,
    in_container,
    is_container,
    parse_smaps_rollup,
)

ROLLUP = """\
55bd113de000-7fff04b4d000 ---p 00000000 00:00 0                          [rollup]
Rss:                1764 kB
Pss:                 335 kB
Pss_Dirty:           112 kB
Private_Clean:        56 kB
Private_Dirty:       112 kB
Private_Hugetlb:       0 kB
Swap:                  0 kB
"""


def test_proportional_and_unshared_memory_are_read() -> None:
    """Host and worker share an interpreter's pages: resident memory counts them twice."""
    assert parse_smaps_rollup(ROLLUP) == (335 * 1024, 168 * 1024)


@pytest.mark.parametrize("text", [None, "", "no such thing\nPss: much kB\n"])
def test_memory_that_cannot_be_read_is_none(text: str | None) -> None:
    """A kernel without the file, or one that denies it, must not show as 0 bytes."""
    assert parse_smaps_rollup(text) == (None, None)


def test_our_own_process_has_every_number() -> None:
    """The real thing: what the kernel says of this very process."""
    sample = ProcessReader().sample([os.getpid()])[os.getpid()]
    own = psutil.Process()

    assert sample.pid == os.getpid()
    assert sample.rss_bytes is not None
    assert sample.pss_bytes is not None
    assert sample.uss_bytes is not None
    assert 0 < sample.uss_bytes <= sample.pss_bytes <= sample.rss_bytes
    assert sample.cpu_s is not None
    assert sample.cpu_s > 0
    assert sample.threads == own.num_threads()
    assert sample.fds == own.num_fds()
    assert sample.started_at_s == own.create_time()


def test_the_share_of_a_core_needs_two_samples() -> None:
    """The first one knows nothing of the time before; 0 % would be a lie."""
    times = iter([10.0, 10.0, 20.0])
    reader = ProcessReader(clock=lambda: next(times))
    pid = os.getpid()
    first, same_instant, last = (reader.sample([pid])[pid] for _ in range(3))

    assert first.cpu_percent is None
    assert same_instant.cpu_percent is None
    assert last.cpu_percent is not None
    assert same_instant.cpu_s is not None
    assert last.cpu_s is not None
    assert last.cpu_percent == pytest.approx(10 * (last.cpu_s - same_instant.cpu_s))


def test_a_process_that_is_not_asked_for_is_forgotten() -> None:
    """A worker replaced a thousand times must not leave a thousand records."""
    times = iter([10.0, 20.0])
    reader = ProcessReader(clock=lambda: next(times))
    pid = os.getpid()
    reader.sample([pid])

    assert reader.sample([]) == {}
    assert reader.sample([pid])[pid].cpu_percent is None


def test_a_process_that_never_was_is_left_out() -> None:
    """Between the list of workers and the sample one of them may die."""
    assert ProcessReader().sample([2**30]) == {}


class _Denied(psutil.Process):
    """A process of another user, of which the kernel shows only some files."""

    def num_fds(self) -> int:
        raise psutil.AccessDenied(self.pid)


class _Vanishing(psutil.Process):
    """A process that ends in the middle of a sample."""

    def num_threads(self) -> int:
        raise psutil.NoSuchProcess(self.pid)


def test_what_the_kernel_denies_is_unknown_and_the_rest_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker under another user id still shows its memory."""
    monkeypatch.setattr(psutil, "Process", _Denied)
    sample = ProcessReader(proc=tmp_path).sample([os.getpid()])[os.getpid()]

    assert (sample.fds, sample.pss_bytes, sample.uss_bytes) == (None, None, None)
    assert sample.rss_bytes


def test_a_process_that_ends_in_the_middle_of_a_sample_is_left_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One dying worker must not take the numbers of all others along."""
    monkeypatch.setattr(psutil, "Process", _Vanishing)

    assert ProcessReader().sample([os.getpid()]) == {}


def facts(
    *, pid: int = 500, environ: Mapping[str, str] | None = None, membership: str = "0::/\n"
) -> ContainerFacts:
    """Return what is found outside of a container, but for what is given."""
    return ContainerFacts(pid, environ or {}, frozenset(), membership)


@pytest.mark.parametrize(
    "inside",
    [
        facts(pid=1),
        facts(environ={"KUBERNETES_SERVICE_HOST": "10.0.0.1"}),
        facts(environ={"container": "podman"}),
        ContainerFacts(500, {}, frozenset({"/.dockerenv"}), ""),
        facts(membership="4:memory:/docker/0123456789ab\n"),
        facts(membership="0::/kubepods.slice/kubepods-burstable.slice/pod1\n"),
        facts(membership="0::/kubepods/burstable/pod1\n"),
        facts(membership="0::/machine.slice/libpod-0123.scope/container\n"),
        facts(membership="0::/system.slice/docker-0123.scope\n"),
        facts(membership="0::/system.slice/cri-containerd-0123.scope\n"),
        facts(membership="1:name=systemd:/lxc.payload.web\n"),
    ],
)
def test_every_sign_of_a_container_counts(inside: ContainerFacts) -> None:
    """In a container an agent on loopback could be reached by nobody."""
    assert is_container(inside)


@pytest.mark.parametrize(
    "outside",
    [
        facts(),
        facts(environ={"container": ""}),
        facts(membership="0::/user.slice/user-1000.slice/session-2.scope\n"),
        facts(membership="0::/system.slice/docker.service\n"),
        facts(membership="0::/system.slice/containerd.service\n"),
        facts(membership="9:name=systemd:/\n0::/\n"),
    ],
)
def test_a_machine_is_not_taken_for_a_container(outside: ContainerFacts) -> None:
    """On a laptop an agent must not open itself to the network."""
    assert not is_container(outside)


def test_the_facts_are_looked_up_below_a_root(tmp_path: Path) -> None:
    """The marks of podman and the cgroup are real files; here they are put there."""
    assert not in_container(tmp_path, {})
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/cgroup").write_text("0::/system.slice/docker-0123.scope\n")
    assert in_container(tmp_path, {})
    (tmp_path / "proc/self/cgroup").write_text("0::/\n")
    assert not in_container(tmp_path, {})
    (tmp_path / "run").mkdir()
    (tmp_path / "run/.containerenv").touch()

    assert in_container(tmp_path, {})


def test_without_a_given_environment_our_own_is_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The host asks without arguments."""
    monkeypatch.delenv("container", raising=False)
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    assert not in_container(tmp_path)
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")

    assert in_container(tmp_path)
