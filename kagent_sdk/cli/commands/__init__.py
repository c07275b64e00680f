"""One module per command of kos-agent; each has a ``command``, imported when it is asked for."""
