"""What leaves the process tree: every line of the workers and of the host, on its way to file and terminal."""
