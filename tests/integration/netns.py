"""Two network namespaces and a wire between them that a test cuts, heals and makes slow.

The kernels that tests run on do not all have netem, so the wire is ours: a TUN device in each
namespace (https://docs.kernel.org/networking/tuntap.html), and a thread that carries the packets from
one to the other, late or not at all. A cut is silent, as it is between hosts: nobody is told.

::

    with make_network() as network:
        agent = network.left.run(lambda: start_agent(folder))
        network.wire.cut()
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import heapq
import os
import select
import struct
import subprocess
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self, TypeVar

import pytest

T = TypeVar("T")

TUN_PATH = "/dev/net/tun"
TUNSETIFF = 0x400454CA
IFF_TUN, IFF_NO_PI = 0x0001, 0x1000
CLONE_NEWNET = 0x40000000
DEVICE = "wire"
PACKET_BYTES = 65_536
BURST = 64
"""Packets that are read from one side before the other has its turn."""


@dataclass(frozen=True, slots=True)
class Place:
    """One namespace: a host of its own, as far as the network goes.

    Attributes:
        name: of the namespace.
        address: of this side of the wire.
    """

    name: str
    address: str

    def run(self, action: Callable[[], T]) -> T:
        """Do something here, in a thread that comes here for it, and return what it returns.

        Sockets that it makes and processes that it starts stay here.
        """
        with ThreadPoolExecutor(1, thread_name_prefix="netns") as thread:
            thread.submit(_enter, Path("/run/netns", self.name)).result()
            return thread.submit(action).result()


class Wire:
    """Carries packets between two TUN devices, in a thread of its own.

    Args:
        left, right: the devices' descriptors; the wire closes them.
        delay_s: how long each packet is on its way.

    Attributes:
        dropped: packets that came while it was cut.
    """

    def __init__(self, left: int, right: int, *, delay_s: float = 0.0) -> None:
        self.delay_s = delay_s
        self.dropped = 0
        self._other = {left: right, right: left}
        self._is_cut = False
        self._wake, self._woken = os.pipe()
        self._thread = threading.Thread(target=self._carry, name="wire")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._woken)  # the thread reads the end of the pipe, and ends
        self._thread.join()
        for descriptor in (self._wake, *self._other):
            os.close(descriptor)

    def cut(self) -> None:
        """Lose every packet from now on, those on their way too."""
        self._is_cut = True

    def heal(self) -> None:
        """Carry packets again."""
        self._is_cut = False

    def _carry(self) -> None:
        on_way: list[tuple[float, int, int, bytes]] = []
        count = 0
        while True:
            timeout_s = max(on_way[0][0] - time.monotonic(), 0) if on_way else None
            ready = select.select([self._wake, *self._other], [], [], timeout_s)[0]
            if self._wake in ready:
                return
            for source in ready:
                for packet in _read_packets(source):
                    count += 1
                    due_s = time.monotonic() + self.delay_s
                    heapq.heappush(on_way, (due_s, count, self._other[source], packet))
            now_s = time.monotonic()
            while on_way and on_way[0][0] <= now_s:
                _, _, target, packet = heapq.heappop(on_way)
                self._deliver(target, packet)

    def _deliver(self, target: int, packet: bytes) -> None:
        if self._is_cut:
            self.dropped += 1
            return
        with contextlib.suppress(OSError):  # the device is full or gone: a packet may get lost
            os.write(target, packet)


@dataclass(frozen=True, slots=True)
class Network:
    """Two places and the wire between them."""

    left: Place
    right: Place
    wire: Wire


@contextmanager
def make_network(*, delay_s: float = 0.0) -> Iterator[Network]:
    """Make two namespaces with a wire between them; they are gone at the end.

    Everything that runs in them must have ended by then.
    """
    if os.geteuid() != 0:
        pytest.skip("platform: only root makes network namespaces")
    if not os.path.exists(TUN_PATH):  # noqa: PTH110 - a device
        pytest.skip("platform: the kernel has no TUN devices")
    word = uuid.uuid4().hex[:8]
    left, right = Place(f"kos-{word}-l", "10.77.0.1"), Place(f"kos-{word}-r", "10.77.0.2")
    with ExitStack() as stack:
        devices = [stack.enter_context(_namespace(place)) for place in (left, right)]
        wire = stack.enter_context(Wire(devices[0], devices[1], delay_s=delay_s))
        for place in (left, right):
            _ip("-n", place.name, "addr", "add", f"{place.address}/24", "dev", DEVICE)
            _ip("-n", place.name, "link", "set", DEVICE, "up")
            _ip("-n", place.name, "link", "set", "lo", "up")
        yield Network(left, right, wire)


@contextmanager
def _namespace(place: Place) -> Iterator[int]:
    """Make a namespace with a TUN device; yield the device, which the caller closes."""
    try:
        _ip("netns", "add", place.name)
    except subprocess.CalledProcessError as exc:
        pytest.skip(f"platform: no network namespaces here: {exc.stderr.strip()}")
    try:
        yield place.run(_open_device)
    finally:
        _ip("netns", "del", place.name)


def _open_device() -> int:
    """Return the descriptor of a new device in the namespace of this thread."""
    device = os.open(TUN_PATH, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    fcntl.ioctl(device, TUNSETIFF, struct.pack("16sH", DEVICE.encode(), IFF_TUN | IFF_NO_PI))
    return device


def _enter(namespace: Path) -> None:
    """Move this thread to a namespace (setns(2)); it should not be used for anything else after."""
    libc = ctypes.CDLL(None, use_errno=True)
    descriptor = os.open(namespace, os.O_RDONLY)
    try:
        if libc.setns(descriptor, CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), "setns")
    finally:
        os.close(descriptor)


def _read_packets(device: int) -> list[bytes]:
    packets: list[bytes] = []
    with contextlib.suppress(BlockingIOError):
        while len(packets) < BURST:
            packets.append(os.read(device, PACKET_BYTES))
    return packets


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True, text=True)
