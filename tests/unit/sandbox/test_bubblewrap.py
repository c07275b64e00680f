"""A policy as bubblewrap's arguments."""

from __future__ import annotations

from dataclasses import replace

from kagent_sdk.sandbox.bubblewrap import make_arguments
from kagent_sdk.sandbox.policy import Limits, Network, Policy

POLICY = Policy(
    read=("/agent", "/etc/hosts", "/proc"),
    write=("/agent/runtime/cache", "/dev/null", "/dev/shm", "/dev/nvidia0"),  # noqa: S108 - of the kernel's
    execute=("/usr",),
    hidden=("/agent/runtime", "/agent/key.pem", "/agent/gone", "/run/secrets"),
)
FOLDERS = {"/agent", "/agent/runtime", "/agent/runtime/cache", "/run/secrets", "/usr"}


def arguments(policy: Policy = POLICY, shared: tuple[str, ...] = ()) -> list[str]:
    """Return the arguments on a machine whose /bin is a link, and /lib a folder."""
    return make_arguments(
        policy,
        "/agent",
        shared=shared,
        is_folder=lambda path: None if path == "/agent/gone" else path in FOLDERS,
        find_link=lambda path: "usr/bin" if path == "/bin" else None,
    )


def mounts(words: list[str]) -> list[tuple[str, str]]:
    """Return kind and place of each mount, in order."""
    kinds = {"--ro-bind", "--bind", "--dev-bind"}
    found = []
    for number, word in enumerate(words):
        if word in kinds:
            found.append((word, words[number + 2]))
        elif word == "--tmpfs":
            found.append((word, words[number + 1]))
    return found


def test_everything_is_unshared_and_nothing_can_be_shared_again() -> None:
    """A namespace that is left out is a way out."""
    words = arguments()

    assert words[0] == "bwrap"
    assert {"--unshare-all", "--disable-userns", "--die-with-parent", "--new-session"} <= set(words)
    assert words[words.index("--cap-drop") + 1] == "ALL"
    assert "--share-net" not in words
    assert words[-3:] == ["--chdir", "/agent", "--"]


def test_what_is_hidden_is_mounted_over_and_what_is_writable_over_that() -> None:
    """A mount hides what was mounted below its point before: the order is the policy."""
    found = mounts(arguments())

    assert found == [
        ("--tmpfs", "/dev/shm"),  # noqa: S108 - of the kernel's
        ("--ro-bind", "/agent"),
        ("--ro-bind", "/agent/key.pem"),
        ("--tmpfs", "/agent/runtime"),
        ("--bind", "/agent/runtime/cache"),
        ("--dev-bind", "/dev/nvidia0"),
        ("--ro-bind", "/etc/hosts"),
        ("--ro-bind", "/usr"),
    ]


def test_devices_of_the_policy_are_put_into_the_new_dev() -> None:
    """There a GPU is not, unless it is asked for."""
    words = arguments(replace(POLICY, devices=("/dev/nvidia1",)))
    at = words.index("/dev/nvidia1")

    assert words[at - 1 : at + 2] == ["--dev-bind", "/dev/nvidia1", "/dev/nvidia1"]


def test_a_hidden_file_is_an_empty_one_inside() -> None:
    """A file cannot be covered by a folder."""
    words = arguments()

    place = words.index("/agent/key.pem")
    assert words[place - 2 : place + 1] == ["--ro-bind", "/dev/null", "/agent/key.pem"]


def test_the_root_is_read_only_and_memory_files_are_bounded() -> None:
    """The root is in memory too: without an end it would be a place to hide and to fill."""
    words = arguments()

    assert words[words.index("--remount-ro") + 1] == "/"
    assert words[words.index("--size") + 1] == str(256 * 1024 * 1024)
    assert "--size" not in arguments(Policy(limits=Limits(memory_bytes=None)))


def test_links_of_the_system_are_made_again() -> None:
    """Scripts name /bin/sh, and programs their loader by /lib64."""
    words = arguments()

    place = words.index("--symlink")
    assert words[place : place + 3] == ["--symlink", "usr/bin", "/bin"]
    assert words.count("--symlink") == 1


def test_a_network_is_shared_only_where_it_is_to_be_reached() -> None:
    """Without an interface nothing can be sent, whatever a program does."""
    assert "--share-net" in arguments(Policy(network=Network(external=True)))
    assert "--share-net" in arguments(Policy(network=Network(listen=(8000,))))
    assert "--share-net" not in arguments(Policy(network=Network(connect=(3128,))))


def test_what_the_host_shares_is_mounted_after_all_else() -> None:
    """A socket in a hidden folder has to be seen all the same."""
    found = mounts(arguments(shared=("/agent/runtime/notify",)))

    assert found[-1] == ("--bind", "/agent/runtime/notify")
