"""The audit: what of a policy is in force, seen from outside and tried from inside.

`probing.probe` confines a short-lived process by a policy and lets it try what it should not be able
to do; `process`, `mounts` and `cgroups` judge texts of /proc and of the control groups; `table` makes
one finding for each control of all that was found. Standard library only; nothing here is on the way
of a start.
"""
