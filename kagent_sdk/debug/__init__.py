"""See inside a living worker: the commands of ``kos-agent debug``, and the server that takes them."""
