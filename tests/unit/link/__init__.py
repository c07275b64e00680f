"""The link, without sockets."""
