"""The syscalls of a confined process: from the policy to a filter that the kernel runs.

`rules.rules_for` says what a policy allows, by name; `bpf.compile_filter` makes the kernel's
program of that; `kernel.install` hands it over; `oci.oci_profile` says the same to container
engines.
"""
