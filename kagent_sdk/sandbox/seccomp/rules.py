"""What a policy lets a process ask of the kernel: syscalls by name, and by their arguments.

An argument is compared as the kernel reads it: an ``int`` by its 32 bits, for the rest of the
register is anyone's; a filter that compared all of it could be walked around.
"""

from __future__ import annotations

from kagent_sdk.sandbox.policy import Isolation, Network, Policy

Condition = tuple[int, int, int]
"""Argument (0 to 5), mask, value: the argument, masked, is the value. 64 bits each."""

Conditions = tuple[Condition, ...]
"""They hold together."""

Alternatives = tuple[Conditions, ...]
"""One of them holds."""


class Rules:
    """What happens with every syscall; one that is not named does not exist: ENOSYS.

    Attributes:
        allowed: whatever their arguments are.
        allowed_if: when one of the alternatives holds; else EPERM.
        refused_if: not when one of the alternatives holds: EPERM; else they are allowed.
        refused: never: EPERM.
    """

    __slots__ = ("allowed", "allowed_if", "refused", "refused_if")

    def __init__(
        self,
        *,
        allowed: frozenset[str],
        allowed_if: dict[str, Alternatives],
        refused_if: dict[str, Alternatives],
        refused: frozenset[str],
    ) -> None:
        self.allowed = allowed
        self.allowed_if = allowed_if
        self.refused_if = refused_if
        self.refused = refused


_INT = 0xFFFFFFFF

# The numbers below are the same on x86_64 and aarch64.

# linux/sched.h: CLONE_NEW{NS,CGROUP,UTS,IPC,USER,PID,NET}, and CLONE_PARENT, which would make the
# child one of the host's. CLONE_NEWTIME cannot be asked of clone(2).
_CLONE_REFUSED = 0x7E020000 | 0x00008000

_AF_UNIX, _AF_INET, _AF_INET6 = 1, 2, 10
_SOCK_TYPE = 0xF  # the rest are SOCK_CLOEXEC and SOCK_NONBLOCK, or EINVAL
_SOCK_STREAM, _SOCK_DGRAM, _SOCK_SEQPACKET = 1, 2, 5
_IPPROTO_TCP, _IPPROTO_UDP = 6, 17
_MSG_FASTOPEN = 0x20000000
_TCP_FASTOPEN_CONNECT, _TCP_ULP = 30, 31

_CREATING = 0o100 | 0o20000000  # O_CREAT, __O_TMPFILE: only then open(2) reads a mode
_S_ISUID = 0o4000

# Typing into the terminal that the process was started from, and taking it over; who gets a
# signal when a file becomes readable (TIOCSTI, TIOCLINUX, TIOCCONS, TIOCSETD; FIOSETOWN,
# SIOCSPGRP). And flags of a file that may only be read (FS_IOC_SETFLAGS, FS_IOC_FSSETXATTR).
_IOCTL_REFUSED = (0x5412, 0x541C, 0x541D, 0x5423, 0x8901, 0x8902, 0x40086602, 0x401C5820)
# F_SETOWN, F_SETOWN_EX: the same signal. F_SETLEASE: whoever writes a file that may only be read
# here, the host too, would wait.
_FCNTL_REFUSED = (8, 15, 1024)
_PRCTL_REFUSED = (35, 62)  # PR_SET_MM; PR_SCHED_CORE, which is about any process

_ALLOWED = """
read write readv writev pread64 pwrite64 preadv pwritev preadv2 pwritev2 lseek close close_range
dup dup2 dup3 pipe pipe2 select pselect6 poll ppoll epoll_create epoll_create1 epoll_ctl
epoll_wait epoll_pwait epoll_pwait2 eventfd eventfd2 signalfd signalfd4 timerfd_create
timerfd_settime timerfd_gettime inotify_init inotify_init1 inotify_add_watch inotify_rm_watch
sendfile splice tee vmsplice copy_file_range io_setup io_destroy io_getevents io_pgetevents
io_submit io_cancel

stat lstat fstat newfstatat statx access faccessat faccessat2 readlink readlinkat statfs fstatfs
getdents getdents64 getcwd chdir fchdir rename renameat renameat2 mkdir mkdirat rmdir link linkat
unlink unlinkat symlink symlinkat truncate ftruncate fallocate fadvise64 readahead flock fsync
fdatasync sync syncfs sync_file_range umask chown fchown lchown fchownat utime utimes utimensat
futimesat getxattr lgetxattr fgetxattr listxattr llistxattr flistxattr

mmap munmap mremap mprotect msync mincore madvise brk mlock mlock2 munlock mlockall munlockall
memfd_create pkey_mprotect pkey_alloc pkey_free membarrier map_shadow_stack

fork vfork execve execveat exit exit_group wait4 waitid kill tkill tgkill pidfd_open
pidfd_send_signal rt_sigaction rt_sigprocmask rt_sigreturn rt_sigpending rt_sigtimedwait
rt_sigqueueinfo rt_tgsigqueueinfo rt_sigsuspend sigaltstack pause restart_syscall
set_tid_address set_robust_list rseq futex futex_waitv arch_prctl set_thread_area
get_thread_area seccomp landlock_create_ruleset landlock_add_rule landlock_restrict_self

getpid getppid gettid getuid geteuid getgid getegid getresuid getresgid getgroups getpgid getpgrp
getsid setpgid setsid setuid setgid setreuid setregid setresuid setresgid setfsuid setfsgid
setgroups capget capset getrlimit setrlimit getrusage getpriority ioprio_get sched_yield
sched_getparam sched_getscheduler sched_getattr sched_getaffinity sched_get_priority_max
sched_get_priority_min sched_rr_get_interval times uname sysinfo getcpu getrandom

time gettimeofday clock_gettime clock_getres clock_nanosleep nanosleep alarm getitimer setitimer
timer_create timer_settime timer_gettime timer_getoverrun timer_delete

connect bind accept accept4 shutdown recvfrom recvmsg recvmmsg getsockname getpeername getsockopt
"""

# Attributes of any file of the user's could be changed, for Landlock has no right for them; what
# copies files with theirs takes EPERM for "there are none here".
#
# Everything else that has a name is ENOSYS, as on a kernel that was built without it: so that
# glibc falls back from clone3, and others from openat2, whose flags are in memory where no filter
# can see them.
_REFUSED = """
ptrace process_vm_readv process_vm_writev pidfd_getfd kcmp process_madvise process_mrelease
move_pages migrate_pages sched_setaffinity ioprio_set

unshare setns mount umount2 pivot_root chroot fsopen fsconfig fsmount fspick move_mount open_tree
mount_setattr swapon swapoff quotactl quotactl_fd name_to_handle_at open_by_handle_at
fanotify_init fanotify_mark

bpf perf_event_open userfaultfd io_uring_setup io_uring_enter io_uring_register keyctl add_key
request_key memfd_secret mbind set_mempolicy get_mempolicy set_mempolicy_home_node modify_ldt
remap_file_pages

setxattr lsetxattr fsetxattr removexattr lremovexattr fremovexattr

init_module finit_module delete_module kexec_load kexec_file_load reboot acct syslog
settimeofday clock_settime clock_adjtime adjtimex sethostname setdomainname vhangup iopl ioperm
lookup_dcookie uselib nfsservctl
"""

_SYSTEM_V_AND_QUEUES = """
shmget shmat shmctl shmdt semget semop semtimedop semctl msgget msgsnd msgrcv msgctl
mq_open mq_unlink mq_timedsend mq_timedreceive mq_notify mq_getsetattr
"""


def rules_for(policy: Policy) -> Rules:
    """Return what a policy allows; the same for every architecture."""
    allowed = set(_ALLOWED.split())
    refused = set(_REFUSED.split())
    network = policy.network
    # They have names of their own, which Landlock does not see, and the user's id as the only
    # guard: only with a namespace of one's own they are not those of other processes.
    apart = policy.isolation is Isolation.BWRAP
    (allowed if apart else refused).update(_SYSTEM_V_AND_QUEUES.split())
    # listen(2) without bind(2) takes any free port, and Landlock hears nothing of it.
    listens = network.listen or network.unix_sockets
    (allowed if listens else refused).add("listen")
    allowed_if = _of_processes() | _of_files() | _of_sockets(network)
    refused_if: dict[str, Alternatives] = {
        "ioctl": tuple((_is(1, request),) for request in _IOCTL_REFUSED),
        "fcntl": tuple((_is(1, command),) for command in _FCNTL_REFUSED),
        "prctl": tuple((_is(0, option),) for option in _PRCTL_REFUSED),
    }
    if network.external:
        allowed.update(("sendto", "sendmsg", "sendmmsg", "setsockopt"))
    else:
        # Both connect where Landlock does not look: a port is checked in connect(2) alone, and
        # a protocol over TCP may take the socket over.
        allowed_if |= {
            name: ((_lacks(flags, _MSG_FASTOPEN),),)
            for name, flags in (("sendto", 3), ("sendmsg", 2), ("sendmmsg", 3))
        }
        refused_if["setsockopt"] = tuple(
            (_is(1, _IPPROTO_TCP), _is(2, option)) for option in (_TCP_FASTOPEN_CONNECT, _TCP_ULP)
        )
    return Rules(
        allowed=frozenset(allowed),
        allowed_if=allowed_if,
        refused_if=refused_if,
        refused=frozenset(refused),
    )


def _is(argument: int, value: int) -> Condition:
    return argument, _INT, value


def _lacks(argument: int, bits: int) -> Condition:
    return argument, bits, 0


def _of_processes() -> dict[str, Alternatives]:
    """The calling process alone: another of its user's is none of its business."""
    itself = ((_is(0, 0),),)
    return {
        "clone": ((_lacks(0, _CLONE_REFUSED),),),
        "prlimit64": itself,
        "sched_setscheduler": itself,
        "sched_setparam": itself,
        "sched_setattr": itself,
        "get_robust_list": itself,
        "setpriority": ((_is(0, 0), _is(1, 0)),),  # PRIO_PROCESS
        "personality": ((_is(0, 0),), (_is(0, _INT),)),  # PER_LINUX, or asking what it is
    }


def _of_files() -> dict[str, Alternatives]:
    """No set-user-ID file, which others would run as the agent's user."""
    modes = (
        ("chmod", 1),
        ("fchmod", 1),
        ("fchmodat", 2),
        ("fchmodat2", 2),
        ("mknod", 1),
        ("mknodat", 2),
        ("creat", 1),
    )
    rules: dict[str, Alternatives] = {name: ((_lacks(mode, _S_ISUID),),) for name, mode in modes}
    for name, flags in (("open", 1), ("openat", 2)):
        rules[name] = ((_lacks(flags, _CREATING),), (_lacks(flags + 1, _S_ISUID),))
    return rules


def _of_sockets(network: Network) -> dict[str, Alternatives]:
    """Sockets that Landlock can bind to ports: no MPTCP, no raw, packet or netlink sockets."""
    kinds: list[tuple[int, int]] = []
    if network.external or network.allow or network.connect or network.listen:
        kinds.append((_SOCK_STREAM, _IPPROTO_TCP))
    if network.external:
        kinds.append((_SOCK_DGRAM, _IPPROTO_UDP))
    sockets: list[Conditions] = [
        (_is(0, family), (1, _SOCK_TYPE, kind), _is(2, protocol))
        for family in (_AF_INET, _AF_INET6)
        for kind, of_kind in kinds
        for protocol in (0, of_kind)
    ]
    pairs: list[Conditions] = [
        # A datagram socket of a pair could still send to any other socket of the file system.
        (_is(0, _AF_UNIX), (1, _SOCK_TYPE, kind))
        for kind in (_SOCK_STREAM, _SOCK_SEQPACKET)
    ]
    if network.unix_sockets:
        sockets.append((_is(0, _AF_UNIX),))
        pairs = [(_is(0, _AF_UNIX),)]
    return {"socket": tuple(sockets), "socketpair": tuple(pairs)}
