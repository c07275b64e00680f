"""The link over HTTP, without sockets."""
