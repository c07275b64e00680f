"""From a policy to the arguments of bubblewrap: the same sandbox inside namespaces. Pure.

Inside, `kagent_sdk.sandbox.launch` applies the whole policy once more: what is mounted here is what
may be seen at all. See bwrap(1).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from kagent_sdk.sandbox.paths import is_within
from kagent_sdk.sandbox.policy import Policy

PROGRAM = "bwrap"

OWN = ("/proc", "/dev")
"""File systems that are made anew inside; paths of the policy in them need no mount."""

LINKS = ("/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32")
"""Links into /usr on today's systems, by which programs name their interpreters and loaders."""


def make_arguments(
    policy: Policy,
    directory: str,
    *,
    shared: Iterable[str] = (),
    is_folder: Callable[[str], bool | None],
    find_link: Callable[[str], str | None],
) -> list[str]:
    """Return the words before the program that is to run inside, ``--`` included.

    Descriptors that are inherited pass through; bubblewrap closes its own copies.

    Args:
        policy: what is allowed.
        directory: the working directory.
        shared: what is to be read besides, wherever it is.
        is_folder: tells whether a path is one; None when nothing is there.
        find_link: returns what a path points to when it is a link.
    """
    words = [PROGRAM, "--unshare-all", "--unshare-user", "--disable-userns", "--new-session"]
    if policy.network.external or policy.network.listen:
        words.append("--share-net")
    words += ["--die-with-parent", "--cap-drop", "ALL"]
    words += ["--proc", "/proc", "--dev", "/dev"]
    # Kept in memory, gone with the sandbox, and bounded: by default half of the machine's memory.
    if policy.limits.memory_bytes is not None:
        words += ["--size", str(policy.limits.memory_bytes // 2)]
    words += ["--tmpfs", "/dev/shm"]  # noqa: S108 - a new one
    for link in LINKS:
        target = find_link(link)
        if target is not None:
            words += ["--symlink", target, link]
    words += _mounts(policy, is_folder)
    for path in shared:
        words += ["--bind", path, path]
    words += ["--remount-ro", "/"]
    words += ["--chdir", directory, "--"]
    return words


def _mounts(policy: Policy, is_folder: Callable[[str], bool | None]) -> list[str]:
    """Mount what may be read, over that what may be written, and over both what is hidden.

    Sorted, for a mount hides what was mounted below its point before.
    """
    steps: dict[str, str] = {}
    for path in _outside(OWN, (*policy.read, *policy.execute)):
        steps[path] = "--ro-bind"
    for path in _outside(("/proc", "/dev/null", "/dev/shm"), policy.write):  # noqa: S108 - as above
        steps[path] = "--dev-bind" if path.startswith("/dev/") else "--bind"
    for path in policy.devices:
        steps[path] = "--dev-bind"
    for path in policy.hidden:
        steps[path] = "hide"
    words: list[str] = []
    for path in sorted(steps):
        kind = steps[path]
        if kind != "hide":
            words += [kind, path, path]
        elif not _is_seen(path, steps) or is_folder(path) is None:
            continue  # where it is made later, the launcher's rules keep it from being read
        elif is_folder(path):
            words += ["--perms", "0555", "--tmpfs", path]
        else:
            words += ["--ro-bind", "/dev/null", path]
    return words


def _outside(folders: Iterable[str], paths: Iterable[str]) -> list[str]:
    return [path for path in paths if not any(is_within(path, folder) for folder in folders)]


def _is_seen(path: str, steps: dict[str, str]) -> bool:
    """Tell whether something that is hidden would be seen: it lies in something mounted."""
    return any(kind != "hide" and is_within(path, other) for other, kind in steps.items())
