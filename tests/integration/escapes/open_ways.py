"""What stays open, by the threat model: every other attempt must be blocked, and these must not be.

A way that is open here and no longer gets through is a better sandbox than its documentation says: the
test fails, and both are put right.
"""

from __future__ import annotations

PROCESS = frozenset({"process"})
BWRAP = frozenset({"bwrap"})
BOTH = PROCESS | BWRAP

NAMED_OPEN: dict[str, tuple[frozenset[str], str]] = {
    # Landlock has no rule for these: what belongs to the user can be changed in what is no content.
    "stat_file_outside": (PROCESS, "sizes and times of files can be seen"),
    "watch_file_outside": (PROCESS, "inotify tells when a file is used"),
    "change_mode_outside": (PROCESS, "modes of files that the user owns can be changed"),
    "change_times_outside": (PROCESS, "times of files that the user owns can be changed"),
    "shut_agents_configuration": (PROCESS, "a folder that the user owns: keep code root's"),
    # What is in memory is not in the file system. Python runs any code as it is.
    "run_program_in_memory": (BOTH, "a program may be run from memory, with the same rights"),
    "run_program_by_loader": (BOTH, "a loader runs what it can read, with the same rights"),
    "load_library_from_scratch_folder": (BOTH, "a library is loaded from what can be read"),
    "map_shared_memory": (BOTH, "shared memory counts for a control group alone"),
    # Landlock knows ports, and no addresses.
    "reach_same_port_elsewhere": (PROCESS, "the proxy's port number of other machines"),
    # What all processes of the machine share.
    "read_neighbours_shared_memory": (PROCESS, "shared memory of files is the machine's"),
    "read_kernels_addresses": (BOTH, "/proc tells of the kernel what any user may know"),
    "read_mounts_of_init": (BOTH, "/proc tells of mounts; with bwrap of those inside"),
    "read_command_line@neighbour": (PROCESS, "/proc shows command lines of all processes"),
    "read_command_line@host": (PROCESS, "/proc shows command lines of all processes"),
    "read_command_line@sibling": (PROCESS, "/proc shows command lines of all processes"),
    "list_descriptors@neighbour": (PROCESS, "/proc counts descriptors of the user's processes"),
    "list_descriptors@sibling": (PROCESS, "/proc counts descriptors of the user's processes"),
    # The author's own environment.
    "read_environment_of_host": (BOTH, "the worker inherits all variables but the host's own"),
    # In namespaces of one's own, where nobody else is.
    "listen_without_bind": (BWRAP, "in a network of its own"),
    "bind_socket_pair": (BWRAP, "in a network of its own"),
    "make_semaphores": (BWRAP, "in an IPC namespace of its own"),
    "make_message_queue": (BWRAP, "in an IPC namespace of its own"),
}
