"""Unit tests of kagent_sdk.sandbox.seccomp.rules."""

from __future__ import annotations

import itertools
import socket

import pytest

from kagent_sdk.sandbox.policy import Destination, Isolation, Network, Policy
from kagent_sdk.sandbox.seccomp.rules import Rules, rules_for
from kagent_sdk.sandbox.seccomp.syscalls import ARCHITECTURES
from tests.unit.sandbox.seccomp.machine import ALLOWED, REFUSED, judge
from tests.unit.sandbox.seccomp.policies import POLICIES

policies = pytest.mark.parametrize("policy", POLICIES.values(), ids=POLICIES.keys())

GARBAGE = 0xABCDEF01_00000000
"""In the half of a register that the kernel does not read as an int."""

ABSENT_ON_PURPOSE = """
Flags in memory, which a filter does not see; callers fall back:
    clone3 openat2
Newer than any library needs; callers fall back:
    cachestat futex_wake futex_wait futex_requeue statmount listmount mseal lsm_get_self_attr
    lsm_set_self_attr lsm_list_modules setxattrat getxattrat listxattrat removexattrat
    open_tree_attr file_getattr file_setattr
For the kernel's own trampolines:
    uretprobe uprobe
Not there on a kernel of today either:
    _sysctl afs_syscall create_module epoll_ctl_old epoll_wait_old get_kernel_syms getpmsg putpmsg
    query_module security sysfs tuxcall ustat vserver
"""


def call(rules: Rules, name: str, *arguments: int) -> int:
    """Return what the rules say of a call, of which some arguments matter."""
    padded = (*arguments, *(0 for _ in range(6 - len(arguments))))
    return judge(rules, name, tuple(argument % 2**64 for argument in padded))


def is_allowed(policy: Policy, name: str, *arguments: int) -> bool:
    """Whether a call is allowed, also with garbage in the upper halves of its arguments."""
    rules = rules_for(policy)
    verdict = call(rules, name, *arguments)
    assert verdict in {ALLOWED, REFUSED}
    garbled = [argument % 2**32 | GARBAGE for argument in arguments]
    assert call(rules, name, *garbled) == verdict
    return verdict == ALLOWED


def with_network(**options: object) -> Policy:
    """Return a policy of which only the network matters."""
    return Policy(network=Network(**options))  # type: ignore[arg-type]  # by name, in the tests


@policies
def test_every_syscall_is_in_one_list(policy: Policy) -> None:
    """In two lists a syscall would have the outcome of whichever is read last."""
    rules = rules_for(policy)
    lists = [rules.allowed, rules.refused, rules.allowed_if.keys(), rules.refused_if.keys()]

    assert all(not set(one) & set(other) for one, other in itertools.combinations(lists, 2))


@policies
def test_every_syscall_was_decided_about(policy: Policy) -> None:
    """What nobody has thought about is ENOSYS; that it is so should be on purpose."""
    rules = rules_for(policy)
    known = {name for of in ARCHITECTURES.values() for name in of.numbers()}
    decided = rules.allowed | rules.refused | rules.allowed_if.keys() | rules.refused_if.keys()

    assert known - decided == known & set(ABSENT_ON_PURPOSE.split())
    assert decided <= known


SOCKETS = {
    "tcp": (socket.AF_INET, socket.SOCK_STREAM, 0),
    "tcp by number": (socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_CLOEXEC, 6),
    "tcp over ipv6": (socket.AF_INET6, socket.SOCK_STREAM | socket.SOCK_NONBLOCK, 0),
    "udp": (socket.AF_INET, socket.SOCK_DGRAM, 0),
    "udp over ipv6": (socket.AF_INET6, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC, 17),
    "mptcp": (socket.AF_INET, socket.SOCK_STREAM, 262),
    "sctp": (socket.AF_INET, socket.SOCK_STREAM, 132),
    "udplite": (socket.AF_INET, socket.SOCK_DGRAM, 136),
    "ping": (socket.AF_INET, socket.SOCK_DGRAM, 1),
    "raw": (socket.AF_INET, socket.SOCK_RAW, 1),
    "packet by type": (socket.AF_INET, 10, 768),
    "packet": (socket.AF_PACKET, socket.SOCK_RAW, 768),
    "netlink": (socket.AF_NETLINK, socket.SOCK_RAW, 0),
    "vsock": (socket.AF_VSOCK, socket.SOCK_STREAM, 0),
    "alg": (socket.AF_ALG, socket.SOCK_SEQPACKET, 0),
    "unix stream": (socket.AF_UNIX, socket.SOCK_STREAM, 0),
    "unix datagrams": (socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC, 0),
}
TCP = {"tcp", "tcp by number", "tcp over ipv6"}
UDP = {"udp", "udp over ipv6"}
UNIX = {"unix stream", "unix datagrams"}


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        (Policy(), set()),
        (with_network(connect=(3128,)), TCP),
        (with_network(listen=(8000,)), TCP),
        (with_network(allow=(Destination("example.com", 443),)), TCP),
        (with_network(external=True), TCP | UDP),
        (with_network(unix_sockets=True), UNIX),
        (with_network(external=True, unix_sockets=True), TCP | UDP | UNIX),
    ],
    ids=["nothing", "connect", "listen", "allow", "external", "unix", "external and unix"],
)
def test_only_sockets_that_are_bound_to_ports_can_be_made(
    policy: Policy, expected: set[str]
) -> None:
    """Landlock knows ports of TCP alone: every other kind of socket would be a way around it."""
    made = {name for name, triple in SOCKETS.items() if is_allowed(policy, "socket", *triple)}

    assert made == expected


@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_SEQPACKET])
@policies
def test_pairs_can_always_be_made(policy: Policy, kind: int) -> None:
    """An event loop wakes itself over one."""
    assert is_allowed(policy, "socketpair", socket.AF_UNIX, kind | socket.SOCK_CLOEXEC)
    assert not is_allowed(policy, "socketpair", socket.AF_TIPC, kind)


@pytest.mark.parametrize("kind", [socket.SOCK_DGRAM, socket.SOCK_RAW])
def test_pairs_of_datagram_sockets_are_unix_sockets(kind: int) -> None:
    """Such a socket can still send to any socket of the file system: systemd's, the log's."""
    assert not is_allowed(Policy(), "socketpair", socket.AF_UNIX, kind)
    assert is_allowed(with_network(unix_sockets=True), "socketpair", socket.AF_UNIX, kind)


@pytest.mark.parametrize(("name", "position"), [("sendto", 3), ("sendmsg", 2), ("sendmmsg", 3)])
def test_sending_cannot_connect(name: str, position: int) -> None:
    """MSG_FASTOPEN connects without connect(2), where Landlock checks the port."""
    fast = (*(0 for _ in range(position)), socket.MSG_FASTOPEN | socket.MSG_NOSIGNAL)
    plain = (*(0 for _ in range(position)), socket.MSG_NOSIGNAL)

    assert not is_allowed(with_network(connect=(3128,)), name, *fast)
    assert is_allowed(with_network(connect=(3128,)), name, *plain)
    assert is_allowed(with_network(external=True), name, *fast)


def test_a_tcp_socket_stays_one() -> None:
    """A protocol on top (TCP_ULP: smc) connects where Landlock does not look."""
    policy = with_network(connect=(3128,))

    assert not is_allowed(policy, "setsockopt", 3, socket.IPPROTO_TCP, 30)
    assert not is_allowed(policy, "setsockopt", 3, socket.IPPROTO_TCP, 31)
    assert is_allowed(policy, "setsockopt", 3, socket.IPPROTO_TCP, socket.TCP_NODELAY)
    assert is_allowed(policy, "setsockopt", 3, socket.SOL_SOCKET, 30)
    assert is_allowed(with_network(external=True), "setsockopt", 3, socket.IPPROTO_TCP, 30)


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        (with_network(connect=(3128,)), False),
        (with_network(external=True), False),
        (with_network(listen=(8000,)), True),
        (with_network(unix_sockets=True), True),
    ],
)
def test_who_has_no_port_does_not_listen(policy: Policy, *, expected: bool) -> None:
    """listen(2) without bind(2) takes any free port, of which Landlock hears nothing."""
    assert is_allowed(policy, "listen", 3, 128) is expected


@pytest.mark.parametrize("flag", [2**17, 2**25, 2**26, 2**27, 2**28, 2**29, 2**30, 2**15])
def test_clone_makes_no_namespace_and_no_child_of_the_host(flag: int) -> None:
    """In a namespace of one's own one is root, and meets the kernel's least tested parts."""
    sigchld, thread = 17, 0x3D0F00

    assert is_allowed(Policy(), "clone", sigchld)
    assert is_allowed(Policy(), "clone", thread)
    assert not is_allowed(Policy(), "clone", flag | sigchld)


@pytest.mark.parametrize(
    "name",
    ["prlimit64", "sched_setscheduler", "sched_setparam", "sched_setattr", "get_robust_list"],
)
def test_only_the_process_itself_is_changed(name: str) -> None:
    """Processes of the same user are the host and other agents; Landlock guards signals alone."""
    assert is_allowed(Policy(), name, 0)
    assert not is_allowed(Policy(), name, 1)
    assert not is_allowed(Policy(), name, -1)


def test_priority_is_lowered_for_the_process_itself() -> None:
    """os.nice() is fine; slowing down the host is not."""
    assert is_allowed(Policy(), "setpriority", 0, 0, 10)
    assert not is_allowed(Policy(), "setpriority", 0, 1, 10)
    assert not is_allowed(Policy(), "setpriority", 2, 0, 10)


@pytest.mark.parametrize(
    ("name", "command"),
    [
        *(("ioctl", code) for code in (0x5412, 0x541C, 0x541D, 0x5423, 0x8901, 0x8902)),
        ("fcntl", 8),
        ("fcntl", 15),
    ],
)
def test_terminals_and_owners_of_signals_are_left_alone(name: str, command: int) -> None:
    """What is typed into the terminal, the shell outside runs."""
    assert not is_allowed(Policy(), name, 0, command)
    assert is_allowed(Policy(), name, 0, command ^ 0x80)


@pytest.mark.parametrize(
    ("name", "mode"),
    [("chmod", 1), ("fchmod", 1), ("fchmodat", 2), ("fchmodat2", 2), ("creat", 1), ("mknod", 1)],
)
def test_no_file_becomes_set_user_id(name: str, mode: int) -> None:
    """Whoever runs such a file has the agent's user."""
    before = [0] * mode

    assert is_allowed(Policy(), name, *before, 0o755)
    assert is_allowed(Policy(), name, *before, 0o2775)
    assert not is_allowed(Policy(), name, *before, 0o4755)


@pytest.mark.parametrize(("name", "flags"), [("open", 1), ("openat", 2)])
def test_no_file_is_made_set_user_id(name: str, flags: int) -> None:
    """The mode counts only when a file is made; else it is whatever the register holds."""
    before = [0] * flags

    assert is_allowed(Policy(), name, *before, 0, 0o4755)
    assert is_allowed(Policy(), name, *before, 0o100, 0o644)
    assert not is_allowed(Policy(), name, *before, 0o100, 0o4755)
    assert not is_allowed(Policy(), name, *before, 0o20200000, 0o4755)


def test_personality_is_only_asked() -> None:
    """READ_IMPLIES_EXEC and ADDR_NO_RANDOMIZE make memory easier to attack."""
    assert is_allowed(Policy(), "personality", -1)
    assert is_allowed(Policy(), "personality", 0)
    assert not is_allowed(Policy(), "personality", 0x40000)


def test_named_memory_and_queues_need_a_namespace() -> None:
    """Those of other processes of the user are open to it, and Landlock does not see them."""
    for name in ("shmget", "semget", "msgget", "mq_open"):
        assert not is_allowed(Policy(), name)
        assert is_allowed(Policy(isolation=Isolation.BWRAP), name)
